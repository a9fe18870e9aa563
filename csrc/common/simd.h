// One vector type for every level: 16 lanes of float, so that the lanes of a sum, and with them its bits, do not
// depend on the level. Only <op>_simd.cpp files include this; everything has internal linkage.
//
//   level    f32x16 is          registers a kernel may hold at once (kRegisters)
//   avx512   one zmm            16 of 32
//   avx2     two ymm             4 (8 of 16 ymm)
//   scalar   four quads           4
//
// lanes16<double> is the scalar level's double instance: gradcheck reaches the real formulas through it.
#pragma once

#include "common/lanes.h"

#if defined(SYLVESTER_LEVEL_avx2) || defined(SYLVESTER_LEVEL_avx512)
#include <immintrin.h>
#endif

namespace {

#if defined(SYLVESTER_LEVEL_avx512)

struct f32x16 {
  using Real = float;
  static constexpr int kRegisters = 16;
  __m512 x;
};

template <>
SYLVESTER_INLINE f32x16 zero() {
  return {_mm512_setzero_ps()};
}
template <>
SYLVESTER_INLINE f32x16 broadcast(float x) {
  return {_mm512_set1_ps(x)};
}
template <>
SYLVESTER_INLINE f32x16 load(const float* from) {
  return {_mm512_loadu_ps(from)};
}
SYLVESTER_INLINE void store(float* to, f32x16 x) { _mm512_storeu_ps(to, x.x); }
SYLVESTER_INLINE void stream(float* to, f32x16 x) { _mm512_stream_ps(to, x.x); }
SYLVESTER_INLINE f32x16 in_register(f32x16 v) {
  asm("" : "+v"(v.x));
  return v;
}
SYLVESTER_INLINE f32x16 add(f32x16 a, f32x16 b) { return {_mm512_add_ps(a.x, b.x)}; }
SYLVESTER_INLINE f32x16 sub(f32x16 a, f32x16 b) { return {_mm512_sub_ps(a.x, b.x)}; }
SYLVESTER_INLINE f32x16 add_fused(f32x16 a, f32x16 b) { return {_mm512_fmadd_ps(b.x, _mm512_set1_ps(1.0f), a.x)}; }
SYLVESTER_INLINE f32x16 sub_fused(f32x16 a, f32x16 b) { return {_mm512_fnmadd_ps(b.x, _mm512_set1_ps(1.0f), a.x)}; }
SYLVESTER_INLINE f32x16 mul(f32x16 a, f32x16 b) { return {_mm512_mul_ps(a.x, b.x)}; }
SYLVESTER_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fmadd_ps(a.x, b.x, c.x)}; }
SYLVESTER_INLINE f32x16 fms(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fmsub_ps(a.x, b.x, c.x)}; }
SYLVESTER_INLINE f32x16 fnma(f32x16 a, f32x16 b, f32x16 c) { return {_mm512_fnmadd_ps(a.x, b.x, c.x)}; }
SYLVESTER_INLINE f32x16 flip(f32x16 x, f32x16 s) { return {_mm512_xor_ps(x.x, s.x)}; }
SYLVESTER_INLINE f32x16 relu(f32x16 x) { return {_mm512_max_ps(_mm512_setzero_ps(), x.x)}; }
SYLVESTER_INLINE f32x16 where_nonzero(f32x16 m, f32x16 x) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(m.x, _mm512_setzero_ps(), _CMP_NEQ_UQ), x.x)};
}
SYLVESTER_INLINE f32x16 sign_bits(f32x16 x) { return {_mm512_and_ps(x.x, _mm512_set1_ps(-0.0f))}; }
// Transposing adds
SYLVESTER_INLINE f32x16 quad_sums(f32x16 a, f32x16 b, f32x16 c, f32x16 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.x, b.x), _mm512_unpackhi_ps(a.x, b.x));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.x, d.x), _mm512_unpackhi_ps(c.x, d.x));
  return {_mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE))};
}
SYLVESTER_INLINE void store_quad(float* to, f32x16 v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v.x), _mm512_extractf32x8_ps(v.x, 1));
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
// fma with ±1 rounds as the addition does and runs on the multiply pipes, which the other stages leave idle.
template <int Stride>
SYLVESTER_INLINE f32x16 butterfly(f32x16 v) {
  __m512 other;
  if constexpr (Stride == 1) other = _mm512_permute_ps(v.x, 0xB1);
  if constexpr (Stride == 2) other = _mm512_permute_ps(v.x, 0x4E);
  if constexpr (Stride == 4) other = _mm512_shuffle_f32x4(v.x, v.x, 0xB1);
  if constexpr (Stride == 8) other = _mm512_shuffle_f32x4(v.x, v.x, 0x4E);
  constexpr float p = 1.0f, m = -1.0f;
  constexpr float b1 = (Stride & 1) ? m : p, b2 = (Stride & 2) ? m : p;
  constexpr float b4 = (Stride & 4) ? m : p, b8 = (Stride & 8) ? m : p;
  const __m512 sign = _mm512_setr_ps(p, b1, b2, b1 * b2, b4, b4 * b1, b4 * b2, b4 * b2 * b1, b8, b8 * b1, b8 * b2,
                                     b8 * b2 * b1, b8 * b4, b8 * b4 * b1, b8 * b4 * b2, b8 * b4 * b2 * b1);
  return {_mm512_fmadd_ps(v.x, sign, other)};
}

using Vector = f32x16;

#elif defined(SYLVESTER_LEVEL_avx2)

struct f32x16 {
  using Real = float;
  static constexpr int kRegisters = 4;
  __m256 lo, hi;
};

template <>
SYLVESTER_INLINE f32x16 zero() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
template <>
SYLVESTER_INLINE f32x16 broadcast(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
template <>
SYLVESTER_INLINE f32x16 load(const float* from) {
  return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}
SYLVESTER_INLINE void store(float* to, f32x16 v) {
  _mm256_storeu_ps(to, v.lo);
  _mm256_storeu_ps(to + 8, v.hi);
}
SYLVESTER_INLINE void stream(float* to, f32x16 v) {
  _mm256_stream_ps(to, v.lo);
  _mm256_stream_ps(to + 8, v.hi);
}
SYLVESTER_INLINE f32x16 in_register(f32x16 v) {
  asm("" : "+x"(v.lo), "+x"(v.hi));
  return v;
}
SYLVESTER_INLINE f32x16 add(f32x16 a, f32x16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
SYLVESTER_INLINE f32x16 sub(f32x16 a, f32x16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
SYLVESTER_INLINE f32x16 add_fused(f32x16 a, f32x16 b) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return {_mm256_fmadd_ps(b.lo, one, a.lo), _mm256_fmadd_ps(b.hi, one, a.hi)};
}
SYLVESTER_INLINE f32x16 sub_fused(f32x16 a, f32x16 b) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return {_mm256_fnmadd_ps(b.lo, one, a.lo), _mm256_fnmadd_ps(b.hi, one, a.hi)};
}
SYLVESTER_INLINE f32x16 mul(f32x16 a, f32x16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
SYLVESTER_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
SYLVESTER_INLINE f32x16 fms(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi)};
}
SYLVESTER_INLINE f32x16 flip(f32x16 x, f32x16 s) { return {_mm256_xor_ps(x.lo, s.lo), _mm256_xor_ps(x.hi, s.hi)}; }
SYLVESTER_INLINE f32x16 relu(f32x16 x) {
  return {_mm256_max_ps(_mm256_setzero_ps(), x.lo), _mm256_max_ps(_mm256_setzero_ps(), x.hi)};
}
SYLVESTER_INLINE f32x16 where_nonzero(f32x16 m, f32x16 x) {
  const __m256 none = _mm256_setzero_ps();
  return {_mm256_and_ps(_mm256_cmp_ps(m.lo, none, _CMP_NEQ_UQ), x.lo),
          _mm256_and_ps(_mm256_cmp_ps(m.hi, none, _CMP_NEQ_UQ), x.hi)};
}
SYLVESTER_INLINE f32x16 sign_bits(f32x16 x) {
  const __m256 top = _mm256_set1_ps(-0.0f);
  return {_mm256_and_ps(x.lo, top), _mm256_and_ps(x.hi, top)};
}
template <int Stride>
SYLVESTER_INLINE __m256 butterfly_f32x8(__m256 v) {
  __m256 other;
  if constexpr (Stride == 1) other = _mm256_permute_ps(v, 0xB1);
  if constexpr (Stride == 2) other = _mm256_permute_ps(v, 0x4E);
  if constexpr (Stride == 4) other = _mm256_permute2f128_ps(v, v, 0x01);
  constexpr float p = 1.0f, m = -1.0f;
  constexpr float b1 = (Stride & 1) ? m : p, b2 = (Stride & 2) ? m : p, b4 = (Stride & 4) ? m : p;
  const __m256 sign = _mm256_setr_ps(p, b1, b2, b1 * b2, b4, b4 * b1, b4 * b2, b4 * b2 * b1);
  return _mm256_fmadd_ps(v, sign, other);
}
template <int Stride>
SYLVESTER_INLINE f32x16 butterfly(f32x16 v) {
  if constexpr (Stride == 8) {
    return {_mm256_add_ps(v.lo, v.hi), _mm256_sub_ps(v.lo, v.hi)};
  } else {
    return {butterfly_f32x8<Stride>(v.lo), butterfly_f32x8<Stride>(v.hi)};
  }
}

// Half a vector: of many sums 16 registers hold too few whole ones
struct f32x8 {
  using Real = float;
  static constexpr int kRegisters = 8;
  __m256 x;
};
template <>
struct PartOf<f32x16> {
  using Type = f32x8;
};
template <>
constexpr int64_t kLanesOf<f32x8> = 8;

template <>
SYLVESTER_INLINE f32x8 zero() {
  return {_mm256_setzero_ps()};
}
template <>
SYLVESTER_INLINE f32x8 broadcast(float x) {
  return {_mm256_set1_ps(x)};
}
template <>
SYLVESTER_INLINE f32x8 load(const float* from) {
  return {_mm256_loadu_ps(from)};
}
SYLVESTER_INLINE void store(float* to, f32x8 v) { _mm256_storeu_ps(to, v.x); }
SYLVESTER_INLINE f32x8 add(f32x8 a, f32x8 b) { return {_mm256_add_ps(a.x, b.x)}; }
SYLVESTER_INLINE f32x8 in_register(f32x8 v) {
  asm("" : "+x"(v.x));
  return v;
}
SYLVESTER_INLINE f32x8 sub(f32x8 a, f32x8 b) { return {_mm256_sub_ps(a.x, b.x)}; }
SYLVESTER_INLINE f32x8 mul(f32x8 a, f32x8 b) { return {_mm256_mul_ps(a.x, b.x)}; }
SYLVESTER_INLINE f32x8 fma(f32x8 a, f32x8 b, f32x8 c) { return {_mm256_fmadd_ps(a.x, b.x, c.x)}; }
SYLVESTER_INLINE f32x8 add_fused(f32x8 a, f32x8 b) { return {_mm256_fmadd_ps(b.x, _mm256_set1_ps(1.0f), a.x)}; }
SYLVESTER_INLINE f32x8 sub_fused(f32x8 a, f32x8 b) { return {_mm256_fnmadd_ps(b.x, _mm256_set1_ps(1.0f), a.x)}; }
SYLVESTER_INLINE f32x8 fms(f32x8 a, f32x8 b, f32x8 c) { return {_mm256_fmsub_ps(a.x, b.x, c.x)}; }
SYLVESTER_INLINE f32x8 fnma(f32x8 a, f32x8 b, f32x8 c) { return {_mm256_fnmadd_ps(a.x, b.x, c.x)}; }
SYLVESTER_INLINE f32x8 flip(f32x8 x, f32x8 s) { return {_mm256_xor_ps(x.x, s.x)}; }
SYLVESTER_INLINE f32x8 relu(f32x8 x) { return {_mm256_max_ps(_mm256_setzero_ps(), x.x)}; }
SYLVESTER_INLINE f32x8 where_nonzero(f32x8 m, f32x8 x) {
  return {_mm256_and_ps(_mm256_cmp_ps(m.x, _mm256_setzero_ps(), _CMP_NEQ_UQ), x.x)};
}
SYLVESTER_INLINE f32x8 quad_sums(f32x8 a, f32x8 b, f32x8 c, f32x8 d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.x, b.x), _mm256_unpackhi_ps(a.x, b.x));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.x, d.x), _mm256_unpackhi_ps(c.x, d.x));
  return {_mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE))};
}
SYLVESTER_INLINE void store_quad(float* to, f32x8 v) {
  _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(v.x), _mm256_extractf128_ps(v.x, 1)));
}
SYLVESTER_INLINE f32x16 quad_sums(f32x16 a, f32x16 b, f32x16 c, f32x16 d) {
  const f32x8 lo = quad_sums(f32x8{a.lo}, f32x8{b.lo}, f32x8{c.lo}, f32x8{d.lo});
  return {lo.x, quad_sums(f32x8{a.hi}, f32x8{b.hi}, f32x8{c.hi}, f32x8{d.hi}).x};
}
SYLVESTER_INLINE void store_quad(float* to, f32x16 v) { store_quad(to, f32x8{_mm256_add_ps(v.lo, v.hi)}); }

using Vector = f32x16;

#else

using Vector = lanes16<float>;

#endif

}  // namespace
