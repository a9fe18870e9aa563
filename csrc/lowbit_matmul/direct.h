// Products that decode weights as they go: some rows of x by some groups of 16 columns, sums in registers all along K.
#pragma once

#include "lowbit_matmul/operands.h"

namespace {

using sylvester::lowbit_matmul::Codes;
using sylvester::lowbit_matmul::kUnitBytes;

// Σ_k u x of kRows rows of x and kGroups groups of W: the kTurn registers of each unit that begin at weights[·]
template <Format format, int kPlaces, int kRows, int kGroups, int kTurn>
struct Direct {
  using Cut = Operands<format, kPlaces>;
  static constexpr int64_t kColumns = sylvester::lowbit_matmul::unit_columns(format);
  static constexpr int kClasses = Cut::kClasses;
  // Dots a class adds in a unit, units until its sums must be emptied, and until those of any but class 0 must
  static constexpr int64_t kPerUnit = (Cut::kCount + kClasses - 1) / kClasses;
  static constexpr int64_t units_of(int c) { return most_dots(Cut::largest(c)) / kPerUnit; }
  static constexpr int64_t kInner = units_of(kClasses - 1), kOuter = units_of(0) / kInner * kInner;
  // Bytes, of all groups: what memory sends before the first of them is here. Few rows of x leave time for little else.
  static constexpr int64_t kFlight = 9 << 10, kAhead = kFlight / kGroups;

  Sums sum[kClasses][kRows][kGroups][kTurn];
  Words total[kRows][kGroups][kTurn];

  template <class Visit>
  static SYLVESTER_INLINE void for_sums(const Visit& visit) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 4
        for (int p = 0; p < kTurn; ++p) visit(r, g, p);
  }
  template <int kFirst>
  SYLVESTER_INLINE void clear() {
    for_constants<kClasses, kFirst>([&](auto c) SYLVESTER_LAMBDA {
      for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { sum[c][r][g][p] = Sums{}; });
    });
  }
  // int16 products are added one by one: the compiler would sum those of a unit first, and run out of registers. Where
  // decoding takes most of the time, its order is no worse.
  static SYLVESTER_INLINE void add(Sums& s, Bytes u, Bytes x) {
    s = dot(s, u, x);
    if (kHalfSums && format != Format::trits && format != Format::int8) s = opaque(s);
  }
  // One row: its codes serve all groups, and each register of weights is used up before the next
  SYLVESTER_INLINE void unit(const int8_t* x, const uint8_t* const* weights, int64_t offset) {
    Bytes codes[Cut::kCount];
    for_constants<Cut::kCount>([&](auto i) SYLVESTER_LAMBDA { codes[i] = quad(x + 4 * Cut::quad_of(i)); });
    for_sums([&](int, int g, int p) SYLVESTER_LAMBDA {
      Cut cut;
      cut.cut(load_bytes(weights[g] + offset + p * kWidth));
      if (p == 0) __builtin_prefetch(weights[g] + offset + kAhead);
      for_constants<Cut::kCount>([&](auto i) SYLVESTER_LAMBDA {
        Sums& s = sum[Cut::class_of(i)][0][g][p];
        add(s, cut.get(i), codes[i]);
      });
    });
  }
  // More rows: an operand serves all of them
  SYLVESTER_INLINE void unit(const int8_t* x, int64_t stride, const uint8_t* const* weights, int64_t offset) {
    Cut cuts[kGroups][kTurn];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      __builtin_prefetch(weights[g] + offset + kAhead);
#pragma GCC unroll 4
      for (int p = 0; p < kTurn; ++p) cuts[g][p].cut(load_bytes(weights[g] + offset + p * kWidth));
    }
    for_constants<Cut::kCount>([&](auto i) SYLVESTER_LAMBDA {
      Bytes u[kGroups][kTurn], codes[kRows];
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g)
#pragma GCC unroll 4
        for (int p = 0; p < kTurn; ++p) u[g][p] = cuts[g][p].get(i);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) codes[r] = quad(x + r * stride + 4 * Cut::quad_of(i));
      for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { add(sum[Cut::class_of(i)][r][g][p], u[g][p], codes[r]); });
    });
  }
  SYLVESTER_INLINE void units(const int8_t* x, int64_t stride, const uint8_t* const* weights, int64_t begin,
                              int64_t end) {
    const auto visit = [&](int64_t i) SYLVESTER_LAMBDA {
      const int8_t* codes = x + i * kColumns;
      if constexpr (kRows == 1) {
        unit(codes, weights, i * kUnitBytes);
      } else {
        unit(codes, stride, weights, i * kUnitBytes);
      }
    };
    if (kRows == 1 && kHalfSums && end - begin == kInner) {  // so short that the loop itself is felt
#pragma GCC unroll 4
      for (int64_t i = 0; i < kInner; ++i) visit(begin + i);
    } else {
      for (int64_t i = begin; i < end; ++i) visit(i);
    }
  }
  // int32 sums of one class may wrap, those of several are shifted before they could
  SYLVESTER_INLINE void run_words(const int8_t* x, int64_t stride, const uint8_t* const* weights, int64_t count) {
    constexpr int64_t kBlock = kClasses == 1 ? INT64_MAX : kInner;
    for (int64_t begin = 0; begin < count; begin += kBlock) {
      clear<0>();
      units(x, stride, weights, begin, count - begin < kBlock ? count : begin + kBlock);
      for_constants<kClasses>([&](auto c) SYLVESTER_LAMBDA {
        for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { total[r][g][p] += Cut::valued(c, sum[c][r][g][p]); });
      });
      if (kClasses == 1) return;
    }
  }
  SYLVESTER_INLINE void run_halves(const int8_t* x, int64_t stride, const uint8_t* const* weights, int64_t count) {
    Words part[kClasses][kRows][kGroups][kTurn];
    for (int64_t outer = 0; outer < count; outer += kOuter) {
      const int64_t outer_end = count - outer < kOuter ? count : outer + kOuter;
      clear<0>();
      for_constants<kClasses>([&](auto c) SYLVESTER_LAMBDA {
        for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { part[c][r][g][p] = Words{}; });
      });
      for (int64_t inner = outer; inner < outer_end; inner += kInner) {
        clear<1>();
        units(x, stride, weights, inner, outer_end - inner < kInner ? outer_end : inner + kInner);
        for_constants<kClasses, 1>([&](auto c) SYLVESTER_LAMBDA {
          for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { part[c][r][g][p] += widen(sum[c][r][g][p]); });
        });
      }
      for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { part[0][r][g][p] = widen(sum[0][r][g][p]); });
      for_constants<kClasses>([&](auto c) SYLVESTER_LAMBDA {
        for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { total[r][g][p] += Cut::valued(c, part[c][r][g][p]); });
      });
    }
  }
  SYLVESTER_INLINE void run(const int8_t* x, int64_t stride, const uint8_t* const* weights, int64_t count) {
    for_sums([&](int r, int g, int p) SYLVESTER_LAMBDA { total[r][g][p] = Words{}; });
    if constexpr (kHalfSums) {
      run_halves(x, stride, weights, count);
    } else {
      run_words(x, stride, weights, count);
    }
  }
};

}  // namespace
