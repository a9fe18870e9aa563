// Hadamard matrices whose order m is no power of two, from their constructions; usable at compile time.
//
//   Paley I      m = q + 1,      q ≡ 3 mod 4 a prime power:  H = C + I,  C skew
//   cubic        m = 344:        the same for q = 7³, the field GF(7)[t] / (t³ − 2); hadamard_cubic.h says why
//   Paley II     m = 2 (q + 1),  q ≡ 1 mod 4 a prime power:  H = [[C − I, C + I], [C + I, −C + I]],  C symmetric
//   Williamson   m = 4 n:        H = [[A, B, C, D], [−B, A, −D, C], [−C, D, A, −B], [−D, −C, B, A]] of symmetric
//                                circulants with A² + B² + C² + D² = 4n·I
//
// C is the quadratic character χ(i − j) of GF(q) with a border of ones: C Cᵀ = q·I. (Paley 1933; Williamson 1944, with
// rows for n = 23 after Baumert, Golomb and Hall 1962; any rows that fulfil the identity do.)
#pragma once

#include <cstdint>

namespace sylvester {

// Of an order that is found by trial, and of any
constexpr int kLargestFound = 256, kCubicOrder = 344, kLargestFactor = kCubicOrder;

// q = prime^degree with an odd prime; prime is 0 for other numbers
struct PrimePower {
  int prime = 0, degree = 0;
};
constexpr PrimePower prime_power(int q) {
  for (int p = 3; p <= q; p += 2) {
    if (q % p != 0) continue;
    int degree = 0;
    for (; q % p == 0; q /= p) ++degree;
    if (q == 1) return {p, degree};
    break;
  }
  return {};
}

// The quadratic character of GF(q). An element is a polynomial over GF(p), written as a number of `degree` digits.
class Character {
 public:
  constexpr explicit Character(int q) : q_(q), p_(prime_power(q).prime) {
    // The powers of x run through all q − 1 units when x generates them; every second one is a square.
    for (int code = 1; code < q; ++code) {
      int element = 1, power = 0;
      do {
        of_[element] = power++ % 2 == 0 ? 1 : -1;
        element = times_x(element, code);
      } while (element > 1 && power < q);
      if (element == 1 && power == q - 1) return;
    }
  }
  constexpr int q() const { return q_; }
  // χ(a − b)
  constexpr int between(int a, int b) const { return of_[a == b ? 0 : plus(a, b, p_ - 1)]; }
  constexpr int negative(int a) const { return plus(0, a, p_ - 1); }

 private:
  // a + factor·b, digit by digit
  constexpr int plus(int a, int b, int factor) const {
    int sum = 0;
    for (int place = 1; place < q_; place *= p_) sum += (a / place + factor * (b / place % p_)) % p_ * place;
    return sum;
  }
  // x·element where x^degree = code
  constexpr int times_x(int element, int code) const {
    const int top = q_ / p_;
    return plus(element % top * p_, code, element / top);
  }
  int q_, p_;
  int8_t of_[kLargestFound] = {};
};

// The quadratic character of GF(7)[t] / (t³ − 2): that of the norm, for the norm of a square is a square
class CubicCharacter {
 public:
  constexpr int q() const { return 343; }
  constexpr int between(int a, int b) const {
    const int x = digit(a, b, 1), y = digit(a, b, 7), z = digit(a, b, 49);
    const int norm = (x * x * x + 2 * y * y * y + 4 * z * z * z + x * y * z) % 7;
    return norm == 0 ? 0 : norm == 1 || norm == 2 || norm == 4 ? 1 : -1;
  }

 private:
  static constexpr int digit(int a, int b, int place) { return (a / place % 7 + 7 - b / place % 7) % 7; }
};

// C of order q + 1
template <class C>
constexpr int conference(const C& character, int i, int j) {
  if (i == j) return 0;
  if (i == 0) return 1;
  if (j == 0) return character.q() % 4 == 1 ? 1 : -1;
  return character.between(i - 1, j - 1);
}

// Bit j − 1 of rows[r]: whether elements j and n − j of the first row of circulant r are −1
struct Williamson {
  int n;
  uint32_t rows[4];
};
constexpr Williamson kWilliamson[] = {{23, {0xae, 0x434, 0x589, 0x6ec}}, {43, {0x4686b, 0x1650fd, 0x1e450c, 0x138265}}};

constexpr const Williamson* williamson(int m) {
  for (const Williamson& w : kWilliamson) {
    if (4 * w.n == m) return &w;
  }
  return nullptr;
}
constexpr int williamson(const Williamson& w, int i, int j) {
  const int part = (i / w.n) ^ (j / w.n), lag = (j % w.n - i % w.n + w.n) % w.n,
            near = lag < w.n - lag ? lag : w.n - lag;
  const bool minus = near != 0 && (w.rows[part] >> (near - 1) & 1) != 0;
  // Row i / n of the array has these columns negated
  constexpr int kNegated[] = {0b0000, 0b0101, 0b1001, 0b0011};
  return minus != ((kNegated[i / w.n] >> (j / w.n) & 1) != 0) ? -1 : 1;
}

enum class Construction { none, paley_one, paley_two, williamson, cubic };

// Of order m, a multiple of 4. Paley II first: symmetric, and half the work.
constexpr Construction construction(int m) {
  if (m == kCubicOrder) return Construction::cubic;
  if (m < 12 || m > kLargestFound || m % 4 != 0) return Construction::none;
  if (m % 8 == 4 && prime_power(m / 2 - 1).prime != 0) return Construction::paley_two;
  if (prime_power(m - 1).prime != 0) return Construction::paley_one;
  return williamson(m) != nullptr ? Construction::williamson : Construction::none;
}

// Entry (i, j) of Paley's matrices
template <class C>
constexpr int paley(const C& character, bool second, int i, int j) {
  const int order = character.q() + 1, c = conference(character, i % order, j % order);
  const bool right = j >= order, lower = i >= order, one = i % order == j % order;
  return (right && lower ? -c : c) + (one ? (!second || right || lower ? 1 : -1) : 0);
}

// Row after row into m·m entries; m has a construction
constexpr void hadamard_matrix(int m, int8_t* to) {
  const Construction kind = construction(m);
  const bool second = kind == Construction::paley_two;
  const Character character(second ? m / 2 - 1 : kind == Construction::paley_one ? m - 1 : 3);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < m; ++j, ++to) {
      const int entry = kind == Construction::williamson ? williamson(*williamson(m), i, j)
                        : kind == Construction::cubic    ? paley(CubicCharacter(), false, i, j)
                                                         : paley(character, second, i, j);
      *to = static_cast<int8_t>(entry);
    }
  }
}

// The m with a construction for which block / m is a power of two: the smallest, but 344 where both it and 172 do; 1
// for a power of two, 0 where none is
constexpr int hadamard_factor(int64_t block) {
  if (block < 1) return 0;
  if ((block & (block - 1)) == 0) return 1;
  int64_t odd = block;
  while (odd % 2 == 0) odd /= 2;
  if (kCubicOrder % odd == 0 && block % kCubicOrder == 0) return kCubicOrder;
  for (int64_t m = 4 * odd; m <= kLargestFound && block % m == 0; m *= 2) {
    if (construction(static_cast<int>(m)) != Construction::none) return static_cast<int>(m);
  }
  return 0;
}

}  // namespace sylvester
