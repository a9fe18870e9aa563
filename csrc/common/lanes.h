// The scalar level's vector: what the operations of simd.h mean, in plain C++. Also its double instance.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#define SYLVESTER_INLINE inline __attribute__((always_inline))
#define SYLVESTER_LAMBDA __attribute__((always_inline))

namespace {

constexpr int64_t kLanes = 16;

SYLVESTER_INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SYLVESTER_INLINE double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

// The scalar level: four quads in the compiler's own vector type, which it lowers to whatever the baseline has.
template <class R>
struct lanes16 {
  using Real = R;
  static constexpr int kRegisters = 4;
  using Quad [[gnu::vector_size(4 * sizeof(R))]] = R;
  Quad quad[4];
};

template <class V>
SYLVESTER_INLINE V zero();
template <class V>
SYLVESTER_INLINE V broadcast(typename V::Real x);
template <class V>
SYLVESTER_INLINE V load(const typename V::Real* from);

template <class R>
SYLVESTER_INLINE void store(R* to, lanes16<R> x) {
  std::memcpy(to, x.quad, sizeof x.quad);
}
template <class R>
SYLVESTER_INLINE lanes16<R> add(lanes16<R> a, lanes16<R> b) {
  for (int q = 0; q < 4; ++q) a.quad[q] += b.quad[q];
  return a;
}
template <class R>
SYLVESTER_INLINE lanes16<R> sub(lanes16<R> a, lanes16<R> b) {
  for (int q = 0; q < 4; ++q) a.quad[q] -= b.quad[q];
  return a;
}
template <class R>
SYLVESTER_INLINE lanes16<R> mul(lanes16<R> a, lanes16<R> b) {
  for (int q = 0; q < 4; ++q) a.quad[q] *= b.quad[q];
  return a;
}
// Kept in a register, not computed or loaded again where it is used
template <class R>
SYLVESTER_INLINE lanes16<R> in_register(lanes16<R> v) {
  return v;
}
// Around the caches; `to` is on a cache line
template <class R>
SYLVESTER_INLINE void stream(R* to, lanes16<R> x) {
  store(to, x);
}
// a·b + c in one rounding. Out of line: the baseline calls libm sixteen times, and inlining that everywhere is bulk.
template <class R>
__attribute__((noinline)) lanes16<R> fma(lanes16<R> a, lanes16<R> b, lanes16<R> c) {
  for (int i = 0; i < static_cast<int>(kLanes); ++i) {
    c.quad[i / 4][i % 4] = fused(a.quad[i / 4][i % 4], b.quad[i / 4][i % 4], c.quad[i / 4][i % 4]);
  }
  return c;
}
// a·b − c in one rounding
template <class R>
SYLVESTER_INLINE lanes16<R> fms(lanes16<R> a, lanes16<R> b, lanes16<R> c) {
  for (int q = 0; q < 4; ++q) c.quad[q] = -c.quad[q];
  return fma(a, b, c);
}
// c − a·b in one rounding
template <class R>
SYLVESTER_INLINE lanes16<R> fnma(lanes16<R> a, lanes16<R> b, lanes16<R> c) {
  for (int q = 0; q < 4; ++q) a.quad[q] = -a.quad[q];
  return fma(a, b, c);
}
// x with the sign bits of s xored in: s holds +0 or -0, which stand for a factor +1 or -1. Exact for every x.
template <class R>
SYLVESTER_INLINE lanes16<R> flip(lanes16<R> x, lanes16<R> s) {
  using Word = std::conditional_t<sizeof(R) == 4, uint32_t, uint64_t>;
  using Bits [[gnu::vector_size(4 * sizeof(R))]] = Word;
  for (int q = 0; q < 4; ++q) x.quad[q] = (typename lanes16<R>::Quad)((Bits)x.quad[q] ^ (Bits)s.quad[q]);
  return x;
}
// max(x, 0); NaN stays
template <class R>
SYLVESTER_INLINE lanes16<R> relu(lanes16<R> x) {
  const typename lanes16<R>::Quad none = {};
  for (int q = 0; q < 4; ++q) x.quad[q] = none > x.quad[q] ? none : x.quad[q];
  return x;
}
// x where m is not 0, else +0
template <class R>
SYLVESTER_INLINE lanes16<R> where_nonzero(lanes16<R> m, lanes16<R> x) {
  const typename lanes16<R>::Quad none = {};
  for (int q = 0; q < 4; ++q) x.quad[q] = m.quad[q] != none ? x.quad[q] : none;
  return x;
}
// -0 where x is negative, else +0: what flip() takes
template <class R>
SYLVESTER_INLINE lanes16<R> sign_bits(lanes16<R> x) {
  using Word = std::conditional_t<sizeof(R) == 4, uint32_t, uint64_t>;
  using Bits [[gnu::vector_size(4 * sizeof(R))]] = Word;
  constexpr Word kTop = Word{1} << (8 * sizeof(R) - 1);
  for (int q = 0; q < 4; ++q) x.quad[q] = (typename lanes16<R>::Quad)((Bits)x.quad[q] & kTop);
  return x;
}
// a ± b on the multiply pipes, where there are any, for loops that leave those idle and the add pipes full
template <class R>
SYLVESTER_INLINE lanes16<R> add_fused(lanes16<R> a, lanes16<R> b) {
  return add(a, b);
}
template <class R>
SYLVESTER_INLINE lanes16<R> sub_fused(lanes16<R> a, lanes16<R> b) {
  return sub(a, b);
}
// What a loop with many sums works on: V, or a part of it where registers are few
template <class V>
struct PartOf {
  using Type = V;
};
template <class V>
using Part = typename PartOf<V>::Type;
template <class P>
constexpr int64_t kLanesOf = kLanes;

// Sums of each quad of four vectors, (0 + 2) + (1 + 3): those of quad q are quad q of what is returned
template <class R>
SYLVESTER_INLINE lanes16<R> quad_sums(lanes16<R> a, lanes16<R> b, lanes16<R> c, lanes16<R> d) {
  const lanes16<R> of[4] = {a, b, c, d};
  lanes16<R> sums;
  for (int q = 0; q < 4; ++q)
    for (int v = 0; v < 4; ++v)
      sums.quad[q][v] = (of[v].quad[q][0] + of[v].quad[q][2]) + (of[v].quad[q][1] + of[v].quad[q][3]);
  return sums;
}
// The sum of the quads, four elements: (0 + 2) + (1 + 3) again
template <class R>
SYLVESTER_INLINE void store_quad(R* to, lanes16<R> v) {
  const auto sum = (v.quad[0] + v.quad[2]) + (v.quad[1] + v.quad[3]);
  std::memcpy(to, &sum, sizeof sum);
}
// Butterfly of lanes i and i + Stride: (a, b) -> (a + b, a − b)
template <int Stride, class R>
SYLVESTER_INLINE lanes16<R> butterfly(lanes16<R> x) {
  using Quad = typename lanes16<R>::Quad;
  if constexpr (Stride < 4) {
    const Quad sign = Stride == 1 ? Quad{1, -1, 1, -1} : Quad{1, 1, -1, -1};
    for (int q = 0; q < 4; ++q) {
      const Quad v = x.quad[q];
      const Quad other =
          Stride == 1 ? __builtin_shufflevector(v, v, 1, 0, 3, 2) : __builtin_shufflevector(v, v, 2, 3, 0, 1);
      x.quad[q] = v * sign + other;
    }
  } else {
    constexpr int s = Stride / 4;
    for (int q = 0; q < 4; ++q) {
      if (q & s) continue;
      const Quad a = x.quad[q], b = x.quad[q + s];
      x.quad[q] = a + b;
      x.quad[q + s] = a - b;
    }
  }
  return x;
}

#define SYLVESTER_SCALAR(R) \
  template <> \
  SYLVESTER_INLINE lanes16<R> zero() { \
    return {}; \
  } \
  template <> \
  SYLVESTER_INLINE lanes16<R> broadcast(R x) { \
    const typename lanes16<R>::Quad q = {x, x, x, x}; \
    return {{q, q, q, q}}; \
  } \
  template <> \
  SYLVESTER_INLINE lanes16<R> load(const R* from) { \
    lanes16<R> v; \
    std::memcpy(v.quad, from, sizeof v.quad); \
    return v; \
  }
SYLVESTER_SCALAR(float)
SYLVESTER_SCALAR(double)
#undef SYLVESTER_SCALAR

}  // namespace
