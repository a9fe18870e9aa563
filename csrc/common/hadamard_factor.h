// How a product with H_m is cut into sums: what the kernels of hadamard_across.h add, at every level. (Not H_344:
// hadamard_cubic.h.)
//
// Outputs are made four at a time from eight sums of inputs. With n inputs:
//
//   rows      Any four rows. Up to sign, the column of signs that they have at an input is one of eight, so an input
//             goes into one of eight sums: n/4 + 2 additions an output. (One row after the other takes n − 1.)
//   turned    Williamson's, of four circulants of n = m/4. Signs at a lag t > 0 have the product −a_0 b_0 c_0 d_0, so
//             all rows i take one of the same four sums of inputs j, in which one sign differs from three, and each
//             another: 4 n additions for rows i. At t = 0 they take the other four, of which an even number of signs
//             differ. A group has rows i, a row two sums (odd and even t), and groups are alike but for where they
//             start.
//   folded    Paley's second matrix: with C and u = x0 + x1, v = x0 − x1 of n = m/2 rows, y0 = C u − v = (C + I) u
//             − 2 x0 and y1 = C v + u = (C + I) v + 2 x1. Entries of C + I are c(i − j) with c(−i) = c(i). So with
//             s = w_j + w_−j and d = w_j − w_−j rows ±i are E ± D, to which pair j gives one term: ±s to E where
//             c(i − j) and c(i + j) agree, else ±d to D. Two such pairs of rows are made of four sums for E and four
//             for D. A term that both take is added once, so rows are matched that often take the same: n/6 + 2
//             additions an output.
#pragma once

#include "common/hadamard_matrix.h"

namespace sylvester {

constexpr int kGroupRows = 4, kSums = 8;
constexpr int kMostGroups = (kLargestFound + kGroupRows - 1) / kGroupRows;

constexpr bool paired(int m) { return construction(m) == Construction::paley_two; }
constexpr bool cubic(int m) { return construction(m) == Construction::cubic; }
constexpr bool turned(int m) { return construction(m) == Construction::williamson; }

// Rows and inputs that the sums are made for: m/2 of C + I where the factor is paired
constexpr int order_of(int m) { return paired(m) ? m / 2 : m; }
constexpr int groups_of(int m) {
  return turned(m) ? m / 4 : paired(m) ? (order_of(m) - 2) / 4 + 1 : (m + kGroupRows - 1) / kGroupRows;
}

struct Plan {
  static constexpr uint8_t kNowhere = 2 * kSums;

  // Row k of the four of group g; −1 where another group has it
  int16_t rows[kMostGroups][kGroupRows] = {};
  // The sum that input j of group g goes into, times 2, and 1 where it is subtracted; or kNowhere
  uint8_t place[kMostGroups][kLargestFound] = {};
  // Folded: rows ±i of n. Inputs are w_0, w_1 (the border and 0 of the field), then s and d of pair after pair.
  using Pair = int16_t[2];
  Pair pairs[kMostGroups] = {};
};

// The n-th input that group g adds
constexpr int input_of(int m, int g, int n) { return turned(m) ? (n + 4 * g) % m : n; }

// Signs of the four sums of inputs j that rows take at t > 0: of H_m and of its transpose
constexpr int kTurned[2][4][4] = {{{-1, 1, 1, 1}, {1, -1, 1, 1}, {1, 1, -1, 1}, {1, 1, 1, -1}},
                                  {{1, 1, 1, 1}, {1, 1, -1, -1}, {-1, 1, 1, -1}, {-1, 1, -1, 1}}};

// Makes the plan of H_m, or of its transpose
class Planner {
 public:
  constexpr Planner(int m, bool transpose)
      : m_(m), order_(order_of(m)), groups_(groups_of(m)), kind_(construction(m)), transpose_(transpose) {
    hadamard_matrix(m, h_);
  }
  constexpr Plan plan() {
    kind_ == Construction::paley_two ? fold() : kind_ == Construction::williamson ? turn() : plain();
    return plan_;
  }

 private:
  // Of H or Hᵀ; the upper right part of a paired H is C + I, and symmetric
  constexpr int sign(int i, int j) const {
    return order_ < m_ ? h_[i * m_ + order_ + j] : transpose_ ? h_[j * m_ + i] : h_[i * m_ + j];
  }

  // Sums differ in the signs of the second row (bit 2) and the third (bit 0) and in whether the fourth agrees with the
  // third (bit 1), all relative to the first row.
  constexpr void plain() {
    for (int g = 0; g < groups_; ++g) {
      const int first = g * kGroupRows + kGroupRows <= m_ ? g * kGroupRows : m_ - kGroupRows;
      for (int k = 0; k < kGroupRows; ++k) {
        plan_.rows[g][k] = static_cast<int16_t>(first + k < g * kGroupRows ? -1 : first + k);
      }
      for (int j = 0; j < m_; ++j) {
        const int one = sign(first, j);
        const auto differs = [&](int k) { return sign(first + k, j) != one ? 1 : 0; };
        const int second = differs(1), third = differs(2), fourth = differs(3);
        plan_.place[g][j] = static_cast<uint8_t>(second << 3 | (third ^ fourth) << 2 | third << 1 | (one < 0 ? 1 : 0));
      }
    }
  }

  constexpr void turn() {
    const int size = m_ / 4;
    for (int g = 0; g < size; ++g) {
      for (int k = 0; k < 4; ++k) {
        plan_.rows[g][k] = static_cast<int16_t>(k * size + g);
        plan_.place[g][4 * g + k] = Plan::kNowhere;
      }
      for (int n = 16; n < 4 * m_; ++n) {
        const int lag = n / 16, row = n % 4, sum = n / 4 % 4, j = (g + lag) % size;
        int agreed = 0;
        for (int k = 0; k < 4; ++k) agreed += sign(row * size + g, k * size + j) * kTurned[transpose_][sum][k];
        if (agreed != 4 && agreed != -4) continue;
        plan_.place[g][4 * j + sum] = static_cast<uint8_t>((2 * row + lag % 2) << 1 | (agreed < 0 ? 1 : 0));
      }
    }
  }

  // Whether row i takes s of a pair
  constexpr bool even(int i, int pair) const { return sign(i, plan_.pairs[pair][0]) == sign(i, plan_.pairs[pair][1]); }

  // Of the first sums (two rows of E), or of the last (D): terms are 1, −1 or 0
  static constexpr uint8_t two_rows(int first, int second, bool last) {
    if (first == 0 && second == 0) return Plan::kNowhere;
    const int sum = first == 0 ? 1 : second == 0 ? 0 : first == second ? 2 : 3;
    return static_cast<uint8_t>((sum + (last ? kSums / 2 : 0)) << 1 |
                                (first < 0 || (first == 0 && second < 0) ? 1 : 0));
  }

  constexpr void group(int g, int a, int b) {
    for (int j = 0; j < 2; ++j) plan_.place[g][j] = two_rows(sign(a, j), sign(b, j), false);
    for (int k = 0; k < (order_ - 2) / 2; ++k) {
      const auto term = [&](int row, bool s) { return even(row, k) == s ? sign(row, plan_.pairs[k][0]) : 0; };
      plan_.place[g][2 + 2 * k] = two_rows(term(a, true), term(b, true), false);
      plan_.place[g][3 + 2 * k] = two_rows(term(a, false), term(b, false), true);
    }
  }

  constexpr void fold() {
    const Character character(order_ - 1);
    const int count = (order_ - 2) / 2;
    for (int e = 1, k = 0; k < count; ++e) {
      if (character.negative(e) < e) continue;
      plan_.pairs[k][0] = static_cast<int16_t>(1 + e);
      plan_.pairs[k++][1] = static_cast<int16_t>(1 + character.negative(e));
    }
    bool taken[kMostGroups] = {}, takes_s[kMostGroups][kMostGroups] = {};
    for (int a = 0; a < count; ++a) {
      for (int k = 0; k < count; ++k) takes_s[a][k] = even(plan_.pairs[a][0], k);
    }
    int g = 0;
    for (int a = 0; a < count; ++a) {
      if (taken[a]) continue;
      int best = -1, most = -1;
      for (int b = a + 1; b < count; ++b) {
        if (taken[b]) continue;
        int agreed = 0;
        for (int k = 0; k < count; ++k) agreed += takes_s[a][k] == takes_s[b][k] ? 1 : 0;
        if (agreed > most) best = b, most = agreed;
      }
      taken[best] = true;
      group(g, plan_.pairs[a][0], plan_.pairs[best][0]);
      for (int k = 0; k < kGroupRows; ++k) plan_.rows[g][k] = plan_.pairs[k < 2 ? a : best][k % 2];
      ++g;
    }
    // Rows 0 and 1 have no D
    group(g, 0, 1);
    for (int k = 0; k < kGroupRows; ++k) plan_.rows[g][k] = static_cast<int16_t>(k % 2 == 0 ? k / 2 : -1);
  }

  int m_, order_, groups_;
  Construction kind_;
  bool transpose_;
  int8_t h_[kLargestFound * kLargestFound] = {};
  Plan plan_;
};

struct FactorSums {
  int m;
  int order;
  bool transpose;
  const Plan* plan;
  // For every group: how many terms its longest sum has, then as many rows of a term for each of the eight sums, four
  // 16-bit terms a word. A term is the number of an input, plus `order` where it is subtracted; 2·order stands for −0,
  // which changes no sum.
  const uint64_t* words;
};

// Sums of H_m, or of its transpose; null for a power of two, without plan and words for 344, which has none. block must
// have a factor. Made once, kept for good.
const FactorSums* factor_sums(int64_t block, bool transpose);

}  // namespace sylvester
