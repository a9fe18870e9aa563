// H_m across the parts of a block for orders that models have, unrolled at the vector levels (hadamard_fixed.h).
//
// Count, an element: additions, half of them on the multiply pipes, and loads and stores of 64 bytes.
//
//   m           12    28    44   108   148
//   additions  6.1   7.1  13.0  13.7  17.5
//   loads      1.0   1.6   4.9   6.8   7.9
//   stores     1.0   1.8   2.3   2.0   2.0
//
// Four additions, two loads and 0.7 stores a cycle (Zen 5): the additions of 108 and 148 would take 3.4 and 4.4 cycles
// for 16 elements, and their columns, in the second-level cache, took 6.2 and 7.0 when u and v each went through all of
// the code. At AVX2 (Zen 3, 8 elements) 108 and 148 take 7.3 and 11; 8.7 and 13.5 then, and with whole vectors.
#pragma once

#include "common/hadamard_fixed.h"

namespace {

// Vectors of 16 columns
template <class P>
constexpr int kParts = static_cast<int>(kLanes / kLanesOf<P>);

// Inputs u and v of the halves of a paired factor, of 16 columns: u of part after part, then v. Those of pairs
// [from, end), and before the first those of the two rows that are alone. rows(k, n): row n of pair k
template <class P, class Rows>
SYLVESTER_INLINE void folded_inputs(int order, const Rows& rows, const typename P::Real* in, typename P::Real* u,
                                    typename P::Real* v, int64_t stride, int from, int end) {
  constexpr int64_t kWidth = kLanesOf<P>;
  const int64_t half = order * stride;
  for (int k = 0; from == 0 && k < 2; ++k) {
    for (int64_t c = 0, to = k * kWidth; c < kLanes; c += kWidth, to += order * kWidth) {
      const P x0 = load<P>(in + k * stride + c), x1 = load<P>(in + k * stride + c + half);
      store(u + to, add(x0, x1));
      store(v + to, sub_fused(x0, x1));
    }
  }
  for (int64_t k = from; k < end; ++k) {
    const typename P::Real *a = in + rows(k, 0) * stride, *b = in + rows(k, 1) * stride;
#pragma GCC unroll 2
    for (int64_t c = 0, to = (2 + 2 * k) * kWidth; c < kLanes; c += kWidth, to += order * kWidth) {
      const P a0 = load<P>(a + c), a1 = load<P>(a + c + half), b0 = load<P>(b + c), b1 = load<P>(b + c + half);
      const P ua = add(a0, a1), va = sub_fused(a0, a1), ub = add(b0, b1), vb = sub_fused(b0, b1);
      store(u + to, add(ua, ub));
      store(u + to + kWidth, sub_fused(ua, ub));
      store(v + to, add(va, vb));
      store(v + to + kWidth, sub_fused(va, vb));
    }
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

template <class P, int M>
__attribute__((noinline, noclone)) void fixed_inputs(const typename P::Real* in, typename P::Real* w, int64_t stride,
                                                     int from, int end) {
  const auto rows = [](int k, int n) SYLVESTER_LAMBDA -> int64_t {
    if constexpr (kPairRows<M>.regular) return n == 0 ? 2 + k : order_of(M) - 1 - k;
    return kPairRows<M>.of[k][n];
  };
  folded_inputs<P>(order_of(M), rows, in, w, w + order_of(M) * kLanes, stride, from, end);
}

// Pairs of the next column's inputs that are made beside each group of rows
template <class P, int M>
constexpr int kStep = (kPairs<M> + kTimes<P, M, kAbreast<P, M>> - 1) / kTimes<P, M, kAbreast<P, M>>;

// 16 columns: to = (C + I) w + two·x of either half, u (two = −2) and v (two = 2); rows of to and x stride apart; to
// may be x. The additions have the stores of the next column's inputs beside them.
template <class P, int M>
__attribute__((noinline, noclone)) void paired_rows(const typename P::Real* w, const typename P::Real* x,
                                                    typename P::Real* to, int64_t stride, const typename P::Real* next,
                                                    typename P::Real* next_w) {
  const auto put = [&](int k, P y, int t) SYLVESTER_LAMBDA {
    int64_t place = k * stride;
    asm("" : "+r"(place));  // or all places are made before the loop, and kept on the stack
    place += t / kParts<P> * order_of(M) * stride + t % kParts<P> * kLanesOf<P>;
    store(to + place, fma(load<P>(x + place), broadcast<P>(t < kParts<P> ? -2 : 2), y));
  };
  const auto after = [&](int n) SYLVESTER_LAMBDA {
    const int from = n * kStep<P, M>, end = from + kStep<P, M>;
    if (next != nullptr) fixed_inputs<P, M>(next, next_w, stride, from, end < kPairs<M> ? end : kPairs<M>);
  };
  buffered_rows<P, M, false, 2 * kParts<P>>(w, put, after);
}

// Parts of 16 columns where registers are few and more sums in them pay: a tenth of the time of 12, a quarter from 84
// on. Orders between gain at most a tenth, and lose where rows are a multiple of 2048 bytes apart and a cache keeps 16
// of them.
template <class V, int M>
using ColumnPart = std::conditional_t<(M < 20 || M >= 84), Part<V>, V>;

template <class V, int M>
void paired_columns(const typename V::Real* in, typename V::Real* out, int64_t blocks, int64_t part) {
  using P = ColumnPart<V, M>;
  using Real = typename V::Real;
  constexpr int64_t kColumn = 2 * order_of(M) * kLanes;
  alignas(64) Real inputs[2 * kColumn];
  Real *w = inputs, *next_w = inputs + kColumn;
  const int64_t block = M * part, end = blocks * block;
  fixed_inputs<P, M>(in, w, part, 0, kPairs<M>);
  for (int64_t i = 0; i < end; i += block) {
    for (int64_t c = i; c < i + part; c += kLanes) {
      const int64_t following = c + kLanes < i + part ? c + kLanes : i + block;
      paired_rows<P, M>(w, in + c, out + c, part, following < end ? in + following : nullptr, next_w);
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
    const auto vectors = [&](int j, int) SYLVESTER_LAMBDA { return w[j]; };
    const auto put = [&](int k, V y, int) SYLVESTER_LAMBDA {
      const int row = kV ? k + kOrder : k;
      store(out + row * stride, fma(x[row], broadcast<V>(kV ? 2 : -2), y));
    };
    fixed_rows<V, M, false, 2, 1>(vectors, put, [](int) {});
  };
  half.template operator()<false>();
  half.template operator()<true>();
}

template <class V, int M, bool Transpose>
void dense_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  alignas(64) typename V::Real x[M * kLanes];
  for (int k = 0; k < M; ++k) store(x + k * kLanes, load<V>(in + k * stride));
  const auto put = [&](int k, V y, int) SYLVESTER_LAMBDA { store(out + k * stride, y); };
  buffered_rows<V, M, Transpose, 1>(x, put, [](int) {});
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
