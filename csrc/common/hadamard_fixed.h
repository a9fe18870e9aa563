// H_m across the parts of a block for orders that models have, unrolled at the vector levels: which sum an input goes
// into (hadamard_factor.h) is known when this is compiled.
//
// Eight sums for each of three groups of rows stay in registers while the inputs stream by. Count, an element: m/12 + 5
// additions where the factor is paired, else m/4 + 2; half of them on the multiply pipes. COUNT loads and 2 stores.
#pragma once

#include <utility>

#include "common/hadamard.h"
#include "common/hadamard_factor.h"

namespace {

using sylvester::groups_of;
using sylvester::kGroupRows;
using sylvester::kSums;
using sylvester::order_of;
using sylvester::paired;
using sylvester::Plan;
using sylvester::turned;

// f.operator()<From>() .. f.operator()<To - 1>()
template <int From, int To, class F>
SYLVESTER_INLINE void unrolled(const F& f) {
  [&]<int... n>(std::integer_sequence<int, n...>)
      SYLVESTER_LAMBDA { (f.template operator()<From + n>(), ...); }(std::make_integer_sequence<int, To - From>());
}

// Four rows of their sums; with what follows, half of it on the multiply pipes
template <class V>
SYLVESTER_INLINE void plain_rows(const V (&s)[kSums], V (&y)[kGroupRows]) {
  const V same = add(add(s[0], s[1]), add(s[2], s[3])), other = add(add(s[4], s[5]), add(s[6], s[7]));
  const V agree = add(sub_fused(s[0], s[1]), sub_fused(s[4], s[5]));
  const V differ = add(sub_fused(s[2], s[3]), sub_fused(s[6], s[7]));
  y[0] = add(same, other);
  y[1] = sub_fused(same, other);
  y[2] = add(agree, differ);
  y[3] = sub_fused(agree, differ);
}

// E ± D of two rows of E and two of D
template <class V>
SYLVESTER_INLINE void folded_rows(const V (&s)[kSums], V (&y)[kGroupRows]) {
  const V e0 = add_fused(s[0], add(s[2], s[3])), e1 = add(s[1], sub_fused(s[2], s[3]));
  const V d0 = add_fused(s[4], add(s[6], s[7])), d1 = add(s[5], sub_fused(s[6], s[7]));
  y[0] = add(e0, d0);
  y[1] = sub_fused(e0, d0);
  y[2] = add(e1, d1);
  y[3] = sub_fused(e1, d1);
}

template <class V>
SYLVESTER_INLINE void turned_rows(const V (&s)[kSums], V (&y)[kGroupRows]) {
#pragma GCC unroll 4
  for (int k = 0; k < kGroupRows; ++k) y[k] = add(s[2 * k], s[2 * k + 1]);
}

template <class V>
SYLVESTER_INLINE V negated(V v) {
  return flip(v, broadcast<V>(-typename V::Real{0}));
}

template <int M, bool Transpose>
constexpr Plan kPlan = sylvester::Planner(M, Transpose).plan();

// The first input that goes into each sum of a group (−1: none)
template <int M, bool Transpose>
struct Firsts {
  int16_t of[groups_of(M)][kSums] = {};
  constexpr Firsts() {
    constexpr int kGroups = groups_of(M), kInputs = order_of(M);
    for (int g = 0; g < kGroups; ++g) {
      for (int16_t& first_of_sum : of[g]) first_of_sum = -1;
      for (int j = kInputs; j-- > 0;) {
        const int place = kPlan<M, Transpose>.place[g][j];
        if (place != Plan::kNowhere) of[g][place / 2] = static_cast<int16_t>(j);
      }
    }
  }
};
template <int M, bool Transpose>
constexpr Firsts<M, Transpose> kFirsts;

// x, input Input of a group, into its sum. Kept in a register: the compiler would put a sum off until it is used, and
// keep all its terms until then.
template <class V, int M, bool Transpose, int Group, int Input, bool kFused>
SYLVESTER_INLINE void into_sum(V x, V (&s)[kSums]) {
  constexpr int kPlace = kPlan<M, Transpose>.place[Group][Input];
  if constexpr (kPlace != Plan::kNowhere) {
    constexpr bool kMinus = kPlace % 2 != 0;
    V& sum = s[kPlace / 2];
    if constexpr (kFirsts<M, Transpose>.of[Group][kPlace / 2] == Input) {
      sum = kMinus ? negated(x) : x;
    } else if constexpr (kFused) {
      sum = in_register(kMinus ? sub_fused(sum, x) : add_fused(sum, x));
    } else {
      sum = in_register(kMinus ? sub(sum, x) : add(sum, x));
    }
  }
}

template <class V, int M, bool Transpose, int Group>
SYLVESTER_INLINE void no_sums(V (&s)[kSums]) {
#pragma GCC unroll 8
  for (int n = 0; n < kSums; ++n) {
    if (kFirsts<M, Transpose>.of[Group][n] < 0) s[n] = negated(zero<V>());
  }
}

// put(k, row k) of inputs w<j>(); Abreast groups share its loads, and the last of them those of one group more
template <class V, int M, bool Transpose, int Abreast, class Vectors, class Put>
SYLVESTER_INLINE void fixed_rows(const Vectors& w, const Put& put) {
  constexpr int kGroups = groups_of(M), kTimes = Abreast == 1 ? kGroups : (kGroups + Abreast - 2) / Abreast;
  unrolled<0, kTimes>([&]<int n>() SYLVESTER_LAMBDA {
    constexpr int kFirst = n * Abreast, kCount = n + 1 == kTimes ? kGroups - kFirst : Abreast;
    V s[kCount][kSums];
    unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA { no_sums<V, M, Transpose, kFirst + g>(s[g]); });
    unrolled<0, order_of(M)>([&]<int j>() SYLVESTER_LAMBDA {
      const V x = w.template operator()<j>();
      unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA {
        into_sum<V, M, Transpose, kFirst + g, j, (g + j) % 2 != 0>(x, s[g]);
      });
    });
    unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA {
      V y[kGroupRows];
      if constexpr (paired(M)) {
        folded_rows(s[g], y);
      } else {
        plain_rows(s[g], y);
      }
      unrolled<0, kGroupRows>([&]<int k>() SYLVESTER_LAMBDA {
        constexpr int kRow = kPlan<M, Transpose>.rows[kFirst + g][k];
        if constexpr (kRow >= 0) put(kRow, y[k]);
      });
    });
  });
}

// The same of inputs that follow each other in memory
template <class V, int M, bool Transpose, class Put>
SYLVESTER_INLINE void buffered_rows(const typename V::Real* w, const Put& put) {
  constexpr int kAbreast = V::kRegisters >= 16 ? 3 : 1;
  const auto load_kept = [&]<int j>() SYLVESTER_LAMBDA {
    const V x = load<V>(w + j * kLanes);
    return kAbreast == 1 ? x : in_register(x);
  };
  fixed_rows<V, M, Transpose, kAbreast>(load_kept, put);
}

// to = (C + I) w + two·x, rows of to and x stride apart; to may be x. w: the inputs of a folded plan.
template <class V, int M>
__attribute__((noinline)) void paired_rows(const typename V::Real* w, typename V::Real two, const typename V::Real* x,
                                           typename V::Real* to, int64_t stride) {
  const V twos = broadcast<V>(two);
  buffered_rows<V, M, false>(
      w, [&](int k, V y) SYLVESTER_LAMBDA { store(to + k * stride, fma(load<V>(x + k * stride), twos, y)); });
}

// Inputs of both halves of a paired factor, u to w and v to w + to_v
template <class V>
SYLVESTER_INLINE void folded_inputs(const Plan::Pair* pairs, int order, const typename V::Real* in,
                                    typename V::Real* w, int64_t to_v, int64_t stride) {
  const int64_t half = order * stride;
  typename V::Real* to = w + (order - 2) * kLanes;
  // Downwards: rows are stored upwards, and of columns that share few sets of a cache it keeps what was loaded last
  for (int k = (order - 2) / 2; k-- > 0; to -= 2 * kLanes) {
    const typename V::Real *const a = in + pairs[k][0] * stride, *const b = in + pairs[k][1] * stride;
    const V a0 = load<V>(a), a1 = load<V>(a + half), b0 = load<V>(b), b1 = load<V>(b + half);
    const V ua = add(a0, a1), va = sub_fused(a0, a1), ub = add(b0, b1), vb = sub_fused(b0, b1);
    store(to, add(ua, ub));
    store(to + kLanes, sub_fused(ua, ub));
    store(to + to_v, add(va, vb));
    store(to + to_v + kLanes, sub_fused(va, vb));
  }
  for (int k = 0; k < 2; ++k) {
    const V x0 = load<V>(in + k * stride), x1 = load<V>(in + k * stride + half);
    store(w + k * kLanes, add(x0, x1));
    store(w + to_v + k * kLanes, sub_fused(x0, x1));
  }
}

template <int M>
struct Pairs {
  Plan::Pair of[order_of(M) / 2 - 1] = {};
  constexpr Pairs() {
    for (int k = 0; k < order_of(M) / 2 - 1; ++k) {
      for (int n = 0; n < 2; ++n) of[k][n] = kPlan<M, false>.pairs[k][n];
    }
  }
};
template <int M>
constexpr Pairs<M> kPairs;

template <class V, int M>
void paired_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int64_t kOrder = order_of(M), kToV = kOrder * kLanes;
  alignas(64) typename V::Real w[2 * kToV];
  folded_inputs<V>(kPairs<M>.of, kOrder, in, w, kToV, stride);
  paired_rows<V, M>(w, -2, in, out, stride);
  paired_rows<V, M>(w + kToV, 2, in + kOrder * stride, out + kOrder * stride, stride);
}

// m is small: a column is read once, and what registers do not hold is the compiler's to keep
template <class V, int M>
void small_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int kOrder = order_of(M);
  V x[M], w[kOrder];
#pragma GCC unroll 32
  for (int k = 0; k < M; ++k) x[k] = load<V>(in + k * stride);
  const auto half = [&]<bool kV>() SYLVESTER_LAMBDA {
    const auto input = [&](int k) SYLVESTER_LAMBDA {
      return kV ? sub_fused(x[k], x[k + kOrder]) : add(x[k], x[k + kOrder]);
    };
    for (int k = 0; k < 2; ++k) w[k] = input(k);
#pragma GCC unroll 16
    for (int k = 0; k < kOrder / 2 - 1; ++k) {
      const V a = input(kPairs<M>.of[k][0]), b = input(kPairs<M>.of[k][1]);
      w[2 + 2 * k] = add(a, b);
      w[3 + 2 * k] = sub_fused(a, b);
    }
    const auto vectors = [&]<int j>() SYLVESTER_LAMBDA { return w[j]; };
    fixed_rows<V, M, false, 2>(vectors, [&](int k, V y) SYLVESTER_LAMBDA {
      const int row = kV ? k + kOrder : k;
      store(out + row * stride, fma(x[row], broadcast<V>(kV ? 2 : -2), y));
    });
  };
  half.template operator()<false>();
  half.template operator()<true>();
}

template <class V, int M, bool Transpose>
void dense_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  alignas(64) typename V::Real x[M * kLanes];
  for (int k = 0; k < M; ++k) store(x + k * kLanes, load<V>(in + k * stride));
  buffered_rows<V, M, Transpose>(x, [&](int k, V y) SYLVESTER_LAMBDA { store(out + k * stride, y); });
}

// Of input j of each of four circulants, `part` apart: the sums that other rows take, and those that rows j take
template <class V>
SYLVESTER_INLINE void turned_inputs(bool transpose, const typename V::Real* in, int64_t part, V (&sums)[4],
                                    V (&own)[4]) {
  const V x0 = load<V>(in), x1 = load<V>(in + part), x2 = load<V>(in + 2 * part), x3 = load<V>(in + 3 * part);
  const V a = add(x0, x1), b = sub_fused(x1, x0), c = add(x2, x3), d = sub_fused(x2, x3);
  const V odd[] = {add_fused(c, b), sub(c, b), sub_fused(a, d), add(a, d)};
  const V even[] = {add(a, c), sub_fused(a, c), add_fused(b, d), sub(b, d)};
  const V odd_rows[] = {negated(odd[0]), odd[3], odd[1], odd[2]};
  const V even_rows[] = {even[0], even[3], even[2], negated(even[1])};
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    sums[k] = transpose ? even[k] : odd[k];
    own[k] = transpose ? odd_rows[k] : even_rows[k];
  }
}

// Rows i .. i + Count - 1 of each circulant, i = (in - column) / stride: the code for i = 0 with all places moved.
// `again` holds the inputs from 0 on, those before i already.
template <class V, int M, bool Transpose, int Count>
__attribute__((noinline)) void turned_groups(const typename V::Real* w, typename V::Real* again,
                                             const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int kSize = M / 4;
  V s[Count][kSums];
  unrolled<0, 4 * (kSize + Count - 1)>([&]<int n>() SYLVESTER_LAMBDA {
    const V x = Count == 1 ? load<V>(w + n * kLanes) : in_register(load<V>(w + n * kLanes));
    if constexpr (n < 4 * Count) store(again + n * kLanes, x);
    unrolled<0, Count>([&]<int g>() SYLVESTER_LAMBDA {
      if constexpr (n >= 4 * g && n < 4 * g + M) {
        into_sum<V, M, Transpose, 0, n - 4 * g, (g + n) % 2 != 0>(x, s[g]);
      }
    });
  });
#pragma GCC unroll 3
  for (int g = 0; g < Count; ++g) {
    V y[kGroupRows], unused[kGroupRows], own[kGroupRows];
    turned_rows(s[g], y);
    turned_inputs(Transpose, in + g * stride, kSize * stride, unused, own);
#pragma GCC unroll 4
    for (int k = 0; k < kGroupRows; ++k) store(out + (k * kSize + g) * stride, add(own[k], y[k]));
  }
}

template <class V, int M, bool Transpose>
void turned_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int kSize = M / 4, kAbreast = V::kRegisters >= 16 ? 3 : 1;
  alignas(64) typename V::Real w[2 * M * kLanes];
  for (int j = 0; j < kSize; ++j) {
    V sums[4], unused[4];
    turned_inputs(Transpose, in + j * stride, kSize * stride, sums, unused);
    for (int k = 0; k < 4; ++k) store(w + (4 * j + k) * kLanes, sums[k]);
  }
  const auto groups = [&]<int kCount>(int i) SYLVESTER_LAMBDA {
    typename V::Real* const from = w + i * 4 * kLanes;
    turned_groups<V, M, Transpose, kCount>(from, from + M * kLanes, in + i * stride, out + i * stride, stride);
  };
  int i = 0;
  for (; i + kAbreast <= kSize; i += kAbreast) groups.template operator()<kAbreast>(i);
  if constexpr (kAbreast > 1) {
    for (; i < kSize; ++i) groups.template operator()<1>(i);
  }
}

// Every column of blocks of M parts, which are a multiple of 16; in may be out
template <class V, int M, bool Transpose>
void fixed_columns(const typename V::Real* in, typename V::Real* out, int64_t blocks, int64_t part) {
  for (int64_t i = 0; i < blocks * M * part; i += M * part) {
    for (int64_t c = i; c < i + part; c += kLanes) {
      if constexpr (turned(M)) {
        turned_column<V, M, Transpose>(in + c, out + c, part);
      } else if constexpr (!paired(M)) {
        dense_column<V, M, Transpose>(in + c, out + c, part);
      } else if constexpr (V::kRegisters >= 16 && M <= 28) {
        small_column<V, M>(in + c, out + c, part);
      } else {
        paired_column<V, M>(in + c, out + c, part);
      }
    }
  }
}

}  // namespace
