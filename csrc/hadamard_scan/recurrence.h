// The recurrence itself: forward, adjoint and rebuild are one kernel that differs in where signs are flipped.
//
//   forward   h ← s∘S̃h + (z + b)          out h
//   adjoint   μ ← s∘λ, λ = S̃μ + g         out λ      (s Wᵀ s = W: the adjoint runs the same transform)
//   rebuild   r ← s∘(S̃r − (z + b))        out r      (h_{t-1} = S̃ r_t with r_t = s∘(h_t − z_t − b))
#pragma once

#include "common/hadamard.h"
#include "hadamard_scan/hadamard_scan.h"

namespace {

using sylvester::hadamard_scan::kMaxTileRows;
using sylvester::hadamard_scan::kMaxTileSteps;
using sylvester::hadamard_scan::Problem;

enum class Mode { forward, adjoint, rebuild };

// Where a step's output goes. Streaming stores go around the caches: they save reading the lines first, and pay when
// the whole output does not fit the caches anyway.
enum class Out { none, cached, streamed };

template <class V>
struct Coefficients {
  using Real = typename V::Real;
  const Real* sign;
  const Real* bias;
  const Real* signed_hi;
  const Real* signed_lo;
  V hi, lo;

  explicit Coefficients(const Problem& p)
      : sign(static_cast<const Real*>(p.sign)),
        bias(sign + p.padded),
        signed_hi(sign + 2 * p.padded),
        signed_lo(sign + 3 * p.padded),
        hi(broadcast<V>(static_cast<Real>(p.scale.hi))),
        lo(broadcast<V>(static_cast<Real>(p.scale.lo))) {}

  // One step's epilogue for elements [i, i + 16): y is the unscaled transform. `ahead` is where the next row's or
  // tile's drive lies: rows are far apart in memory, and no hardware prefetcher follows them.
  template <Mode mode, Out kind>
  SYLVESTER_INLINE V next(V y, int64_t i, const Real* drive, const Real* ahead, Real* out) const {
    const V z = load<V>(drive + i);
    __builtin_prefetch(ahead + i, 0, 2);
    V result, state;
    if constexpr (mode == Mode::forward) {
      const V zb = add(z, load<V>(bias + i));
      result = state = fma(y, load<V>(signed_hi + i), fma(y, load<V>(signed_lo + i), zb));
    } else if constexpr (mode == Mode::adjoint) {
      result = fma(y, hi, fma(y, lo, z));
      state = flip(result, load<V>(sign + i));
    } else {
      const V zb = add(z, load<V>(bias + i));
      result = state = flip(fma(y, hi, fms(y, lo, zb)), load<V>(sign + i));
    }
    if constexpr (kind == Out::cached) store(out + i, result);
    if constexpr (kind == Out::streamed) stream(out + i, result);
    return state;
  }
};

// The pointers of a time tile: one drive and one output for every row and step
template <class Real>
struct Steps {
  const Real* drive[kMaxTileRows][kMaxTileSteps];
  const Real* ahead[kMaxTileRows][kMaxTileSteps];
  Real* out[kMaxTileRows][kMaxTileSteps];
};

// States of `Rows` rows in registers through the tile: full Hadamard widths up to the register block. Several narrow
// rows at once hide the latency of a step, which is a chain of log2(D) butterflies.
template <class V, Mode mode, Out kOut, int Log2Width, int Rows>
struct InRegisters {
  using Real = typename V::Real;
  static constexpr int kVectors = 1 << (Log2Width - 4);
  const Coefficients<V>& c;
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
                      int64_t first, int64_t count) {
  using Real = typename V::Real;
  const Real *drive[Rows], *ahead[Rows];
  Real* out[Rows];
  InRegisters<V, mode, kOut, Log2Width, Rows> row{c, drive, ahead, out, {}};
  constexpr int kVectors = decltype(row)::kVectors;
#pragma GCC unroll 16
  for (int v = 0; v < kVectors * Rows; ++v) row.state[v] = load<V>(states[v / kVectors] + v % kVectors * kLanes);
  for (int64_t k = first; k < count; ++k) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      drive[r] = steps.drive[r][k];
      ahead[r] = steps.ahead[r][k];
      if constexpr (kOut != Out::none) out[r] = steps.out[r][k];
    }
    register_block<V, Log2Width, kVectors * Rows>(row, 0);
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors * Rows; ++v) store(states[v / kVectors] + v % kVectors * kLanes, row.state[v]);
}

// A width of Radix register blocks: one trip does the last butterflies and the epilogue of a step and the first
// butterflies of the next, so a step costs one load and one store of the state less, and the two kinds of work overlap.
// from and to hold the blocks of the state, each transformed but not yet joined.
template <class V, Mode mode, Out kOut, int Radix>
struct Pipelined {
  using Real = typename V::Real;
  const Coefficients<V>& c;
  Real* from;
  Real* to;
  const Real* drive;
  const Real* ahead;
  Real* out;

  // Element i of the joined transform, with the additions of join() in its order
  SYLVESTER_INLINE V joined(int64_t i) const {
    const int64_t j = i % kRegisterBlock<V>, q = i / kRegisterBlock<V>;
    const auto pair = [&](int64_t r) SYLVESTER_LAMBDA {
      const V a = ::load<V>(from + r * kRegisterBlock<V> + j), b = ::load<V>(from + (r + 1) * kRegisterBlock<V> + j);
      return q & 1 ? sub(a, b) : add(a, b);
    };
    if constexpr (Radix == 2) return pair(0);
    const V a = pair(0), b = pair(2);
    return q & 2 ? sub(a, b) : add(a, b);
  }
  SYLVESTER_INLINE V load(int64_t i) const { return c.template next<mode, kOut>(joined(i), i, drive, ahead, out); }
  SYLVESTER_INLINE void store(int64_t i, V y) const { ::store(to + i, y); }
};

template <class V>
struct Plain {
  typename V::Real *from, *to;
  SYLVESTER_INLINE V load(int64_t i) const { return ::load<V>(from + i); }
  SYLVESTER_INLINE void store(int64_t i, V y) const { ::store(to + i, y); }
};

template <class V, int Radix, class Row>
SYLVESTER_INLINE void first_butterflies(Row& row) {
  constexpr int kLog2 = V::kRegisters == 16 ? 8 : 6;
#pragma GCC unroll 4
  for (int q = 0; q < Radix; ++q) register_block<V, kLog2, V::kRegisters>(row, q * kRegisterBlock<V>);
}

// work: 2 rows
template <class V, Mode mode, Out kOut, int Radix>
void run_pipelined(const Coefficients<V>& c, typename V::Real* work, typename V::Real* state,
                   const Steps<typename V::Real>& steps, int64_t r, int64_t first, int64_t count) {
  constexpr int64_t kWidth = Radix * kRegisterBlock<V>;
  if (first == count) return;
  Plain<V> plain{state, work};
  first_butterflies<V, Radix>(plain);
  Pipelined<V, mode, kOut, Radix> row{c, work, work + kWidth, nullptr, nullptr, nullptr};
  for (int64_t k = first; k < count; ++k) {
    row.drive = steps.drive[r][k];
    row.ahead = steps.ahead[r][k];
    row.out = kOut != Out::none ? steps.out[r][k] : nullptr;
    if (k + 1 < count) {
      first_butterflies<V, Radix>(row);
      typename V::Real* used = row.from;
      row.from = row.to;
      row.to = used;
    } else {
      for (int64_t i = 0; i < kWidth; i += kLanes) store(state + i, row.load(i));
    }
  }
}

// Any other width: the state lives in L1
template <class V, Mode mode, Out kOut>
struct InMemory {
  using Real = typename V::Real;
  const Coefficients<V>& c;
  Real* state;
  const Real* drive;
  const Real* ahead;
  Real* out;

  SYLVESTER_INLINE V load(int64_t i) const { return ::load<V>(state + i); }
  SYLVESTER_INLINE void store(int64_t i, V y) {
    ::store(state + i, c.template next<mode, kOut>(y, i, drive, ahead, out));
  }
  // Rows are padded to whole vectors, so a part is one.
  SYLVESTER_INLINE V load_part(int64_t i, int64_t) const { return load(i); }
  SYLVESTER_INLINE void store_part(int64_t i, V y, int64_t) { store(i, y); }
};

template <class V, Mode mode, Out kOut, int Log2Width>
void run_width(const Coefficients<V>& c, typename V::Real* const* states, const Steps<typename V::Real>& steps,
               int64_t first, int64_t count, int64_t rows) {
  constexpr int kFit = static_cast<int>(kRegisterBlock<V> >> Log2Width);
  constexpr int kRows = kFit < kMaxTileRows ? kFit : static_cast<int>(kMaxTileRows);
  if constexpr (kRows > 1) {
    if (rows == kRows) return run_in_registers<V, mode, kOut, Log2Width, kRows>(c, states, steps, first, count);
  }
  Steps<typename V::Real> one;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = first; k < count; ++k) {
      one.drive[0][k] = steps.drive[r][k];
      one.ahead[0][k] = steps.ahead[r][k];
      one.out[0][k] = kOut != Out::none ? steps.out[r][k] : nullptr;
    }
    run_in_registers<V, mode, kOut, Log2Width, 1>(c, states + r, one, first, count);
  }
}

// How many rows run() likes to get at once
template <class V>
int64_t group_rows(const Problem& p) {
  if (p.block != p.width || p.width < kLanes || p.width > kRegisterBlock<V>) return 1;
  const int64_t fit = kRegisterBlock<V> / p.width;
  return fit < kMaxTileRows ? fit : kMaxTileRows;
}

// Steps [first, count) of the tile for rows rows, in the order of the pointers
template <class V, Mode mode, Out kOut>
void run(const Problem& p, typename V::Real* work, typename V::Real* const* states,
         const Steps<typename V::Real>& steps, int64_t first, int64_t count, int64_t rows) {
  const Coefficients<V> c(p);
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
  for (int64_t r = 0; r < rows; ++r) {
    if (p.block == p.width && p.width == 2 * kRegisterBlock<V>) {
      run_pipelined<V, mode, kOut, 2>(c, work, states[r], steps, r, first, count);
      continue;
    }
    if (p.block == p.width && p.width == 4 * kRegisterBlock<V>) {
      run_pipelined<V, mode, kOut, 4>(c, work, states[r], steps, r, first, count);
      continue;
    }
    for (int64_t k = first; k < count; ++k) {
      InMemory<V, mode, kOut> row{c, states[r], steps.drive[r][k], steps.ahead[r][k],
                                  kOut != Out::none ? steps.out[r][k] : nullptr};
      hadamard_row<V>(work, row, p.padded, p.block);
    }
  }
}

}  // namespace
