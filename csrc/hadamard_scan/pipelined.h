// The recurrence for full Hadamard widths of a few register blocks (512 and 1024 at avx512, 128 and 256 at avx2): a
// lone row pipelines its own steps, several rows take turns.
#pragma once

#include "common/hadamard_stream.h"
#include "hadamard_scan/step.h"

namespace {

// The state of a row in L1
template <class V, Mode mode, Out kOut>
struct InMemory {
  using Real = typename V::Real;
  const Coefficients<V> c;  // a copy: behind a reference every store would make the compiler reload it
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

// A register block or two where registers hold no second row: rows take turns step by step, so that the next row's
// butterflies are under way while a row waits for its own. (avx2: 12 cycles for 16 elements of 128, 18 as a stream.)
template <class V>
constexpr bool kTakesTurns = V::kRegisters < 16;

template <class V, Mode mode, Out kOut, int Log2Width>
void run_in_turns(const Coefficients<V>& c, typename V::Real* const* states, const Steps<typename V::Real>& steps,
                  int64_t first, int64_t count, int64_t rows) {
  for (int64_t k = first; k < count; ++k) {
    for (int64_t r = 0; r < rows; ++r) {
      auto* const out = kOut != Out::none ? steps.out[r][k] : nullptr;
      InMemory<V, mode, kOut> row{c, states[r], steps.drive[r][k], steps.ahead[r][k], out};
      register_block<V, Log2Width, 1 << (Log2Width - 4)>(row, 0);
    }
  }
}

// A width of Radix register blocks: one trip does the last butterflies and the epilogue of a step and the first
// butterflies of the next, so a step costs one load and one store of the state less, and the two kinds of work overlap.
// from and to hold the blocks of the state, each transformed but not yet joined.
template <class V, Mode mode, Out kOut, int Radix>
struct Pipelined {
  using Real = typename V::Real;
  const Coefficients<V> c;  // a copy: behind a reference every store would make the compiler reload it
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
  // Rows are padded to whole vectors, so a part is one.
  SYLVESTER_INLINE V load_part(int64_t i, int64_t) const { return load(i); }
  SYLVESTER_INLINE void store_part(int64_t i, V y, int64_t) const { store(i, y); }
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

// Rows in turn, step after step, as one stream of blocks: the shuffles of one beside the additions of the one before.
// One copy loads, another stores.
template <class V, Mode mode, Out kOut>
struct StreamedRows {
  using Real = typename V::Real;
  // The output of a step is the state of the next, and near: stores bound a step that also writes its state.
  static constexpr bool kReadsOutput = kOut == Out::cached && mode <= Mode::modrelu;
  const Coefficients<V> c;  // a copy: behind a reference every store would make the compiler reload it
  Real* const* states;
  const Steps<Real>* steps;
  int64_t first, count, rows, width;
  int64_t begin = 0;
  bool keeps_state = true;
  const Real* from = nullptr;
  Real* state = nullptr;
  const Real* drive = nullptr;
  const Real* ahead = nullptr;
  Real* out = nullptr;

  SYLVESTER_INLINE void enter(int64_t i) {
    const int64_t block = i / width, r = block % rows, k = first + block / rows;
    begin = i;
    from = state = states[r];
    drive = steps->drive[r][k];
    ahead = steps->ahead[r][k];
    if constexpr (kOut != Out::none) out = steps->out[r][k];
    if constexpr (kReadsOutput) {
      if (k > first) from = steps->out[r][k - 1];
      keeps_state = k + 1 == count;
    }
  }
  SYLVESTER_INLINE V load(int64_t i) const { return ::load<V>(from + (i - begin)); }
  SYLVESTER_INLINE void store(int64_t i, V y) const {
    const V next = c.template next<mode, kOut>(y, i - begin, drive, ahead, out);
    if (keeps_state) ::store(state + (i - begin), next);
  }
};

// work: 2 rows; more than one row
template <class V, Mode mode, Out kOut, int Radix>
void run_streamed(const Coefficients<V>& c, typename V::Real* work, typename V::Real* const* states,
                  const Steps<typename V::Real>& steps, int64_t first, int64_t count, int64_t rows) {
  constexpr int64_t kWidth = Radix * kRegisterBlock<V>;
  constexpr int kGroup = 64;
  if (first == count) return;
  const StreamedRows<V, mode, kOut> row{c, states, &steps, first, count, rows, kWidth};
  stream<V, kGroup, kWidth / kGroup>(work, row, row, 0, (count - first) * rows * kWidth, 2 * kWidth - 1);
}

template <class V, Mode mode, Out kOut, int Radix>
void run_wide(const Coefficients<V>& c, typename V::Real* work, typename V::Real* const* states,
              const Steps<typename V::Real>& steps, int64_t first, int64_t count, int64_t rows) {
  if (rows == 1) return run_pipelined<V, mode, kOut, Radix>(c, work, states[0], steps, 0, first, count);
  if constexpr (kTakesTurns<V> && Radix == 2) {
    run_in_turns<V, mode, kOut, 7>(c, states, steps, first, count, rows);
  } else {
    run_streamed<V, mode, kOut, Radix>(c, work, states, steps, first, count, rows);
  }
}

}  // namespace
