// What a byte of the layout is cut into: the unsigned operands of dot products.
#pragma once

#include "common/dot.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::lowbit_matmul::coding_of;
using sylvester::lowbit_matmul::Format;

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// visit(Constant<0>()), ..., visit(Constant<kCount - 1>())
template <int kCount, int kFirst = 0, class Visit>
SYLVESTER_INLINE void for_constants(const Visit& visit) {
  if constexpr (kFirst < kCount) {
    visit(Constant<kFirst>());
    for_constants<kCount, kFirst + 1>(visit);
  }
}

// A field is read where it stands, times 2^place, or shifted down first: kPlaces fields are read between two shifts.
// Each place has sums of its own, which are shifted once at the end. int16 sums take int8 as two fields of 4 bits, both
// times the same codes of x, the upper one's sums to be multiplied by 16.
template <Format format, int kPlaces>
struct Operands {
  static constexpr int kFields = coding_of(format).fields;
  static constexpr bool kNibbles = format == Format::int8 && kHalfSums;
  static constexpr int kCount = kNibbles ? 2 : kFields;
  static constexpr int kClasses = kNibbles ? 2 : kPlaces;
  static constexpr int kBits = 8 / kCount;  // trits are spread to 2 bits
  static constexpr int kLargest = kNibbles ? 15 : format == Format::ternary ? 2 : coding_of(format).base - 1;
  static_assert(kClasses <= kCount && (kPlaces == 1 || !kNibbles));

  static constexpr int quad_of(int i) { return kNibbles ? 0 : i; }
  static constexpr int class_of(int i) { return i % kClasses; }
  static constexpr int largest(int c) { return kNibbles ? kLargest : kLargest << c * kBits; }

  Bytes v;
  SYLVESTER_INLINE void cut(Bytes byte) { v = byte; }
  template <int i>
  SYLVESTER_INLINE Bytes get(Constant<i>) const {
    constexpr int kPlace = kNibbles ? 0 : class_of(i) * kBits, kShift = i * kBits - kPlace;
    if constexpr (kBits == 8) return v;
    return (kShift == 0 ? v : shift_right<kShift>(v)) & all_bytes(((1 << kBits) - 1) << kPlace);
  }
  // Sums of class c, at their value
  template <int c>
  static SYLVESTER_INLINE Words valued(Constant<c>, Words sums) {
    if constexpr (kNibbles && c == 1) return sums << 4;
    if constexpr (!kNibbles && c > 0) return shift_right<c * kBits>(sums);
    return sums;
  }
};

// Five trits: the last, and the first four or their mirror (trits_to_layout())
#if defined(SYLVESTER_LEVEL_avx512vnni)
struct TritTables {
  alignas(64) uint8_t first[128], last[64];  // u of digits 0 to 3 at 2 bits each, and of digit 4
};
constexpr TritTables trit_tables() {
  TritTables tables{};
  for (int byte = 0; byte < 128; ++byte) {
    const int b = sylvester::lowbit_matmul::trits_of_layout(static_cast<uint8_t>(byte));
    tables.first[byte] = static_cast<uint8_t>(b % 3 | b / 3 % 3 << 2 | b / 9 % 3 << 4 | b / 27 % 3 << 6);
    tables.last[byte % 64] = static_cast<uint8_t>(byte % 64 / 21);
  }
  return tables;
}
constexpr TritTables kTritTables = trit_tables();

template <int kPlaces>
struct Operands<Format::trits, kPlaces> {
  using First = Operands<Format::ternary, kPlaces>;
  static constexpr int kCount = 5, kClasses = kPlaces == 1 ? 1 : kPlaces + 1;  // class 0 is the last digit's
  static constexpr int quad_of(int i) { return i; }
  static constexpr int class_of(int i) { return kPlaces == 1 || i == 4 ? 0 : First::class_of(i) + 1; }
  static constexpr int largest(int c) { return kPlaces == 1 || c == 0 ? 2 : First::largest(c - 1); }

  First first;
  Bytes last;
  SYLVESTER_INLINE void cut(Bytes v) {
    const __mmask64 negative = _mm512_movepi8_mask((__m512i)v);
    __m512i digit = _mm512_permutexvar_epi8((__m512i)v, _mm512_load_si512(kTritTables.last));
    asm("" : "+v"(digit), "+v"(v));  // then the other table's indices are overwritten: copies are not free
    last = (Bytes)digit;
    const __m512i low = _mm512_load_si512(kTritTables.first), high = _mm512_load_si512(kTritTables.first + 64);
    const __m512i u = _mm512_permutex2var_epi8(low, (__m512i)v, high);
    first.cut((Bytes)_mm512_mask_sub_epi8(u, negative, _mm512_set1_epi8(static_cast<char>(0xAA)), u));
  }
  template <int i>
  SYLVESTER_INLINE Bytes get(Constant<i> index) const {
    if constexpr (i == 4) {
      return last;
    } else {
      return first.get(index);
    }
  }
  template <int c>
  static SYLVESTER_INLINE Words valued(Constant<c>, Words sums) {
    return c == 0 ? sums : First::valued(Constant<(c > 0 ? c - 1 : 0)>(), sums);
  }
};
#else
template <int kPlaces>
struct Operands<Format::trits, kPlaces> {
  static constexpr int kCount = 5, kClasses = 1;
  static constexpr int quad_of(int i) { return i; }
  static constexpr int class_of(int) { return 0; }
  static constexpr int largest(int) { return 2; }

  Bytes digit[5];
  // The first four as a fraction of 2^14, t = 203 b with b < 81: 203 · 81 / 2^14 = 1.0036, so that t / 2^14 lies in
  // [b / 81, (b + 1) / 81), whose digits, from the last on, are the whole parts of tripling it.
  SYLVESTER_INLINE void cut(Bytes v) {
    using Signed [[gnu::vector_size(kWidth)]] = int8_t;
    const Bytes low = v & all_bytes(63), one = (Bytes)((Signed)low > 20), two = (Bytes)((Signed)low > 41);
    const Bytes upper = (Bytes)((v & all_bytes(64)) > all_bytes(0)), negative = (Bytes)((Signed)v < 0);
    const Bytes k21 = all_bytes(21), size = low - (one & k21) - (two & k21) + (upper & k21);
    const Bytes b = ((size ^ negative) - negative) + all_bytes(40);
    digit[4] = Bytes{} - one - two;
    Halves even = ((Halves)b & 0xff) * 203, odd = ((Halves)b >> 8) * 203;
    for_constants<4>([&](auto i) SYLVESTER_LAMBDA {
      even += even << 1;
      odd += odd << 1;
      digit[3 - i] = (Bytes)(even >> 14 | odd >> 14 << 8);
      even &= 0x3fff;
      odd &= 0x3fff;
    });
  }
  template <int i>
  SYLVESTER_INLINE Bytes get(Constant<i>) const {
    return digit[i];
  }
  static SYLVESTER_INLINE Words valued(Constant<0>, Words sums) { return sums; }
};
#endif

}  // namespace
