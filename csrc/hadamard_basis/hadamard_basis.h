// Products of a basis P_j = W^j [U b] with the inputs: h_T = Σ_j P_j x_{T-1-j}. What hadamard_basis.cpp runs beside the
// recurrence of hadamard_scan, which makes the basis itself, a block of C steps at a time:
//
//   basis    (C, I, P)   P_j[i] at step j and input i; rows lie an odd number of cache lines apart, so that a panel of
//                        columns is spread over all sets of a cache
//   sums     (B, P)      Σ_j Σ_i x[b, T-1-j, i] · P_j[i] so far: every element is one chain of fma in ascending (j, i),
//                        carried through memory between blocks, so its bits know neither blocks nor batch nor level
//   packed   (m / R, depth, R)  the left factor in groups of R rows, R ≤ kUnit chosen by the level and what is left
//
// c[m][n] (+)= Σ_r a[r][m] · b[r][n] is the one product: forward m = b, r = (j, i); gradient of the basis m = (j, i),
// r = b; gradient of the drive m = (j, i), r = d. Bottleneck: m · n · depth / 16 fused multiply-adds of 16 floats; 12
// rows by 2 vectors need 14 loads for 24 of them. Columns are padded to 16 by the caller: there are no tails in n.
//
// One thread, no allocation, noexcept.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/select.h"

namespace sylvester::hadamard_basis {

constexpr int64_t kUnit = 12;           // rows that are packed together: a multiple of every level's group
constexpr int64_t kRowBlock = 96;       // an item of a product: this many rows of c ...
constexpr int64_t kColumnBlock = 32;    // ... by this many columns
constexpr int64_t kLookupColumns = 32;  // an item of a lookup

// count places in memory, in elements: k lies at (k / inner) · outer_step + (k % inner) · inner_step
struct Axis {
  int64_t count, inner, outer_step, inner_step;

  static constexpr Axis even(int64_t count, int64_t step) { return {count, count > 0 ? count : 1, 0, step}; }
  constexpr int64_t at(int64_t k) const {
    return inner == count ? k * inner_step : k / inner * outer_step + k % inner * inner_step;
  }
};

struct Pack {
  const void* from;
  Dtype dtype;
  Axis rows, depth;
  void* to;
  Dtype real;
};

struct Product {
  const void* a;  // packed
  const void* b;
  void* c;
  Axis b_rows, c_rows;
  int64_t columns;
  bool add;  // to what c holds; else it is overwritten
  Dtype real;
};

struct Unpack {
  const void* from;  // rows of Real, row apart
  int64_t row;
  void* to;
  Dtype dtype;
  Axis rows, columns;
  Dtype real;
};

// Tokens of steps × batch, and the basis rows and the sums that they join
struct Lookup {
  const int64_t* tokens;  // token (j, b) at j · step + b · row
  int64_t step, row, steps, batch;
  void* basis;  // row (j, v) at j · basis_step + v · basis_row
  int64_t basis_step, basis_row;
  void* sums;
  int64_t sums_row, columns;
  Dtype real;
};

struct Kernels {
  // Rows [first, last), first a multiple of kUnit
  void (*pack)(const Pack& pack, int64_t first, int64_t last) noexcept;
  // Item i: block i % row blocks of rows and block i / row blocks of columns
  void (*multiply)(const Product& product, int64_t item) noexcept;
  void (*unpack)(const Unpack& unpack, int64_t first, int64_t last) noexcept;
  // Columns [first, last), multiples of 16. gather: sums[b] += Σ_j basis[j][token]; scatter: basis[j][token] += sums[b]
  void (*gather)(const Lookup& lookup, int64_t first, int64_t last) noexcept;
  void (*scatter)(const Lookup& lookup, int64_t first, int64_t last) noexcept;
};

SYLVESTER_LEVELS(Kernels)

}  // namespace sylvester::hadamard_basis
