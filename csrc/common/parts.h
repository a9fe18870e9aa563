// The ends of rows: vectors of which only the first elements are there.
#pragma once

#include "common/convert.h"

namespace {

// The first count < 16 elements; the other lanes are zero and are not stored.
template <class V, class T>
SYLVESTER_INLINE V load_part_as(const T* from, int64_t count) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, from, static_cast<size_t>(count) * sizeof(T));
  return load_as<V>(buffer);
}
template <class V, class T>
SYLVESTER_INLINE void store_part_as(T* to, V v, int64_t count) {
  T buffer[kLanes];
  store_as(buffer, v);
  std::memcpy(to, buffer, static_cast<size_t>(count) * sizeof(T));
}

#if defined(SYLVESTER_LEVEL_avx512)

template <>
SYLVESTER_INLINE f32x16 load_part_as(const float* from, int64_t count) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from)};
}
template <>
SYLVESTER_INLINE void store_part_as(float* to, f32x16 v, int64_t count) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), v.x);
}

#elif defined(SYLVESTER_LEVEL_avx2)

// By powers of two: a copy through a buffer waits for stores that no single load covers (20 to 40 cycles of the 300
// that a scan of 128 with nine outputs takes a row and step, Zen 3).
SYLVESTER_INLINE __m128 load_below_4(const float* from, int64_t count) {
  __m128 v = _mm_setzero_ps();
  if (count & 1) v = _mm_load_ss(from + (count & 2));
  if (count & 2) {
    const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    v = _mm_movelh_ps(two, v);
  }
  return v;
}
SYLVESTER_INLINE __m256 load_below_8(const float* from, int64_t count) {
  if ((count & 4) == 0) return _mm256_zextps128_ps256(load_below_4(from, count));
  return _mm256_set_m128(load_below_4(from + 4, count & 3), _mm_loadu_ps(from));
}
template <>
SYLVESTER_INLINE f32x16 load_part_as(const float* from, int64_t count) {
  if ((count & 8) == 0) return {load_below_8(from, count), _mm256_setzero_ps()};
  return {_mm256_loadu_ps(from), load_below_8(from + 8, count & 7)};
}
template <>
SYLVESTER_INLINE void store_part_as(float* to, f32x16 v, int64_t count) {
  __m256 rest = v.lo;
  if (count & 8) {
    _mm256_storeu_ps(to, v.lo);
    to += 8;
    rest = v.hi;
  }
  __m128 quad = _mm256_castps256_ps128(rest);
  if (count & 4) {
    _mm_storeu_ps(to, quad);
    to += 4;
    quad = _mm256_extractf128_ps(rest, 1);
  }
  if (count & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(to), quad);
    to += 2;
    quad = _mm_movehl_ps(quad, quad);
  }
  if (count & 1) _mm_store_ss(to, quad);
}

#endif

}  // namespace
