// Integer dot products of four neighbouring bytes, a register at a time: what <op>_dot.cpp files are written over.
// Everything has internal linkage. A row is a 32-bit lane.
//
//   level        Bytes            Sums a register    dot(sums, u, x) adds to a lane
//   avx512vnni   zmm, 16 rows     16 int32           4 products (vpdpbusd)
//   avx512       zmm, 16 rows     32 int16           2 products (vpmaddubsw, vpaddw)
//   avxvnni      ymm,  8 rows      8 int32           4 products (vpdpbusd)
//   avx2         ymm,  8 rows     16 int16           2 products (vpmaddubsw, vpaddw)
//   scalar       16 bytes, 4 rows  4 int32           4 products
//
// Bounds: with |x| <= 128 and 0 <= u <= largest a product lies in [-128 · largest, 127 · largest]. vpmaddubsw
// saturates: two of them fit int16 while largest <= 128. vpaddw wraps: n additions of two fit while 256 · n · largest
// <= 2^15, the lower end included. vpdpbusd and the additions to int32 wrap: n of four fit while 512 · n · largest <=
// 2^31.
#pragma once

#include <cstring>

#include "common/simd.h"

namespace {

#if defined(SYLVESTER_LEVEL_avx512)
constexpr int64_t kWidth = 64;
#elif defined(SYLVESTER_LEVEL_avx2)
constexpr int64_t kWidth = 32;
#else
constexpr int64_t kWidth = 16;
#endif
#if defined(SYLVESTER_LEVEL_avx512vnni) || defined(SYLVESTER_LEVEL_avxvnni) || defined(SYLVESTER_LEVEL_scalar)
constexpr bool kHalfSums = false;
#else
constexpr bool kHalfSums = true;
#endif

using Bytes [[gnu::vector_size(kWidth)]] = uint8_t;
using Halves [[gnu::vector_size(kWidth)]] = uint16_t;
using Words [[gnu::vector_size(kWidth)]] = uint32_t;  // unsigned, as int32 sums that wrap
using Sums = std::conditional_t<kHalfSums, Halves, Words>;

constexpr int64_t kLaneRows = kWidth / 4;
constexpr int64_t kParts = kLanes / kLaneRows;  // registers for 16 rows

// dot()s of u up to largest that fit Sums
constexpr int64_t most_dots(int64_t largest) {
  return kHalfSums ? (int64_t{1} << 15) / (256 * largest) : (int64_t{1} << 31) / (512 * largest);
}

// x in a register, of which the compiler does not know how it came there
template <class Register>
SYLVESTER_INLINE Register opaque(Register x) {
#if defined(SYLVESTER_LEVEL_avx512)
  asm("" : "+v"(x));
#elif defined(SYLVESTER_LEVEL_avx2)
  asm("" : "+x"(x));
#endif
  return x;
}

// One load, however often v is used: the compiler would rather load again, and loads are what a row of x runs out of.
SYLVESTER_INLINE Bytes load_bytes(const uint8_t* from) {
  Bytes v;
  std::memcpy(&v, from, sizeof v);
  return opaque(v);
}
SYLVESTER_INLINE void store_bytes(uint8_t* to, Bytes v) { std::memcpy(to, &v, sizeof v); }
SYLVESTER_INLINE Words load_words(const int32_t* from) {
  Words v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
SYLVESTER_INLINE void store_words(int32_t* to, Words v) { std::memcpy(to, &v, sizeof v); }

SYLVESTER_INLINE Bytes all_bytes(int x) { return Bytes{} + static_cast<uint8_t>(x); }
SYLVESTER_INLINE Words all_words(int32_t x) { return Words{} + static_cast<uint32_t>(x); }

// Four codes of x, in every lane
SYLVESTER_INLINE Bytes quad(const int8_t* from) {
  uint32_t x;
  std::memcpy(&x, from, 4);
  return (Bytes)(Words{} + x);
}

// Bits of the upper byte of 16 enter the lower one: mask them
template <int kCount>
SYLVESTER_INLINE Bytes shift_right(Bytes v) {
  return (Bytes)((Halves)v >> kCount);
}
template <int kCount>
SYLVESTER_INLINE Words shift_right(Words v) {
  using Signed [[gnu::vector_size(kWidth)]] = int32_t;
  return (Words)((Signed)v >> kCount);
}

#if defined(SYLVESTER_LEVEL_avx512vnni)
SYLVESTER_INLINE Words dot(Words sums, Bytes u, Bytes x) {
  return (Words)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)u, (__m512i)x);
}
#elif defined(SYLVESTER_LEVEL_avx512)
SYLVESTER_INLINE Halves dot(Halves sums, Bytes u, Bytes x) {
  return sums + (Halves)_mm512_maddubs_epi16((__m512i)u, (__m512i)x);
}
SYLVESTER_INLINE Words widen(Halves sums) { return (Words)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(1)); }
#elif defined(SYLVESTER_LEVEL_avxvnni)
SYLVESTER_INLINE Words dot(Words sums, Bytes u, Bytes x) {
  return (Words)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)u, (__m256i)x);
}
#elif defined(SYLVESTER_LEVEL_avx2)
SYLVESTER_INLINE Halves dot(Halves sums, Bytes u, Bytes x) {
  return sums + (Halves)_mm256_maddubs_epi16((__m256i)u, (__m256i)x);
}
SYLVESTER_INLINE Words widen(Halves sums) { return (Words)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1)); }
#else
// Out of line: inlined in every tile it is bulk.
__attribute__((noinline)) Words dot(Words sums, Bytes u, Bytes x) {
  for (int r = 0; r < static_cast<int>(kLaneRows); ++r) {
    int sum = 0;
    for (int j = 4 * r; j < 4 * r + 4; ++j) sum += int{u[j]} * static_cast<int8_t>(x[j]);
    sums[r] += static_cast<uint32_t>(sum);
  }
  return sums;
}
#endif
#if !defined(SYLVESTER_LEVEL_avx512) && !defined(SYLVESTER_LEVEL_avx2) || defined(SYLVESTER_LEVEL_avx512vnni) || \
    defined(SYLVESTER_LEVEL_avxvnni)
SYLVESTER_INLINE Words widen(Words sums) { return sums; }
#endif

// 16 rows
#if defined(SYLVESTER_LEVEL_avx512)
SYLVESTER_INLINE Vector to_vector(const Words* v) { return {_mm512_cvtepi32_ps((__m512i)v[0])}; }
#elif defined(SYLVESTER_LEVEL_avx2)
SYLVESTER_INLINE Vector to_vector(const Words* v) {
  return {_mm256_cvtepi32_ps((__m256i)v[0]), _mm256_cvtepi32_ps((__m256i)v[1])};
}
#else
SYLVESTER_INLINE Vector to_vector(const Words* v) {
  Vector y;
  for (int r = 0; r < static_cast<int>(kLanes); ++r)
    y.quad[r / 4][r % 4] = static_cast<float>(static_cast<int32_t>(v[r / 4][r % 4]));
  return y;
}
#endif

}  // namespace
