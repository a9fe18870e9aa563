// 16 elements of a row's type to and from the arithmetic vector: bf16 and fp16 round to nearest even, NaN stays NaN.
#pragma once

#include <cstring>

#include "common/half.h"
#include "common/simd.h"

namespace {

using sylvester::bfloat16;
using sylvester::float16;

SYLVESTER_INLINE float to_float(float x) { return x; }
SYLVESTER_INLINE double to_float(double x) { return x; }
SYLVESTER_INLINE float to_float(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
SYLVESTER_INLINE float to_float(float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  float y;
  if (rest >= 0x7c00) {  // infinity and NaN
    const uint32_t bits = sign | 0x7f800000 | (rest & 0x3ff) << 13 | (rest > 0x7c00 ? 0x400000 : 0);
    std::memcpy(&y, &bits, 4);
    return y;
  }
  // As a float the bits stand for 2^-112 of the value, subnormals included.
  const uint32_t bits = rest << 13;
  std::memcpy(&y, &bits, 4);
  y *= 0x1p112f;
  return sign ? -y : y;
}

template <class T>
SYLVESTER_INLINE T from_float(float x);
template <>
SYLVESTER_INLINE bfloat16 from_float(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
SYLVESTER_INLINE float16 from_float(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffff;
  uint32_t half;
  if (bits > 0x7f800000) {
    half = 0x7e00;
  } else if (bits >= 0x477ff000) {  // rounds to 65536 or more
    half = 0x7c00;
  } else if (bits < 0x38800000) {  // subnormal: adding 0.5 leaves the rounded value in the low bits
    float y;
    std::memcpy(&y, &bits, 4);
    y += 0.5f;
    std::memcpy(&half, &y, 4);
    half -= 0x3f000000;
  } else {
    half = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

template <class T>
__attribute__((noinline)) void widen(const T* from, float* to) {
  for (int64_t i = 0; i < kLanes; ++i) to[i] = to_float(from[i]);
}
template <class T>
__attribute__((noinline)) void narrow(const float* from, T* to) {
  for (int64_t i = 0; i < kLanes; ++i) to[i] = from_float<T>(from[i]);
}

template <class V, class T>
SYLVESTER_INLINE V load_as(const T* from) {
  if constexpr (sizeof(T) == sizeof(typename V::Real)) {
    return load<V>(from);
  } else {
    float wide[kLanes];
    widen(from, wide);
    return load<V>(wide);
  }
}

template <class V, class T>
SYLVESTER_INLINE void store_as(T* to, V v) {
  if constexpr (sizeof(T) == sizeof(typename V::Real)) {
    store(to, v);
  } else {
    float wide[kLanes];
    store(wide, v);
    narrow(wide, to);
  }
}

// Two vectors whose NaNs have a zero low half, as those of bf16 inputs and of the arithmetic have: rounding leaves
// these alone. Together a vector takes 3.5 operations, alone 9.
template <class V, class T>
SYLVESTER_INLINE void store_pair_as(T* a_to, V a, T* b_to, V b) {
  store_as(a_to, a);
  store_as(b_to, b);
}

#if defined(SYLVESTER_LEVEL_avx512)

// Word w of half j is w * step + first of vector j.
SYLVESTER_INLINE __m512i word_index(int step, int first) {
  alignas(64) uint16_t index_u16x32[32];
  for (int w = 0; w < 32; ++w) index_u16x32[w] = static_cast<uint16_t>(w / 16 * 32 + w % 16 * step + first);
  return _mm512_load_si512(index_u16x32);
}
template <>
SYLVESTER_INLINE f32x16 load_as(const bfloat16* from) {
  alignas(64) uint16_t index_u16x32[32];
  for (int w = 0; w < 32; ++w) index_u16x32[w] = static_cast<uint16_t>(w / 2);
  const __m512i x_u16x32 = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  const __m512i index = _mm512_load_si512(index_u16x32);
  return {_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, index, x_u16x32))};
}
template <>
SYLVESTER_INLINE f32x16 load_as(const float16* from) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
}
template <>
SYLVESTER_INLINE void store_as(bfloat16* to, f32x16 v) {
  const __m512i x_u32x16 = _mm512_castps_si512(v.x);
  const __m512i odd_u32x16 = _mm512_and_si512(_mm512_srli_epi32(x_u32x16, 16), _mm512_set1_epi32(1));
  const __m512i half_u32x16 = _mm512_add_epi32(odd_u32x16, _mm512_set1_epi32(0x7fff));
  __m512i rounded_u32x16 = _mm512_srli_epi32(_mm512_add_epi32(x_u32x16, half_u32x16), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v.x, v.x, _CMP_UNORD_Q);
  rounded_u32x16 = _mm512_mask_mov_epi32(rounded_u32x16, nan, _mm512_set1_epi32(0x7fc0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(rounded_u32x16));
}
// Rounded to bf16: 32 numbers by their high and low words. A NaN's low word must be 0.
SYLVESTER_INLINE __m512i round_words(__m512i high, __m512i low) {
  // Up when low > 0x8000, or low == 0x8000 and high is odd
  const __m512i one_if_even = _mm512_andnot_si512(high, _mm512_set1_epi16(1));
  const __m512i up = _mm512_srli_epi16(_mm512_subs_epu16(low, one_if_even), 15);
  return _mm512_add_epi16(high, up);
}
template <>
SYLVESTER_INLINE void store_pair_as(bfloat16* a_to, f32x16 a, bfloat16* b_to, f32x16 b) {
  const __m512i a_u16x32 = _mm512_castps_si512(a.x), b_u16x32 = _mm512_castps_si512(b.x);
  const __m512i high = _mm512_permutex2var_epi16(a_u16x32, word_index(2, 1), b_u16x32);
  const __m512i low = _mm512_permutex2var_epi16(a_u16x32, word_index(2, 0), b_u16x32);
  const __m512i rounded_u16x32 = round_words(high, low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(a_to), _mm512_castsi512_si256(rounded_u16x32));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(b_to), _mm512_extracti64x4_epi64(rounded_u16x32, 1));
}
template <>
SYLVESTER_INLINE void store_as(float16* to, f32x16 v) {
  const __m256i half_u16x16 = _mm512_cvtps_ph(v.x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half_u16x16);
}

#elif defined(SYLVESTER_LEVEL_avx2)

SYLVESTER_INLINE __m256 widen_bf16x8(const bfloat16* from) {
  const __m128i half_u16x8 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half_u16x8), 16));
}
template <bool kNan>
SYLVESTER_INLINE __m256i round_bf16x8(__m256 x) {
  const __m256i x_u32x8 = _mm256_castps_si256(x);
  const __m256i odd_u32x8 = _mm256_and_si256(_mm256_srli_epi32(x_u32x8, 16), _mm256_set1_epi32(1));
  const __m256i half_u32x8 = _mm256_add_epi32(odd_u32x8, _mm256_set1_epi32(0x7fff));
  const __m256i rounded_u32x8 = _mm256_srli_epi32(_mm256_add_epi32(x_u32x8, half_u32x8), 16);
  if constexpr (!kNan) return rounded_u32x8;
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded_u32x8, _mm256_set1_epi32(0x7fc0), nan);
}
template <>
SYLVESTER_INLINE f32x16 load_as(const bfloat16* from) {
  return {widen_bf16x8(from), widen_bf16x8(from + 8)};
}
template <>
SYLVESTER_INLINE f32x16 load_as(const float16* from) {
  const __m128i* half_u16x8 = reinterpret_cast<const __m128i*>(from);
  return {_mm256_cvtph_ps(_mm_loadu_si128(half_u16x8)), _mm256_cvtph_ps(_mm_loadu_si128(half_u16x8 + 1))};
}
template <bool kNan>
SYLVESTER_INLINE void store_bf16(bfloat16* to, f32x16 v) {
  // packus works inside 128-bit lanes; the permutation puts the four quarters back in order
  const __m256i packed_u16x16 = _mm256_packus_epi32(round_bf16x8<kNan>(v.lo), round_bf16x8<kNan>(v.hi));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permute4x64_epi64(packed_u16x16, 0xD8));
}
template <>
SYLVESTER_INLINE void store_as(bfloat16* to, f32x16 v) {
  store_bf16<true>(to, v);
}
template <>
SYLVESTER_INLINE void store_pair_as(bfloat16* a_to, f32x16 a, bfloat16* b_to, f32x16 b) {
  store_bf16<false>(a_to, a);
  store_bf16<false>(b_to, b);
}
template <>
SYLVESTER_INLINE void store_as(float16* to, f32x16 v) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  __m128i* half_u16x8 = reinterpret_cast<__m128i*>(to);
  _mm_storeu_si128(half_u16x8, _mm256_cvtps_ph(v.lo, kNearest));
  _mm_storeu_si128(half_u16x8 + 1, _mm256_cvtps_ph(v.hi, kNearest));
}

#endif

// run.operator()<V, T>() with the vector and the element type of rows of dtype
template <class Run>
SYLVESTER_INLINE void with_dtype(sylvester::Dtype dtype, const Run& run) {
  switch (dtype) {
    case sylvester::Dtype::float32: return run.template operator()<Vector, float>();
    case sylvester::Dtype::bfloat16: return run.template operator()<Vector, bfloat16>();
    case sylvester::Dtype::float16: return run.template operator()<Vector, float16>();
    case sylvester::Dtype::float64:
#if defined(SYLVESTER_LEVEL_scalar)
      return run.template operator()<lanes16<double>, double>();
#else
      return;  // the caller sends float64 to the scalar level
#endif
  }
}

}  // namespace
