// H_m across the parts of a block for orders that models have, unrolled at the vector levels: which sum an input goes
// into is known when this is compiled.
//
// Eight sums for each of three groups of rows stay in registers while the inputs stream by. Count, an element: m/8 + 4
// additions, half of them on the multiply pipes (m/4 + 2 where the factor is not paired); m/24 + 2 loads and 2 stores.
#pragma once

#include "common/hadamard.h"
#include "common/hadamard_factor.h"

namespace {

using sylvester::group_start;
using sylvester::groups_of;
using sylvester::kGroupRows;
using sylvester::kSums;
using sylvester::paired;

// f.operator()<From>() .. f.operator()<To - 1>()
template <int From, int To, class F>
SYLVESTER_INLINE void unrolled(const F& f) {
  if constexpr (To - From == 1) {
    f.template operator()<From>();
  } else if constexpr (From < To) {
    constexpr int kMiddle = (From + To) / 2;
    unrolled<From, kMiddle>(f);
    unrolled<kMiddle, To>(f);
  }
}

// Four rows of their sums (place_of); with what follows, half of it on the multiply pipes
template <class V>
SYLVESTER_INLINE void rows_of_sums(const V (&s)[kSums], V (&y)[kGroupRows]) {
  const V same = add(add(s[0], s[1]), add(s[2], s[3])), other = add(add(s[4], s[5]), add(s[6], s[7]));
  const V agree = add(sub_fused(s[0], s[1]), sub_fused(s[4], s[5]));
  const V differ = add(sub_fused(s[2], s[3]), sub_fused(s[6], s[7]));
  y[0] = add(same, other);
  y[1] = sub_fused(same, other);
  y[2] = add(agree, differ);
  y[3] = sub_fused(agree, differ);
}

template <class V>
SYLVESTER_INLINE V negated(V v) {
  return flip(v, broadcast<V>(-typename V::Real{0}));
}

// The places of every group, and for each sum the first input that goes into it (−1: none)
template <int M, bool Transpose>
struct Places {
  static constexpr int kOrder = sylvester::order_of(M), kGroups = groups_of(kOrder);
  uint8_t of[kGroups][kOrder] = {};
  int16_t first[kGroups][kSums] = {};
  constexpr Places() {
    int8_t matrix[M * M] = {};
    sylvester::hadamard_matrix(M, matrix);
    const auto sign = [&](int i, int j) { return sylvester::entry_of_sums(matrix, M, Transpose, i, j); };
    for (int g = 0; g < kGroups; ++g) {
      for (int16_t& first_of_sum : first[g]) first_of_sum = -1;
      for (int j = kOrder; j-- > 0;) {
        of[g][j] = static_cast<uint8_t>(sylvester::place_of(sign, group_start(kOrder, g), j));
        first[g][of[g][j] / 2] = static_cast<int16_t>(j);
      }
    }
  }
};
template <int M, bool Transpose>
constexpr Places<M, Transpose> kPlaces;

// Sums of groups Group, Group + 1, ... of the inputs w<j>(); every second addition goes to the multiply
// pipes. Kept in registers: the compiler would put a sum off until it is used, and keep all its terms until then.
template <class V, const auto& kOf, int Group, int Count, class Vectors>
SYLVESTER_INLINE void group_sums(const Vectors& w, V (&s)[Count][kSums]) {
#pragma GCC unroll 32
  for (int n = 0; n < Count * kSums; ++n) {
    if (kOf.first[Group + n / kSums][n % kSums] < 0) s[n / kSums][n % kSums] = negated(zero<V>());
  }
  unrolled<0, kOf.kOrder>([&]<int j>() SYLVESTER_LAMBDA {
    const V x = w.template operator()<j>();
    unrolled<0, Count>([&]<int g>() SYLVESTER_LAMBDA {
      constexpr int kPlace = kOf.of[Group + g][j];
      constexpr bool kMinus = kPlace % 2 != 0;
      V& sum = s[g][kPlace / 2];
      if constexpr (kOf.first[Group + g][kPlace / 2] == j) {
        sum = kMinus ? negated(x) : x;
      } else if constexpr ((g + j) % 2 != 0) {
        sum = in_register(kMinus ? sub_fused(sum, x) : add_fused(sum, x));
      } else {
        sum = in_register(kMinus ? sub(sum, x) : add(sum, x));
      }
    });
  });
}

// put(k, row k); Abreast groups share the loads of w
template <class V, const auto& kOf, int Abreast, class Vectors, class Put>
SYLVESTER_INLINE void fixed_rows(const Vectors& w, const Put& put) {
  unrolled<0, (kOf.kGroups + Abreast - 1) / Abreast>([&]<int n>() SYLVESTER_LAMBDA {
    constexpr int kGroup = n * Abreast, kCount = kGroup + Abreast <= kOf.kGroups ? Abreast : kOf.kGroups - kGroup;
    V s[kCount][kSums];
    group_sums<V, kOf, kGroup>(w, s);
    unrolled<0, kCount>([&]<int g>() SYLVESTER_LAMBDA {
      constexpr int kRow = (kGroup + g) * kGroupRows, kStart = group_start(kOf.kOrder, kGroup + g);
      V y[kGroupRows];
      rows_of_sums(s[g], y);
#pragma GCC unroll 4
      for (int k = kRow; k < kStart + kGroupRows; ++k) put(k, y[k - kStart]);
    });
  });
}

// The same of inputs that follow each other in memory
template <class V, const auto& kOf, class Put>
SYLVESTER_INLINE void buffered_rows(const typename V::Real* w, const Put& put) {
  constexpr int kAbreast = V::kRegisters >= 16 ? 3 : 1;
  const auto load_kept = [&]<int j>() SYLVESTER_LAMBDA {
    const V x = load<V>(w + j * kLanes);
    return kAbreast == 1 ? x : in_register(x);
  };
  fixed_rows<V, kOf, kAbreast>(load_kept, put);
}

// to = (C + I) w + two·x, rows of to and x stride apart; to may be x
template <class V, const auto& kOf>
__attribute__((noinline)) void paired_rows(const typename V::Real* w, typename V::Real two, const typename V::Real* x,
                                           typename V::Real* to, int64_t stride) {
  const V twos = broadcast<V>(two);
  buffered_rows<V, kOf>(
      w, [&](int k, V y) SYLVESTER_LAMBDA { store(to + k * stride, fma(load<V>(x + k * stride), twos, y)); });
}

// m is small: a column is read once, and what registers do not hold is the compiler's to keep
template <class V, const auto& kOf>
void small_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int kOrder = kOf.kOrder;
  V x[2 * kOrder], w[kOrder];
#pragma GCC unroll 32
  for (int k = 0; k < 2 * kOrder; ++k) x[k] = load<V>(in + k * stride);
  const auto vectors = [&]<int j>() SYLVESTER_LAMBDA { return w[j]; };
#pragma GCC unroll 16
  for (int k = 0; k < kOrder; ++k) w[k] = add(x[k], x[k + kOrder]);
  fixed_rows<V, kOf, 1>(vectors,
                        [&](int k, V y) SYLVESTER_LAMBDA { store(out + k * stride, fma(x[k], broadcast<V>(-2), y)); });
#pragma GCC unroll 16
  for (int k = 0; k < kOrder; ++k) w[k] = sub_fused(x[k], x[k + kOrder]);
  fixed_rows<V, kOf, 1>(vectors, [&](int k, V y) SYLVESTER_LAMBDA {
    store(out + (k + kOrder) * stride, fma(x[k + kOrder], broadcast<V>(2), y));
  });
}

template <class V, const auto& kOf>
__attribute__((noinline)) void paired_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  constexpr int kOrder = kOf.kOrder;
  alignas(64) typename V::Real u[kOrder * kLanes], v[kOrder * kLanes];
  for (int k = 0; k < kOrder; ++k) {
    const V a = load<V>(in + k * stride), b = load<V>(in + (k + kOrder) * stride);
    store(u + k * kLanes, add(a, b));
    store(v + k * kLanes, sub_fused(a, b));
  }
  paired_rows<V, kOf>(u, -2, in, out, stride);
  paired_rows<V, kOf>(v, 2, in + kOrder * stride, out + kOrder * stride, stride);
}

template <class V, const auto& kOf>
void dense_column(const typename V::Real* in, typename V::Real* out, int64_t stride) {
  alignas(64) typename V::Real x[kOf.kOrder * kLanes];
  for (int k = 0; k < kOf.kOrder; ++k) store(x + k * kLanes, load<V>(in + k * stride));
  buffered_rows<V, kOf>(x, [&](int k, V y) SYLVESTER_LAMBDA { store(out + k * stride, y); });
}

// Every column of blocks of M parts, which are a multiple of 16; in may be out
template <class V, int M, bool Transpose>
void fixed_columns(const typename V::Real* in, typename V::Real* out, int64_t blocks, int64_t part) {
  constexpr int kOrder = kPlaces<M, Transpose>.kOrder;
  for (int64_t i = 0; i < blocks * M * part; i += M * part) {
    for (int64_t c = i; c < i + part; c += kLanes) {
      if constexpr (kOrder == M) {
        dense_column<V, kPlaces<M, Transpose>>(in + c, out + c, part);
      } else if constexpr (V::kRegisters >= 16 && kOrder <= 14) {
        small_column<V, kPlaces<M, Transpose>>(in + c, out + c, part);
      } else {
        paired_column<V, kPlaces<M, Transpose>>(in + c, out + c, part);
      }
    }
  }
}

}  // namespace
