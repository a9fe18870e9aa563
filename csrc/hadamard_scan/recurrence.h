// A time tile of the recurrence, by the place where the state fits: registers, two blocks of L1 in turn, or L1.
#pragma once

#include "hadamard_scan/drive.h"
#include "hadamard_scan/pipelined.h"

namespace {

// States of `Rows` rows in registers through the tile: full Hadamard widths up to the register block. Several narrow
// rows at once hide the latency of a step, which is a chain of log2(D) butterflies.
template <class V, Mode mode, Out kOut, int Log2Width, int Rows>
struct InRegisters {
  using Real = typename V::Real;
  static constexpr int kVectors = 1 << (Log2Width - 4);
  const Coefficients<V> c;   // a copy: behind a reference every store would make the compiler reload it
  const Real* const* drive;  // of each row
  const Real* const* ahead;
  Real* const* out;
  V state[kVectors * Rows];

  SYLVESTER_INLINE V load(int64_t i) const { return state[i / kLanes]; }
  SYLVESTER_INLINE void store(int64_t i, V y) {
    const int64_t row = i / kLanes / kVectors, at = i - row * kVectors * kLanes;
    state[i / kLanes] = c.template next<mode, kOut>(y, at, drive[row], ahead[row], out[row]);
  }
};

template <class V, Mode mode, Out kOut, int Log2Width, int Rows>
void run_in_registers(const Coefficients<V>& c, typename V::Real* const* states, const Steps<typename V::Real>& steps,
                      int64_t r0, int64_t first, int64_t count) {
  using Real = typename V::Real;
  const Real *drive[Rows], *ahead[Rows];
  Real* out[Rows];
  InRegisters<V, mode, kOut, Log2Width, Rows> row{c, drive, ahead, out, {}};
  constexpr int kVectors = decltype(row)::kVectors;
#pragma GCC unroll 16
  for (int v = 0; v < kVectors * Rows; ++v) row.state[v] = load<V>(states[r0 + v / kVectors] + v % kVectors * kLanes);
  for (int64_t k = first; k < count; ++k) {
    if (Rows == 1 && steps.lazy_x != nullptr) {
      mix<V>(steps.lazy_x + k * steps.lazy_inputs, steps.lazy_inputs, 1, steps.lazy_inputs, steps.lazy_weight,
             kVectors * kLanes, steps.lazy_z + k * kVectors * kLanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      drive[r] = steps.drive[r0 + r][k];
      ahead[r] = steps.ahead[r0 + r][k];
      if constexpr (kOut != Out::none) out[r] = steps.out[r0 + r][k];
    }
    register_block<V, Log2Width, kVectors * Rows>(row, 0);
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors * Rows; ++v) store(states[r0 + v / kVectors] + v % kVectors * kLanes, row.state[v]);
}

template <class V, Mode mode, Out kOut, int Log2Width>
void run_width(const Coefficients<V>& c, typename V::Real* const* states, const Steps<typename V::Real>& steps,
               int64_t first, int64_t count, int64_t rows) {
  constexpr int kFit = static_cast<int>(kRegisterBlock<V> >> Log2Width);
  constexpr int kRows = kFit < kMaxTileRows ? kFit : static_cast<int>(kMaxTileRows);
  if constexpr (kRows > 1) {
    if (rows == kRows) return run_in_registers<V, mode, kOut, Log2Width, kRows>(c, states, steps, 0, first, count);
  } else if constexpr (kTakesTurns<V>) {
    if (rows > 1) return run_in_turns<V, mode, kOut, Log2Width>(c, states, steps, first, count, rows);
  }
  for (int64_t r = 0; r < rows; ++r) {
    run_in_registers<V, mode, kOut, Log2Width, 1>(c, states, steps, r, first, count);
  }
}

// The state of a row stays in registers
template <class V>
bool is_in_registers(const Problem& p) {
  return kVectorUnits<V> && p.block == p.width && p.width >= kLanes && p.width <= kRegisterBlock<V>;
}

constexpr int64_t kRowsInTurn = 4;

// Register blocks that make a row of one Hadamard block; 0 where none do
template <class V>
int64_t blocks_of(const Problem& p) {
  return kVectorUnits<V> && p.block == p.width ? p.width / kRegisterBlock<V> : 0;
}

// How many rows run() likes to get at once
template <class V>
int64_t group_rows(const Problem& p) {
  if (blocks_of<V>(p) == 2 || blocks_of<V>(p) == 4) return kRowsInTurn;
  if (!is_in_registers<V>(p)) return 1;
  const int64_t fit = kRegisterBlock<V> / p.width;
  if (kTakesTurns<V> && fit == 1) return kRowsInTurn;
  return fit < kMaxTileRows ? fit : kMaxTileRows;
}

// One text for all modes: the scalar level is there to be right, and quick to compile
template <class V>
__attribute__((noinline)) void transform(typename V::Real* work, typename V::Real* state, const Problem& p) {
  Plain<V> row{state, state};
  hadamard_row<V>(work, row, p.padded, p.block);
}

// Steps [first, count) of the tile for rows rows, in the order of the pointers
template <class V, Mode mode, Out kOut>
void run(const Problem& p, typename V::Real* work, typename V::Real* const* states,
         const Steps<typename V::Real>& steps, int64_t first, int64_t count, int64_t rows) {
  const Coefficients<V> c(p);
  if constexpr (kVectorUnits<V>) {  // the scalar level is for comparing: small before fast
    if (p.block == p.width) {
      switch (p.width) {
        case 16: return run_width<V, mode, kOut, 4>(c, states, steps, first, count, rows);
        case 32: return run_width<V, mode, kOut, 5>(c, states, steps, first, count, rows);
        case 64: return run_width<V, mode, kOut, 6>(c, states, steps, first, count, rows);
        default: break;
      }
      if constexpr (V::kRegisters >= 16) {
        if (p.width == 128) return run_width<V, mode, kOut, 7>(c, states, steps, first, count, rows);
        if (p.width == 256) return run_width<V, mode, kOut, 8>(c, states, steps, first, count, rows);
      }
    }
    if (blocks_of<V>(p) == 2) return run_wide<V, mode, kOut, 2>(c, work, states, steps, first, count, rows);
    if (blocks_of<V>(p) == 4) return run_wide<V, mode, kOut, 4>(c, work, states, steps, first, count, rows);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = first; k < count; ++k) {
      const auto *drive = steps.drive[r][k], *ahead = steps.ahead[r][k];
      auto* out = kOut != Out::none ? steps.out[r][k] : nullptr;
      InMemory<V, mode, kOut> row{c, states[r], drive, ahead, out};
      if constexpr (kVectorUnits<V>) {
        hadamard_row<V>(work, row, p.padded, p.block);
      } else {
        transform<V>(work, states[r], p);
        for (int64_t i = 0; i < p.padded; i += kLanes) row.store(i, row.load(i));
      }
    }
  }
}

}  // namespace
