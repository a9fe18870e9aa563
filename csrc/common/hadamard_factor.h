// How a product with H_m is cut into sums: what the kernels of hadamard_across.h read.
//
// Rows are taken four at a time. Up to sign, the column of signs that four rows have at an input is one of eight, so an
// input goes into one of eight sums and the four outputs are made of these with 16 additions: m/4 + 2 additions an
// output where one row after the other takes m − 1. Paley's second matrix is smaller still: with C and u = x0 + x1,
// v = x0 − x1 of m/2 rows, y0 = C u − v = (C + I) u − 2 x0 and y1 = C v + u = (C + I) v + 2 x1: m/8 + 4.
#pragma once

#include "common/hadamard_matrix.h"

namespace sylvester {

constexpr int kGroupRows = 4, kSums = 8;

// Group g has rows start .. start + 3 and is there for rows 4g .. start + 3: the last one may start earlier.
constexpr int groups_of(int order) { return (order + kGroupRows - 1) / kGroupRows; }
constexpr int group_start(int order, int group) {
  return group * kGroupRows + kGroupRows <= order ? group * kGroupRows : order - kGroupRows;
}

// The sum of rows i .. i + 3 that input j goes into, times 2, and 1 where it is subtracted. Sums differ in the signs of
// rows i + 1 (bit 2) and i + 2 (bit 0) and in whether i + 3 agrees with i + 2 (bit 1), all relative to row i.
// sign(i, j): an entry of a ±1 matrix.
template <class Sign>
constexpr int place_of(const Sign& sign, int i, int j) {
  const int first = sign(i, j);
  const auto differs = [&](int row) { return sign(row, j) != first ? 1 : 0; };
  const int second = differs(i + 1), third = differs(i + 2), fourth = differs(i + 3);
  return second << 3 | (third ^ fourth) << 2 | third << 1 | (first < 0 ? 1 : 0);
}

constexpr bool paired(int m) { return construction(m) == Construction::paley_two; }

// Rows of the ±1 matrix that the sums are made for: C + I where the factor is paired, else H or its transpose
constexpr int order_of(int m) { return paired(m) ? m / 2 : m; }

// ... and its entries; the upper right part of a paired H is C + I, and symmetric
constexpr int entry_of_sums(const int8_t* h, int m, bool transpose, int i, int j) {
  return paired(m) ? h[i * m + m / 2 + j] : transpose ? h[j * m + i] : h[i * m + j];
}

struct FactorSums {
  int m;
  int order;
  bool transpose;
  // For every group: how many terms its longest sum has, then as many rows of a term for each of the eight sums, four
  // 16-bit terms a word. A term is the number of an input, plus `order` where it is subtracted; 2·order stands for −0,
  // which changes no sum. A sum has its inputs in ascending order.
  const uint64_t* words;
};

// Sums of H_m, or of its transpose; null for a power of two. block must have a factor. Made once, kept for good.
const FactorSums* factor_sums(int64_t block, bool transpose);

}  // namespace sylvester
