// Sums of a factor's inputs and rows of these sums, unrolled: which sum an input goes into (hadamard_factor.h) is known
// when this is compiled. Eight sums for each of three groups of rows stay in registers while the inputs stream by.
#pragma once

#include "common/hadamard.h"
#include "common/hadamard_factor.h"

namespace {

using sylvester::groups_of;
using sylvester::kGroupRows;
using sylvester::kSums;
using sylvester::order_of;
using sylvester::paired;
using sylvester::Plan;

template <int... n>
struct Numbers {};
template <int Count, int... n>
struct NumbersBelow : NumbersBelow<Count - 1, Count - 1, n...> {};
template <int... n>
struct NumbersBelow<0, n...> {
  using Type = Numbers<n...>;
};

// f.operator()<From>() .. f.operator()<To - 1>(), without a tree of calls, which takes the compiler a fifth longer
template <int From, int To, class F>
SYLVESTER_INLINE void unrolled(const F& f) {
  [&]<int... n>(Numbers<n...>)
      SYLVESTER_LAMBDA { (f.template operator()<From + n>(), ...); }(typename NumbersBelow<To - From>::Type());
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

// Two rows of E, or of D, of the four sums s[kFirst] ..
template <int kFirst, class V>
SYLVESTER_INLINE void folded_half(const V (&s)[kSums], V (&rows)[2]) {
  rows[0] = add_fused(s[kFirst], add(s[kFirst + 2], s[kFirst + 3]));
  rows[1] = add(s[kFirst + 1], sub_fused(s[kFirst + 2], s[kFirst + 3]));
}
// E ± D
template <class V>
SYLVESTER_INLINE void folded_rows(const V (&e)[2], const V (&d)[2], V (&y)[kGroupRows]) {
#pragma GCC unroll 2
  for (int n = 0; n < 2; ++n) {
    y[2 * n] = add(e[n], d[n]);
    y[2 * n + 1] = sub_fused(e[n], d[n]);
  }
}

template <class V>
SYLVESTER_INLINE void folded_rows(const V (&s)[kSums], V (&y)[kGroupRows]) {
  V e[2], d[2];
  folded_half<0>(s, e);
  folded_half<kSums / 2>(s, d);
  folded_rows(e, d, y);
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

// Of parts of a vector, for registers are few, a pass takes the inputs of E, another those of D
template <class P, int M>
constexpr bool kInPasses = paired(M) && kLanesOf<P> < kLanes;
// Abreast groups share their loads, and the last of them those of one group more; in passes, where one more would have
// no registers, some share with one less
template <class P, int M, int Abreast>
constexpr int kTimes =
    kInPasses<P, M> || Abreast == 1 ? (groups_of(M) + Abreast - 1) / Abreast : (groups_of(M) + Abreast - 2) / Abreast;
// Of the n-th of kTimes
template <class P, int M, int Abreast>
constexpr int first_group(int n) {
  constexpr int kEnd = kTimes<P, M, Abreast>;
  return kInPasses<P, M> ? n * groups_of(M) / kEnd : n < kEnd ? n * Abreast : groups_of(M);
}

// Inputs j of w that kTaken(j) says go into the sums of groups from First on
template <class P, int M, bool Transpose, int First, int kCount, class Taken, class Vectors>
SYLVESTER_INLINE void sum_up(const Taken&, const Vectors& w, P (&s)[kCount][kSums]) {
  unrolled<0, order_of(M)>([&]<int j>() SYLVESTER_LAMBDA {
    if constexpr (Taken{}(j)) {
      constexpr bool kOdd = (kInPasses<P, M> ? j / 2 : j) % 2 != 0;
      const P x = w(j);  // groups written out: a function for each of them at every input is a quarter of the compiling
      into_sum<P, M, Transpose, First, j, kOdd>(x, s[0]);
      if constexpr (kCount > 1) into_sum<P, M, Transpose, First + 1, j, !kOdd>(x, s[1]);
      if constexpr (kCount > 2) into_sum<P, M, Transpose, First + 2, j, kOdd>(x, s[2]);
      if constexpr (kCount > 3) into_sum<P, M, Transpose, First + 3, j, !kOdd>(x, s[3]);
    }
  });
}

// put(k, row k, t) of inputs w(j, t), t < Inputs; after(n) when the n-th of kTimes has its rows. Inputs take
// turns at a piece of code that the CPU keeps decoded: all of it, of large orders, would come from the instruction
// cache every time.
template <class P, int M, bool Transpose, int Abreast, int Inputs, class Vectors, class Put, class After>
SYLVESTER_INLINE void fixed_rows(const Vectors& w, const Put& put, const After& after) {
  unrolled<0, kTimes<P, M, Abreast>>([&]<int n>() SYLVESTER_LAMBDA {
    constexpr int kFirst = first_group<P, M, Abreast>(n), kCount = first_group<P, M, Abreast>(n + 1) - kFirst;
    static_assert(kCount <= 4);
    for (int t = 0; t < Inputs; ++t) {
      const auto input = [&](int j) SYLVESTER_LAMBDA { return w(j, t); };
      P s[kCount][kSums], e[kCount][2];
      unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA { no_sums<P, M, Transpose, kFirst + g>(s[g]); });
      const auto sums = [&](const auto& taken)
                            SYLVESTER_LAMBDA { sum_up<P, M, Transpose, kFirst, kCount>(taken, input, s); };
      if constexpr (kInPasses<P, M>) {
        sums([](int j) { return j < 2 || j % 2 == 0; });
        unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA { folded_half<0>(s[g], e[g]); });
        sums([](int j) { return j >= 2 && j % 2 != 0; });
      } else {
        sums([](int) { return true; });
      }
      unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA {
        P y[kGroupRows];
        if constexpr (kInPasses<P, M>) {
          P d[2];
          folded_half<kSums / 2>(s[g], d);
          folded_rows(e[g], d, y);
        } else if constexpr (paired(M)) {
          folded_rows(s[g], y);
        } else {
          plain_rows(s[g], y);
        }
        unrolled<0, kGroupRows>([&]<int k>() SYLVESTER_LAMBDA {
          constexpr int kRow = kPlan<M, Transpose>.rows[kFirst + g][k];
          if constexpr (kRow >= 0) put(kRow, y[k], t);
        });
      });
    }
    after(n);
  });
}

template <class P, int M>
constexpr int kAbreast = P::kRegisters >= 16 || kInPasses<P, M> ? 3 : 1;

// The same of inputs that follow each other in memory
template <class P, int M, bool Transpose, int Inputs, class Put, class After>
SYLVESTER_INLINE void buffered_rows(const typename P::Real* w, const Put& put, const After& after) {
  const auto load_kept = [&](int j, int t) SYLVESTER_LAMBDA {
    const P x = load<P>(w + (t * order_of(M) + j) * kLanesOf<P>);
    return kAbreast<P, M> == 1 ? x : in_register(x);
  };
  fixed_rows<P, M, Transpose, kAbreast<P, M>, Inputs>(load_kept, put, after);
}

}  // namespace
