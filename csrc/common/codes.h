// The vector steps of row quantisation (quantize.h): the largest magnitude, 64 codes at a time, and their sum.
#pragma once

#include <cstring>

#include "common/simd.h"

namespace {

constexpr int64_t kCodes = 64;  // at once

// The largest |x| so far. As integers the bits of magnitudes are in order, and a NaN is above them all.
template <class V>
struct Largest;
// kCodes codes
template <class V>
struct Codes;

template <class R>
struct Largest<lanes16<R>> {
  using Word = std::conditional_t<sizeof(R) == 4, int32_t, int64_t>;
  using Bits [[gnu::vector_size(4 * sizeof(R))]] = Word;
  Bits quad[4] = {};
  SYLVESTER_INLINE void take(lanes16<R> x) {
    constexpr Word kMagnitude = static_cast<Word>(~(std::make_unsigned_t<Word>{1} << (8 * sizeof(R) - 1)));
    for (int q = 0; q < 4; ++q) {
      const Bits bits = (Bits)x.quad[q] & kMagnitude;
      quad[q] = bits > quad[q] ? bits : quad[q];
    }
  }
  SYLVESTER_INLINE void take(const Largest& other) {
    for (int q = 0; q < 4; ++q) quad[q] = other.quad[q] > quad[q] ? other.quad[q] : quad[q];
  }
  SYLVESTER_INLINE R value() const {
    Word most = 0;
    for (int i = 0; i < static_cast<int>(kLanes); ++i) most = quad[i / 4][i % 4] > most ? quad[i / 4][i % 4] : most;
    R x;
    std::memcpy(&x, &most, sizeof x);
    return x;
  }
};

template <class R>
struct Codes<lanes16<R>> {
  int8_t code[kCodes];
};
// Adding 1.5 · 2^(mantissa bits) rounds half to even and leaves the integer in the lowest bits.
template <class R>
SYLVESTER_INLINE Codes<lanes16<R>> codes_of(const lanes16<R> (&x)[4], R inverse) {
  using Word = std::conditional_t<sizeof(R) == 4, uint32_t, uint64_t>;
  constexpr R kShift = sizeof(R) == 4 ? R{0x1.8p23} : static_cast<R>(0x1.8p52);
  Codes<lanes16<R>> codes;
  for (int i = 0; i < static_cast<int>(kCodes); ++i) {
    const R shifted = x[i / kLanes].quad[i % kLanes / 4][i % 4] * inverse + kShift;
    Word bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    codes.code[i] = static_cast<int8_t>(bits & 0xff);
  }
  return codes;
}
template <class R>
SYLVESTER_INLINE void store(int8_t* to, const Codes<lanes16<R>>& codes) {
  std::memcpy(to, codes.code, kCodes);
}
template <class R>
SYLVESTER_INLINE void store_nibbles(uint8_t* to, const Codes<lanes16<R>>& codes) {
  for (int i = 0; i < static_cast<int>(kCodes); i += 2) {
    to[i / 2] = static_cast<uint8_t>(codes.code[i] + 8 + 16 * (codes.code[i + 1] + 8));
  }
}

// The sum of codes in bytes; count is a multiple of kCodes
template <class V>
SYLVESTER_INLINE int32_t sum_of_codes(const int8_t* codes, int64_t count) {
  int32_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += codes[i];
  return sum;
}

#if defined(SYLVESTER_LEVEL_avx512)

template <>
struct Largest<f32x16> {
  __m512i bits_u32x16 = _mm512_setzero_si512();
  SYLVESTER_INLINE void take(f32x16 v) {
    const __m512i magnitude_u32x16 = _mm512_and_si512(_mm512_castps_si512(v.x), _mm512_set1_epi32(0x7fffffff));
    bits_u32x16 = _mm512_max_epu32(bits_u32x16, magnitude_u32x16);
  }
  SYLVESTER_INLINE void take(Largest other) { bits_u32x16 = _mm512_max_epu32(bits_u32x16, other.bits_u32x16); }
  SYLVESTER_INLINE float value() const {
    const uint32_t bits = _mm512_reduce_max_epu32(bits_u32x16);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  }
};

template <>
struct Codes<f32x16> {
  __m512i code_i8x64;
};
SYLVESTER_INLINE Codes<f32x16> codes_of(const f32x16 (&x)[4], float inverse) {
  __m512i whole_i32x16[4];
  for (int r = 0; r < 4; ++r) whole_i32x16[r] = _mm512_cvtps_epi32(_mm512_mul_ps(x[r].x, _mm512_set1_ps(inverse)));
  const __m512i ab_i16x32 = _mm512_packs_epi32(whole_i32x16[0], whole_i32x16[1]);
  const __m512i cd_i16x32 = _mm512_packs_epi32(whole_i32x16[2], whole_i32x16[3]);
  // Packing works inside quarters: quarter q holds quads q of the four vectors.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return {_mm512_permutexvar_epi32(order, _mm512_packs_epi16(ab_i16x32, cd_i16x32))};
}
SYLVESTER_INLINE void store(int8_t* to, Codes<f32x16> codes) { _mm512_storeu_si512(to, codes.code_i8x64); }
SYLVESTER_INLINE void store_nibbles(uint8_t* to, Codes<f32x16> codes) {
  const __m512i pair_i16x32 = _mm512_maddubs_epi16(_mm512_set1_epi16(0x1001), codes.code_i8x64);
  const __m512i both_u16x32 = _mm512_add_epi16(pair_i16x32, _mm512_set1_epi16(0x88));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi16_epi8(both_u16x32));
}
// vpsadbw adds unsigned bytes: the codes + 128.
template <>
SYLVESTER_INLINE int32_t sum_of_codes<f32x16>(const int8_t* codes, int64_t count) {
  __m512i sum_i64x8 = _mm512_setzero_si512();
  for (int64_t i = 0; i < count; i += kCodes) {
    const __m512i code_u8x64 = _mm512_xor_si512(_mm512_loadu_si512(codes + i), _mm512_set1_epi8(-128));
    sum_i64x8 = _mm512_add_epi64(sum_i64x8, _mm512_sad_epu8(code_u8x64, _mm512_setzero_si512()));
  }
  return static_cast<int32_t>(_mm512_reduce_add_epi64(sum_i64x8) - 128 * count);
}

#elif defined(SYLVESTER_LEVEL_avx2)

template <>
struct Largest<f32x16> {
  __m256i lo_u32x8 = _mm256_setzero_si256(), hi_u32x8 = _mm256_setzero_si256();
  SYLVESTER_INLINE void take(f32x16 v) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    lo_u32x8 = _mm256_max_epu32(lo_u32x8, _mm256_and_si256(_mm256_castps_si256(v.lo), magnitude));
    hi_u32x8 = _mm256_max_epu32(hi_u32x8, _mm256_and_si256(_mm256_castps_si256(v.hi), magnitude));
  }
  SYLVESTER_INLINE void take(Largest other) {
    lo_u32x8 = _mm256_max_epu32(lo_u32x8, other.lo_u32x8);
    hi_u32x8 = _mm256_max_epu32(hi_u32x8, other.hi_u32x8);
  }
  SYLVESTER_INLINE float value() const {
    const __m256i both_u32x8 = _mm256_max_epu32(lo_u32x8, hi_u32x8);
    __m128i most_u32x4 = _mm_max_epu32(_mm256_castsi256_si128(both_u32x8), _mm256_extracti128_si256(both_u32x8, 1));
    most_u32x4 = _mm_max_epu32(most_u32x4, _mm_shuffle_epi32(most_u32x4, 0x4E));
    most_u32x4 = _mm_max_epu32(most_u32x4, _mm_shuffle_epi32(most_u32x4, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(most_u32x4));
  }
};

template <>
struct Codes<f32x16> {
  __m256i code_i8x32[2];
};
SYLVESTER_INLINE __m256i whole_i16x16(f32x16 v, __m256 inverse) {
  return _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(v.lo, inverse)),
                            _mm256_cvtps_epi32(_mm256_mul_ps(v.hi, inverse)));
}
SYLVESTER_INLINE Codes<f32x16> codes_of(const f32x16 (&x)[4], float inverse) {
  const __m256 inverse_f32x8 = _mm256_set1_ps(inverse);
  // Packing works inside halves: half h holds quads h of the four registers.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  Codes<f32x16> codes;
  for (int r = 0; r < 2; ++r) {
    const __m256i both =
        _mm256_packs_epi16(whole_i16x16(x[2 * r], inverse_f32x8), whole_i16x16(x[2 * r + 1], inverse_f32x8));
    codes.code_i8x32[r] = _mm256_permutevar8x32_epi32(both, order);
  }
  return codes;
}
SYLVESTER_INLINE void store(int8_t* to, const Codes<f32x16>& codes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), codes.code_i8x32[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), codes.code_i8x32[1]);
}
SYLVESTER_INLINE void store_nibbles(uint8_t* to, const Codes<f32x16>& codes) {
  __m256i both_u16x16[2];
  for (int r = 0; r < 2; ++r) {
    const __m256i pair_i16x16 = _mm256_maddubs_epi16(_mm256_set1_epi16(0x1001), codes.code_i8x32[r]);
    both_u16x16[r] = _mm256_add_epi16(pair_i16x16, _mm256_set1_epi16(0x88));
  }
  const __m256i packed_u8x32 = _mm256_packus_epi16(both_u16x16[0], both_u16x16[1]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed_u8x32, 0xD8));
}
// vpsadbw adds unsigned bytes: the codes + 128.
template <>
SYLVESTER_INLINE int32_t sum_of_codes<f32x16>(const int8_t* codes, int64_t count) {
  __m256i sum_i64x4 = _mm256_setzero_si256();
  for (int64_t i = 0; i < count; i += 32) {
    const __m256i stored_i8x32 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
    const __m256i code_u8x32 = _mm256_xor_si256(stored_i8x32, _mm256_set1_epi8(-128));
    sum_i64x4 = _mm256_add_epi64(sum_i64x4, _mm256_sad_epu8(code_u8x32, _mm256_setzero_si256()));
  }
  int64_t part[4];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(part), sum_i64x4);
  return static_cast<int32_t>(part[0] + part[1] + part[2] + part[3] - 128 * count);
}

#endif

}  // namespace
