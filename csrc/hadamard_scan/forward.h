// The forward pass of a tile
#pragma once

#include "hadamard_scan/readout.h"

namespace {

using sylvester::hadamard_scan::Forward;

// Outputs beyond this do not stay in a second-level cache until someone reads them
constexpr int64_t kStreamedElements = int64_t{1} << 20;

inline bool is_aligned(const Sequence& s) {
  const int64_t size = sylvester::size_of(s.dtype);
  return reinterpret_cast<uintptr_t>(s.data) % 64 == 0 && s.step * size % 64 == 0 && s.row * size % 64 == 0;
}

// Steps whose states are kept in memory
template <class V>
void run_kept(const Problem& p, typename V::Real* work, typename V::Real* const* states,
              const Steps<typename V::Real>& steps, int64_t n, int64_t rows, bool streamed) {
  if (p.activation == Activation::relu) {
    run<V, Mode::relu, Out::cached>(p, work, states, steps, 0, n, rows);
  } else if (p.activation == Activation::modrelu) {
    run<V, Mode::modrelu, Out::cached>(p, work, states, steps, 0, n, rows);
  } else if (streamed) {
    run<V, Mode::forward, Out::streamed>(p, work, states, steps, 0, n, rows);
  } else {
    run<V, Mode::forward, Out::cached>(p, work, states, steps, 0, n, rows);
  }
}

template <class V>
void forward_strip(Tile<V>& t, const Forward& io, const Strip& strip, bool streamed) {
  const Problem& p = t.p;
  Steps<typename V::Real> steps;
  t.point_at_drive(strip, steps, true);
  auto* const* states = t.state_rows + strip.row;
  const bool kept = io.states.data != nullptr || io.outputs.data != nullptr || p.activation != Activation::identity;
  if (!kept) return run<V, Mode::forward, Out::none>(p, t.work, states, steps, 0, strip.steps, strip.rows);
  t.point_at_output(io.states, t.out, strip, steps);
  run_kept<V>(p, t.work, states, steps, strip.steps, strip.rows, streamed);
  t.write_output(io.states, strip, steps);
  if (io.outputs.data == nullptr) return;
  read_out<V>(p, t.out, strip.rows * strip.steps, t.outputs);
  auto* y = t.outputs;
  for (int64_t r = 0; r < strip.rows; ++r) {
    for (int64_t c = 0; c < strip.steps; ++c, y += output_row(p)) {
      write_outputs<V>(p, y, io.outputs.dtype, t.at(io.outputs, strip.start + c, strip.row + r));
    }
  }
}

// The checkpoints of a tile that has taken `done` steps
template <class V>
void keep(const Tile<V>& t, const Forward& io, int64_t done) {
  if (io.checkpoints == nullptr || done % kCheckpointSteps != 0 || done >= t.p.steps) return;
  const int64_t base = (done / kCheckpointSteps - 1) * t.p.batch + t.first;
  for (int64_t r = 0; r < t.rows; ++r) {
    write_state<V>(done < t.total ? t.state_rows[r] : t.zeros, t.p, base + r, io.checkpoints);
  }
}

template <class V>
void forward_rows(Tile<V>& t, const Forward& io) {
  const Problem& p = t.p;
  clear(t.zeros, p.padded);
  for (int64_t r = 0; r < t.rows; ++r) {
    if (io.h0 == nullptr) clear(t.state_rows[r], p.padded);
    if (io.h0 != nullptr) read_state<V>(io.h0, p, t.first + r, t.state_rows[r]);
  }
  const bool streamed = io.states.data != nullptr && is_direct(p, io.states) && is_aligned(io.states) &&
                        p.steps * p.batch * p.width > kStreamedElements;
  for (int64_t k = 0; k < t.total; k += t.steps) {
    const int64_t n = t.total - k < t.steps ? t.total - k : t.steps;
    if (p.kind == DriveKind::fused) t.read_inputs(k, 1, n);
    for (int64_t r = 0; r < t.rows; r += t.group) {
      forward_strip(t, io, Strip{r, t.rows - r < t.group ? t.rows - r : t.group, k, 1, n}, streamed);
    }
    keep(t, io, k + n);
  }
  for (int64_t done = round_up(t.total + 1, t.steps); done < p.steps; done += t.steps) keep(t, io, done);
  t.clear_after(io.states, p.width);
  t.clear_after(io.outputs, p.readout.outputs);
  for (int64_t r = 0; r < t.rows; ++r) {
    write_state<V>(t.state_rows[r], p, t.first + r, io.last);
    if (io.last_outputs.data == nullptr) continue;
    read_out<V>(p, t.state_rows[r], 1, t.outputs);
    write_outputs<V>(p, t.outputs, io.last_outputs.dtype, element(io.last_outputs, 0, t.first + r));
  }
}

}  // namespace
