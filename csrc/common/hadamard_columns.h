// H_m across the parts of a block for orders that models have, unrolled at the vector levels (hadamard_fixed.h).
//
// Count, an element: additions, half of them on the multiply pipes, and loads and stores of 64 bytes.
//
//   m           12    28    44   108   148   172
//   additions  6.1   7.1  13.0  13.7  17.5  46.0
//   loads      1.0   1.6   4.9   6.8   7.9  17.5
//   stores     1.0   1.8   2.3   2.0   2.0   3.0
//
// Four additions, two loads and 0.7 stores a cycle (Zen 5): the additions of 108 and more would take 3.4, 4.4 and 11.5
// cycles for 16 elements, and their columns, in the second-level cache, take 6.2, 7.0 and 16. A stride of 512 bytes or
// more, of which a first-level cache of 64 sets keeps 96 lines, costs 148 one of these cycles.
#pragma once

#include "common/hadamard_fixed.h"

namespace {

// Inputs u and v of the halves of a paired factor: those of pairs [from, end), and before the first those of the two
// rows that are alone. rows(k, n): row n of pair k
template <class V, class Rows>
SYLVESTER_INLINE void folded_inputs(int order, const Rows& rows, const typename V::Real* in, typename V::Real* u,
                                    typename V::Real* v, int64_t stride, int from, int end) {
  const int64_t half = order * stride;
  for (int k = 0; from == 0 && k < 2; ++k) {
    const V x0 = load<V>(in + k * stride), x1 = load<V>(in + k * stride + half);
    store(u + k * kLanes, add(x0, x1));
    store(v + k * kLanes, sub_fused(x0, x1));
  }
  for (int64_t k = from; k < end; ++k) {
    const typename V::Real *const a = in + rows(k, 0) * stride, *const b = in + rows(k, 1) * stride;
    const V a0 = load<V>(a), a1 = load<V>(a + half), b0 = load<V>(b), b1 = load<V>(b + half);
    const V ua = add(a0, a1), va = sub_fused(a0, a1), ub = add(b0, b1), vb = sub_fused(b0, b1);
    const int64_t to = (2 + 2 * k) * kLanes;
    store(u + to, add(ua, ub));
    store(u + to + kLanes, sub_fused(ua, ub));
    store(v + to, add(va, vb));
    store(v + to + kLanes, sub_fused(va, vb));
  }
}

template <int M>
constexpr int kPairs = order_of(M) / 2 - 1;
template <int M>
struct PairRows {
  int16_t of[kPairs<M>][2] = {};
  bool regular = true;
  constexpr PairRows() {
    for (int k = 0; k < kPairs<M>; ++k) {
      for (int n = 0; n < 2; ++n) of[k][n] = kPlan<M, false>.pairs[k][n];
      regular = regular && of[k][0] == 2 + k && of[k][1] == order_of(M) - 1 - k;
    }
  }
};
template <int M>
constexpr PairRows<M> kPairRows;

template <class V, int M>
__attribute__((noinline, noclone)) void fixed_inputs(const typename V::Real* in, typename V::Real* w, int64_t stride,
                                                     int from, int end) {
  const auto rows = [](int k, int n) SYLVESTER_LAMBDA -> int64_t {
    if constexpr (kPairRows<M>.regular) return n == 0 ? 2 + k : order_of(M) - 1 - k;
    return kPairRows<M>.of[k][n];
  };
  folded_inputs<V>(order_of(M), rows, in, w, w + order_of(M) * kLanes, stride, from, end);
}

// Pairs of the next column's inputs that are made beside each group of rows
template <class V, int M>
constexpr int kStep = (kPairs<M> + 2 * kTimes<M, kAbreast<V>> - 1) / (2 * kTimes<M, kAbreast<V>>);

// Half of a column, u (two = −2) or v (two = 2): to = (C + I) w + two·x, rows of to and x stride apart; to may be x.
// Its additions have half of the stores of the next column's inputs beside them, those of pairs from `pair` on.
template <class V, int M>
__attribute__((noinline, noclone)) void paired_rows(const typename V::Real* w, typename V::Real two,
                                                    const typename V::Real* x, typename V::Real* to, int64_t stride,
                                                    const typename V::Real* next, typename V::Real* next_w, int pair) {
  const V twos = broadcast<V>(two);
  const auto put = [&](int k, V y) SYLVESTER_LAMBDA { store(to + k * stride, fma(load<V>(x + k * stride), twos, y)); };
  const auto after = [&](int n) SYLVESTER_LAMBDA {
    const int from = pair + n * kStep<V, M>, end = from + kStep<V, M>;
    if (next != nullptr) fixed_inputs<V, M>(next, next_w, stride, from, end < kPairs<M> ? end : kPairs<M>);
  };
  buffered_rows<V, M, false>(w, put, after);
}

template <class V, int M>
void paired_columns(const typename V::Real* in, typename V::Real* out, int64_t blocks, int64_t part) {
  using Real = typename V::Real;
  constexpr int64_t kHalf = order_of(M) * kLanes;
  alignas(64) Real inputs[4 * kHalf];
  Real *w = inputs, *next_w = inputs + 2 * kHalf;
  const int64_t block = M * part, half = block / 2, end = blocks * block;
  fixed_inputs<V, M>(in, w, part, 0, kPairs<M>);
  for (int64_t i = 0; i < end; i += block) {
    for (int64_t c = i; c < i + part; c += kLanes) {
      const int64_t following = c + kLanes < i + part ? c + kLanes : i + block;
      const Real* const next = following < end ? in + following : nullptr;
      paired_rows<V, M>(w, -2, in + c, out + c, part, next, next_w, 0);
      paired_rows<V, M>(w + kHalf, 2, in + c + half, out + c + half, part, next, next_w,
                        kStep<V, M> * kTimes<M, kAbreast<V>>);
      Real* const done = w;
      w = next_w;
      next_w = done;
    }
  }
}

// m is small: a column is read once, and what registers do not hold is the compiler's to keep
template <class V, int M>
void small_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int kOrder = order_of(M);
  V x[M], w[kOrder];
#pragma GCC unroll 32
  for (int k = 0; k < M; ++k) x[k] = load<V>(in + k * stride);
  const auto half = [&]<bool kV>() SYLVESTER_LAMBDA {
    const auto input = [&](int k)
                           SYLVESTER_LAMBDA { return kV ? sub_fused(x[k], x[k + kOrder]) : add(x[k], x[k + kOrder]); };
    for (int k = 0; k < 2; ++k) w[k] = input(k);
#pragma GCC unroll 16
    for (int k = 0; k < kOrder / 2 - 1; ++k) {
      const V a = input(kPairRows<M>.of[k][0]), b = input(kPairRows<M>.of[k][1]);
      w[2 + 2 * k] = add(a, b);
      w[3 + 2 * k] = sub_fused(a, b);
    }
    const auto vectors = [&](int j) SYLVESTER_LAMBDA { return w[j]; };
    const auto put = [&](int k, V y) SYLVESTER_LAMBDA {
      const int row = kV ? k + kOrder : k;
      store(out + row * stride, fma(x[row], broadcast<V>(kV ? 2 : -2), y));
    };
    fixed_rows<V, M, false, 2>(vectors, put, [](int) {});
  };
  half.template operator()<false>();
  half.template operator()<true>();
}

template <class V, int M, bool Transpose>
void dense_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  alignas(64) typename V::Real x[M * kLanes];
  for (int k = 0; k < M; ++k) store(x + k * kLanes, load<V>(in + k * stride));
  buffered_rows<V, M, Transpose>(x, [&](int k, V y) SYLVESTER_LAMBDA { store(out + k * stride, y); }, [](int) {});
}

// Every column of blocks of M parts, which are a multiple of 16; in may be out
template <class V, int M, bool Transpose>
void fixed_columns(const typename V::Real* in, typename V::Real* out, int64_t blocks, int64_t part) {
  constexpr bool kSmall = V::kRegisters >= 16 && M <= 28;
  if constexpr (paired(M) && !kSmall) return paired_columns<V, M>(in, out, blocks, part);
  for (int64_t i = 0; i < blocks * M * part; i += M * part) {
    for (int64_t c = i; c < i + part; c += kLanes) {
      if constexpr (paired(M)) {
        small_column<V, M>(in + c, out + c, part);
      } else {
        dense_column<V, M, Transpose>(in + c, out + c, part);
      }
    }
  }
}

}  // namespace
