// 32 elements of a bf16 row as the 16 at even places and the 16 at odd ones: a half of a word pair is a float but for
// one shift or mask, where widening in order moves every word. Vector levels only.
//
// Count, a register of floats: 1 operation in, 3 out (AVX2: 4, which has no permutation of words from two registers).
#pragma once

#include "common/convert.h"

namespace {

template <class V>
struct EvenOdd {
  V even, odd;
};

template <class V>
SYLVESTER_INLINE EvenOdd<V> load_even_odd(const bfloat16* from);
// A NaN's low half must be 0, as in store_pair_as.
template <class V>
SYLVESTER_INLINE void store_even_odd(bfloat16* to, V even, V odd);

#if defined(SYLVESTER_LEVEL_avx512)

// Words 2w + first of even and of odd, in turns
SYLVESTER_INLINE __m512i in_turns(__m512i even, __m512i odd, int first) {
  alignas(64) uint16_t index_u16x32[32];
  for (int w = 0; w < 32; ++w) index_u16x32[w] = static_cast<uint16_t>(w % 2 * 32 + w / 2 * 2 + first);
  return _mm512_permutex2var_epi16(even, _mm512_load_si512(index_u16x32), odd);
}
template <>
SYLVESTER_INLINE EvenOdd<f32x16> load_even_odd(const bfloat16* from) {
  const __m512i x_u16x32 = _mm512_loadu_si512(from);
  const __m512i odd_u32x16 = _mm512_and_si512(x_u16x32, _mm512_set1_epi32(-0x10000));
  return {{_mm512_castsi512_ps(_mm512_slli_epi32(x_u16x32, 16))}, {_mm512_castsi512_ps(odd_u32x16)}};
}
template <>
SYLVESTER_INLINE void store_even_odd(bfloat16* to, f32x16 even, f32x16 odd) {
  const __m512i even_u16x32 = _mm512_castps_si512(even.x), odd_u16x32 = _mm512_castps_si512(odd.x);
  const __m512i high = in_turns(even_u16x32, odd_u16x32, 1), low = in_turns(even_u16x32, odd_u16x32, 0);
  _mm512_storeu_si512(to, round_words(high, low));
}

#elif defined(SYLVESTER_LEVEL_avx2)

template <>
SYLVESTER_INLINE EvenOdd<f32x16> load_even_odd(const bfloat16* from) {
  const __m256i a_u16x16 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i b_u16x16 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 16));
  const __m256i top = _mm256_set1_epi32(-0x10000);
  return {{_mm256_castsi256_ps(_mm256_slli_epi32(a_u16x16, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b_u16x16, 16))},
          {_mm256_castsi256_ps(_mm256_and_si256(a_u16x16, top)), _mm256_castsi256_ps(_mm256_and_si256(b_u16x16, top))}};
}
SYLVESTER_INLINE __m256i round_even_odd(__m256 even, __m256 odd) {
  const __m256i even_u32x8 = _mm256_castps_si256(even), odd_u32x8 = _mm256_castps_si256(odd);
  const __m256i high = _mm256_blend_epi16(_mm256_srli_epi32(even_u32x8, 16), odd_u32x8, 0xAA);
  const __m256i low = _mm256_blend_epi16(even_u32x8, _mm256_slli_epi32(odd_u32x8, 16), 0xAA);
  // As round_words
  const __m256i one_if_even = _mm256_andnot_si256(high, _mm256_set1_epi16(1));
  const __m256i up = _mm256_srli_epi16(_mm256_subs_epu16(low, one_if_even), 15);
  return _mm256_add_epi16(high, up);
}
template <>
SYLVESTER_INLINE void store_even_odd(bfloat16* to, f32x16 even, f32x16 odd) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), round_even_odd(even.lo, odd.lo));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16), round_even_odd(even.hi, odd.hi));
}

#endif

}  // namespace
