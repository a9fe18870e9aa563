// The factor of blocks of m·2^k, H = H_m ⊗ S: H_m across the m parts of a block, 16 columns at a time, before the
// butterflies inside the parts (hadamard.h, hadamard_stream.h with blocks of 2^k).
//
// Columns go through a buffer in the first-level cache, which the sums are taken from: up to 2·256 vectors. Orders that
// models have are unrolled at the vector levels, with 16 sums at once in registers: what binds is the add and multiply
// pipes, m/8 + 5 additions an element. Other orders, and the scalar level, read lists (hadamard_factor.h): one load an
// addition. Either way a sum takes its inputs in ascending order, so levels agree bit for bit.
#pragma once

#include "common/hadamard.h"
#include "common/hadamard_factor.h"

namespace {

using sylvester::FactorSums;
using sylvester::kGroupRows;
using sylvester::kSums;

// f.operator()<From>() .. f.operator()<To - 1>()
template <int From, int To, class F>
SYLVESTER_INLINE void unrolled(const F& f) {
  if constexpr (To - From == 1) {
    f.template operator()<From>();
  } else if constexpr (From < To) {
    constexpr int kMiddle = (From + To) / 2;
    unrolled<From, kMiddle>(f);
    unrolled<kMiddle, To>(f);
  }
}

// Four rows of their sums (place_of), or two, which have no other sums than 0 and 4; half of it on the multiply pipes
template <int Rows, class V>
SYLVESTER_INLINE void rows_of_sums(const V (&s)[kSums], V (&y)[kGroupRows]) {
  if constexpr (Rows == 2) {
    y[0] = add(s[0], s[4]);
    y[1] = sub_fused(s[0], s[4]);
    return;
  }
  const V same = add_fused(add(s[0], s[1]), add(s[2], s[3])), other = add_fused(add(s[4], s[5]), add(s[6], s[7]));
  const V agree = add(sub_fused(s[0], s[1]), sub_fused(s[4], s[5]));
  const V differ = add(sub_fused(s[2], s[3]), sub_fused(s[6], s[7]));
  y[0] = add(same, other);
  y[1] = sub_fused(same, other);
  y[2] = add(agree, differ);
  y[3] = sub_fused(agree, differ);
}

template <class V>
SYLVESTER_INLINE V negated(V v) {
  return flip(v, broadcast<V>(-typename V::Real{0}));
}

// put(row, sum) of a ±1 matrix with the vectors and, `order` vectors on, the negated vectors of buffer
template <class V, class Put>
void listed_rows(const FactorSums& f, const typename V::Real* buffer, const Put& put) {
  const uint16_t *count = f.counts, *term = f.terms;
  for (int i = 0; i < f.order; i += kGroupRows) {
    V s[kSums], y[kGroupRows];
    for (int n = 0; n < kSums; ++n) {
      V sum = zero<V>();
      if (*count != 0) sum = load<V>(buffer + *term * kLanes);
      for (int t = 1; t < *count; ++t) sum = add(sum, load<V>(buffer + term[t] * kLanes));
      term += *count++;
      s[n] = sum;
    }
    const int rows = f.order - i < kGroupRows ? 2 : kGroupRows;  // an order is even
    rows == 2 ? rows_of_sums<2>(s, y) : rows_of_sums<kGroupRows>(s, y);
    for (int r = 0; r < rows; ++r) put(i + r, y[r]);
  }
}

// A column of 16 lanes whose m elements are stride apart; in may be out
template <class V>
void listed_column(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t stride) {
  using Real = typename V::Real;
  const int64_t half = f.order * kLanes;
  alignas(64) Real buffer[2 * sylvester::kLargestFactor * kLanes];
  if (f.order == f.m) {
    for (int k = 0; k < f.m; ++k) {
      const V x = load<V>(in + k * stride);
      store(buffer + k * kLanes, x);
      store(buffer + half + k * kLanes, negated(x));
    }
    return listed_rows<V>(f, buffer, [&](int k, V y) { store(out + k * stride, y); });
  }
  Real *u = buffer, *v = buffer + 2 * half;
  for (int k = 0; k < f.order; ++k) {
    const V a = load<V>(in + k * stride), b = load<V>(in + (k + f.order) * stride);
    const V both = add(a, b), between = sub(a, b);
    store(u + k * kLanes, both);
    store(u + half + k * kLanes, negated(both));
    store(v + k * kLanes, between);
    store(v + half + k * kLanes, negated(between));
  }
  const auto part = [&](Real* to, const Real* signed_v) {
    return [=](int k, V y) {
      store(to + k * stride, add(y, sub(load<V>(signed_v + k * kLanes), load<V>(u + k * kLanes))));
    };
  };
  listed_rows<V>(f, u, part(out, v));
  listed_rows<V>(f, v, part(out + f.order * stride, v + half));
}

// Places of C + I of a given order, and for each sum the first input that goes into it (−1: none)
template <int Order>
struct Places {
  static constexpr int kGroups = (Order + kGroupRows - 1) / kGroupRows;
  uint8_t of[kGroups][Order] = {};
  int16_t first[kGroups][kSums] = {};
  constexpr Places() {
    const sylvester::Character character(Order - 1);
    int8_t matrix[Order][Order] = {};
    for (int i = 0; i < Order; ++i) {
      for (int j = 0; j < Order; ++j) {
        matrix[i][j] = i == j ? int8_t{1} : static_cast<int8_t>(sylvester::conference(character, i, j));
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      for (int16_t& first_of_sum : first[g]) first_of_sum = -1;
      for (int j = Order; j-- > 0;) {
        const auto sign = [&](int row, int column) { return matrix[row][column]; };
        of[g][j] = static_cast<uint8_t>(sylvester::place_of(sign, Order, g * kGroupRows, j));
        first[g][of[g][j] / 2] = static_cast<int16_t>(j);
      }
    }
  }
};
template <int Order>
constexpr Places<Order> kPlaces;

// Groups Group, Group + 1, ... of rows of (C + I) w, w<j>() its vectors; every second addition goes to the multiply
// pipes. Kept in registers: the compiler would put a sum off until it is used, and keep all its terms until then.
template <class V, int Order, int Group, int Count, class Vectors>
SYLVESTER_INLINE void group_sums(const Vectors& w, V (&s)[Count][kSums]) {
  constexpr const Places<Order>& kOf = kPlaces<Order>;
#pragma GCC unroll 32
  for (int n = 0; n < Count * kSums; ++n) {
    if (kOf.first[Group + n / kSums][n % kSums] < 0) s[n / kSums][n % kSums] = zero<V>();
  }
  unrolled<0, Order>([&]<int j>() SYLVESTER_LAMBDA {
    const V x = w.template operator()<j>();
    unrolled<0, Count>([&]<int g>() SYLVESTER_LAMBDA {
      constexpr int kPlace = kOf.of[Group + g][j];
      constexpr bool kMinus = kPlace % 2 != 0;
      V& sum = s[g][kPlace / 2];
      if constexpr (kOf.first[Group + g][kPlace / 2] == j) {
        sum = kMinus ? negated(x) : x;
      } else if constexpr ((g + j) % 2 != 0) {
        sum = in_register(kMinus ? sub_fused(sum, x) : add_fused(sum, x));
      } else {
        sum = in_register(kMinus ? sub(sum, x) : add(sum, x));
      }
    });
  });
}

// put(k, row k of (C + I) w); Abreast groups share the loads of w
template <class V, int Order, int Abreast, class Vectors, class Put>
SYLVESTER_INLINE void fixed_rows(const Vectors& w, const Put& put) {
  constexpr int kGroups = Places<Order>::kGroups;
  unrolled<0, (kGroups + Abreast - 1) / Abreast>([&]<int n>() SYLVESTER_LAMBDA {
    constexpr int kGroup = n * Abreast, kCount = kGroup + Abreast <= kGroups ? Abreast : kGroups - kGroup;
    V s[kCount][kSums];
    group_sums<V, Order, kGroup>(w, s);
    unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA {
      constexpr int kRow = (kGroup + g) * kGroupRows, kRows = Order - kRow < kGroupRows ? 2 : kGroupRows;
      V y[kGroupRows];
      rows_of_sums<kRows>(s[g], y);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) put(kRow + r, y[r]);
    });
  });
}

// to = (C + I) w + sign·v − u, rows stride apart
template <class V, int Order>
__attribute__((noinline)) void buffered_rows(const typename V::Real* w, const typename V::Real* u,
                                             const typename V::Real* v, typename V::Real sign, typename V::Real* to,
                                             int64_t stride) {
  constexpr int kAbreast = V::kRegisters >= 16 ? 3 : 1;
  const V sign_of_v = broadcast<V>(sign);
  fixed_rows<V, Order, kAbreast>(
      [&]<int j>() SYLVESTER_LAMBDA {
        const V x = load<V>(w + j * kLanes);
        return kAbreast == 1 ? x : in_register(x);
      },
      [&](int k, V y) SYLVESTER_LAMBDA {
        store(to + k * stride, add(y, fms(load<V>(v + k * kLanes), sign_of_v, load<V>(u + k * kLanes))));
      });
}

template <class V, int Order>
void fixed_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  using Real = typename V::Real;
  const auto both = [&](int k, const auto& put) SYLVESTER_LAMBDA {
    const V a = load<V>(in + k * stride), b = load<V>(in + (k + Order) * stride);
    put(k, add(a, b), sub_fused(a, b));
  };
  if constexpr (V::kRegisters >= 16 && 2 * Order + kSums <= 32) {
    V u[Order], v[Order];
#pragma GCC unroll 16
    for (int k = 0; k < Order; ++k) {
      both(k, [&](int at, V sum, V difference) SYLVESTER_LAMBDA { u[at] = sum, v[at] = difference; });
    }
    const V minus = broadcast<V>(-1);
    fixed_rows<V, Order, 1>([&]<int j>() SYLVESTER_LAMBDA { return u[j]; },
                            [&](int k, V y) SYLVESTER_LAMBDA { store(out + k * stride, add(y, sub(v[k], u[k]))); });
    fixed_rows<V, Order, 1>(
        [&]<int j>() SYLVESTER_LAMBDA { return v[j]; },
        [&](int k, V y) SYLVESTER_LAMBDA { store(out + (k + Order) * stride, add(y, fms(v[k], minus, u[k]))); });
  } else {
    alignas(64) Real u[Order * kLanes], v[Order * kLanes];
    for (int k = 0; k < Order; ++k) {
      both(k, [&](int at, V sum, V difference) SYLVESTER_LAMBDA {
        store(u + at * kLanes, sum);
        store(v + at * kLanes, difference);
      });
    }
    buffered_rows<V, Order>(u, u, v, 1, out, stride);
    buffered_rows<V, Order>(v, u, v, -1, out + Order * stride, stride);
  }
}

// Columns [0, width) of H_m across m parts that are stride apart; width is a multiple of 16
template <class V>
void across(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t stride, int64_t width) {
  using Real = typename V::Real;
  const auto columns = [&](auto column) {
    for (int64_t c = 0; c < width; c += kLanes) column(in + c, out + c);
  };
  if constexpr (kVectorUnits<V>) {
    switch (f.m) {
#define SYLVESTER_FIXED(m) \
  case m: return columns([&](const Real* from, Real* to) { fixed_column<V, m / 2>(from, to, stride); });
      SYLVESTER_FIXED(12)
      SYLVESTER_FIXED(20)
      SYLVESTER_FIXED(28)
      SYLVESTER_FIXED(36)
      SYLVESTER_FIXED(52)
      SYLVESTER_FIXED(60)
      SYLVESTER_FIXED(108)
      SYLVESTER_FIXED(148)
#undef SYLVESTER_FIXED
      default: break;
    }
  }
  columns([&](const Real* from, Real* to) { listed_column<V>(f, from, to, stride); });
}

// Blocks of m·part elements with part < 16, as many side by side as fill 16 columns
template <class V>
void across_small_parts(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t blocks,
                        int64_t part) {
  using Real = typename V::Real;
  alignas(64) Real table[sylvester::kLargestFactor * kLanes] = {};
  const int64_t abreast = kLanes / part, block = f.m * part;
  const auto place = [&](int64_t i) { return i % block / part * kLanes + i / block * part + i % part; };
  for (int64_t b = 0; b < blocks; b += abreast) {
    const int64_t count = (b + abreast <= blocks ? abreast : blocks - b) * block;
    for (int64_t i = 0; i < count; ++i) table[place(i)] = in[b * block + i];
    across<V>(f, table, table, kLanes, kLanes);
    for (int64_t i = 0; i < count; ++i) out[b * block + i] = table[place(i)];
  }
}

// The factor's share of the blocks in [in, in + width); in may be out. What is left is I ⊗ S on blocks of block / m.
template <class V>
void across_blocks(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t width,
                   int64_t block) {
  const int64_t part = block / f.m;
  if (part < kLanes) return across_small_parts<V>(f, in, out, width / block, part);
  for (int64_t i = 0; i < width; i += block) across<V>(f, in + i, out + i, part, part);
}

}  // namespace
