// The backward pass of a tile: its states once more, what comes back through a read-out, the adjoint, and the sums.
#pragma once

#include "hadamard_scan/adjoint.h"

namespace {

using sylvester::hadamard_scan::Backward;
using sylvester::hadamard_scan::Partial;

template <class V>
struct BackwardTile : Tile<V> {
  using Real = typename V::Real;
  using Tile<V>::p;
  const Backward& io;
  Real* partial;
  const Partial at_partial;
  const bool activated, needs_states, needs_outer;
  Steps<Real> states, adjoint;                      // drive z, out r; drive g, out λ
  const Real* hidden[kMaxTileRows][kMaxTileSteps];  // h, when activated

  BackwardTile(const Problem& problem, const Backward& arrays, int64_t first_row, int64_t row_count, Real* sums,
               Real* scratch)
      : Tile<V>(problem, first_row, row_count, scratch),
        io(arrays),
        partial(sums),
        at_partial(problem, arrays.need_weight),
        activated(problem.activation != Activation::identity),
        needs_states(arrays.need_sign || activated || arrays.grad_outputs.data != nullptr),
        needs_outer(problem.kind == DriveKind::fused && (arrays.need_weight || arrays.grad_drive.data != nullptr)) {}

  // The states of steps [from, to) into the segment: read, or computed again from the checkpoint before them
  void fill_segment(int64_t from, int64_t to) {
    if (io.states.data != nullptr) {
      for (int64_t r = 0; r < this->rows; ++r)
        for (int64_t k = from; k < to; ++k)
          widen_row<V>(this->at(io.states, k, r), io.states.dtype, p.width, in_segment(r, k));
      return;
    }
    const void* start = from == 0 ? io.h0 : io.checkpoints;
    const int64_t base = from == 0 ? 0 : (from / kCheckpointSteps - 1) * p.batch;
    for (int64_t r = 0; r < this->rows; ++r) {
      if (start == nullptr) clear(this->rebuilt_rows[r], p.padded);
      if (start != nullptr) read_state<V>(start, p, base + this->first + r, this->rebuilt_rows[r]);
    }
    for (int64_t k = from; k < to; k += this->steps) {
      const int64_t n = to - k < this->steps ? to - k : this->steps;
      if (p.kind == DriveKind::fused) this->read_inputs(k, 1, n);
      for (int64_t row = 0; row < this->rows; row += this->group) {
        const Strip strip{row, this->rows - row < this->group ? this->rows - row : this->group, k, 1, n};
        this->point_at_drive(strip, states);
        for (int64_t r = 0; r < strip.rows; ++r)
          for (int64_t c = 0; c < n; ++c) states.out[r][c] = in_segment(row + r, k + c);
        run_kept<V>(p, this->work, this->rebuilt_rows + row, states, n, strip.rows, false);
      }
    }
  }
  Real* in_segment(int64_t r, int64_t k) const {
    return this->segment + (r * kCheckpointSteps + k % kCheckpointSteps) * p.padded;
  }

  // r of the strip, and the states themselves when activated
  void rebuild(const Strip& strip) {
    this->point_at_drive(strip, states);
    const bool top = strip.start == this->total - 1, stored = io.states.data != nullptr;
    const bool mark = top || (strip.start + 1) % kCheckpointSteps == 0;
    for (int64_t r = 0; r < strip.rows; ++r) {
      const int64_t b = this->first + strip.row + r;
      for (int64_t c = 0; c < strip.steps; ++c) {
        states.out[r][c] = this->known + (r * strip.steps + c) * p.padded;
        if (activated) hidden[r][c] = in_segment(strip.row + r, strip.start - c);
      }
      const int64_t known_steps = stored || activated ? strip.steps : mark ? 1 : 0;
      for (int64_t c = 0; c < known_steps; ++c) {
        const Real* h = this->work;
        if (activated) {
          h = hidden[r][c];
        } else if (stored) {
          h = read_row<V>(p, io.states, this->time_of(strip.start - c), b, this->work);
        } else if (top) {
          read_state<V>(io.last, p, b, this->work);
        } else {
          read_state<V>(io.checkpoints, p, ((strip.start + 1) / kCheckpointSteps - 1) * p.batch + b, this->work);
        }
        begin_rebuild<V>(p, h, states.drive[r][c], this->rebuilt_rows[strip.row + r], states.out[r][c]);
      }
    }
    if (stored || activated) return;
    run<V, Mode::rebuild, Out::cached>(p, this->work, this->rebuilt_rows + strip.row, states, mark, strip.steps,
                                       strip.rows);
  }

  // g of the strip, by the read-out or given
  void read_grads(const Strip& strip) {
    const int64_t n = strip.steps;
    if (io.grad_states.data != nullptr) this->point_at(io.grad_states, this->grads, strip, adjoint);
    for (int64_t r = 0; r < strip.rows; ++r) {
      Real* g = this->grads + r * n * p.padded;
      for (int64_t c = 0; c < n && io.grad_states.data == nullptr; ++c) {
        adjoint.drive[r][c] = io.grad_outputs.data != nullptr ? g + c * p.padded : this->zeros;
        adjoint.ahead[r][c] = this->zeros;
      }
      if (io.grad_outputs.data == nullptr) continue;
      const int64_t stride = this->stride_of(strip, io.grad_outputs.step) * sylvester::size_of(io.grad_outputs.dtype);
      const char* from = this->at(io.grad_outputs, strip.start, strip.row + r);
      for (int64_t c = 0; c < n; ++c, from += stride) {
        __builtin_prefetch(from + n * stride);  // far apart in memory; beyond the end it may be any place
        widen_row<V>(from, io.grad_outputs.dtype, p.readout.outputs, this->outputs + c * output_row(p));
      }
      const States<V> of_row{activated ? hidden[r] : nullptr, states.out[r], states.drive[r]};
      read_back<V>(p, of_row, this->outputs, n, g, partial + at_partial.readout, partial + at_partial.readout_bias);
    }
  }

  void run_adjoint(const Strip& strip) {
    const bool top = strip.start == this->total - 1;
    const Sequence direct = p.kind == DriveKind::given ? io.grad_drive : Sequence{};
    this->point_at_output(direct, this->out + (needs_outer ? strip.row * strip.steps * p.padded : 0), strip, adjoint);
    for (int64_t r = 0; r < strip.rows && top; ++r) {
      const Real* h = activated ? hidden[r][0] : nullptr;
      begin_adjoint<V>(p, adjoint.drive[r][0], h, this->state_rows[strip.row + r], adjoint.out[r][0]);
    }
    auto* const* mu = this->state_rows + strip.row;
    if (activated) {
      for (int64_t r = 0; r < strip.rows; ++r)
        for (int64_t c = 0; c < strip.steps; ++c) adjoint.ahead[r][c] = hidden[r][c];
      run<V, Mode::masked, Out::cached>(p, this->work, mu, adjoint, top, strip.steps, strip.rows);
    } else {
      run<V, Mode::adjoint, Out::cached>(p, this->work, mu, adjoint, top, strip.steps, strip.rows);
    }
    this->write_output(direct, strip, adjoint);
  }

  // λ is summed by token, run by run of equal ones; the bias's gradient is then the sum over the tokens.
  void accumulate_tokens(const Strip& strip, int64_t r, const Real* const* rebuilt) {
    int64_t tokens[kMaxTileSteps];
    for (int64_t c = 0; c < strip.steps; ++c) {
      tokens[c] = token_of(p, this->time_of(strip.start - c), this->first + strip.row + r);
    }
    for (int64_t c = 0; c < strip.steps;) {
      const int64_t first_token = tokens[c], begin = c;
      while (c < strip.steps && tokens[c] == first_token) ++c;
      Real* to = partial + at_partial.weight + first_token * p.padded;
      accumulate<V>(p, adjoint.out[r], rebuilt, begin, c, partial + at_partial.sign, to);
    }
  }

  void backward_strip(const Strip& strip) {
    if (needs_states) rebuild(strip);
    read_grads(strip);
    run_adjoint(strip);
    for (int64_t r = 0; r < strip.rows; ++r) {
      const Real* const* rebuilt = io.need_sign ? states.out[r] : nullptr;
      if (p.kind == DriveKind::token && io.need_weight) {
        accumulate_tokens(strip, r, rebuilt);
      } else {
        Real* bias = partial + at_partial.bias;
        accumulate<V>(p, adjoint.out[r], rebuilt, 0, strip.steps, partial + at_partial.sign, bias);
      }
      if (p.activation != Activation::modrelu) continue;
      accumulate_act_bias<V>(p, adjoint.out[r], hidden[r], strip.steps, partial + at_partial.act_bias);
    }
  }

  // What a fused drive's time tile adds to dU, and its dx
  void finish_inputs(int64_t start, int64_t n) {
    const int64_t samples = this->rows * n;
    if (io.need_weight) {
      outer<V>(this->x, p.inputs, this->out, samples, p.inputs, p.padded, partial + at_partial.weight);
    }
    if (io.grad_drive.data == nullptr) return;
    const int64_t row = round_up(p.inputs, kLanes);
    mix<V>(this->out, p.padded, samples, p.width, static_cast<const Real*>(io.weight_rows), row, this->input_grads);
    const Real* from = this->input_grads;
    for (int64_t r = 0; r < this->rows; ++r) {
      for (int64_t c = 0; c < n; ++c, from += row) {
        narrow_row<V>(from, io.grad_drive.dtype, p.inputs, this->at(io.grad_drive, start - c, r));
      }
    }
  }

  // dh0 = S̃ μ_0; without a step it is what came in
  void finish_h0() {
    for (int64_t r = 0; r < this->rows; ++r) {
      if (this->total > 0) {
        adjoint.drive[0][0] = adjoint.ahead[0][0] = this->zeros;
        adjoint.out[0][0] = this->out;
        run<V, Mode::adjoint, Out::cached>(p, this->work, this->state_rows + r, adjoint, 0, 1, 1);
      }
      write_state<V>(this->total > 0 ? this->out : this->state_rows[r], p, this->first + r, io.grad_h0);
    }
  }

  // What comes in at the last state of row r: its own gradient, and that of its read-out
  void begin_row(int64_t r) {
    Real* incoming = this->state_rows[r];
    if (io.grad_last == nullptr) clear(incoming, p.padded);
    if (io.grad_last != nullptr) read_state<V>(io.grad_last, p, this->first + r, incoming);
    if (io.grad_last_outputs.data == nullptr) return;
    read_state<V>(io.last, p, this->first + r, this->work);
    const char* from = element(io.grad_last_outputs, 0, this->first + r);
    widen_row<V>(from, io.grad_last_outputs.dtype, p.readout.outputs, this->outputs);
    const Real* h = this->work;
    read_back<V>(p, States<V>{&h, nullptr, nullptr}, this->outputs, 1, this->grads, partial + at_partial.readout,
                 partial + at_partial.readout_bias);
    for (int64_t i = 0; i < p.padded; i += kLanes) {
      store(incoming + i, add(load<V>(incoming + i), load<V>(this->grads + i)));
    }
  }

  void run_backward() {
    clear(this->zeros, p.padded);
    for (int64_t r = 0; r < this->rows; ++r) begin_row(r);
    for (int64_t end = this->total; end > 0;) {
      const int64_t begin = (end - 1) / this->steps * this->steps, n = end - begin, start = end - 1;
      if (activated && (end == this->total || end % kCheckpointSteps == 0)) {
        fill_segment(start / kCheckpointSteps * kCheckpointSteps, end);
      }
      if (p.kind == DriveKind::fused) this->read_inputs(start, -1, n);
      for (int64_t r = 0; r < this->rows; r += this->group) {
        backward_strip(Strip{r, this->rows - r < this->group ? this->rows - r : this->group, start, -1, n});
      }
      if (needs_outer) finish_inputs(start, n);
      end = begin;
    }
    this->clear_after(io.grad_drive, p.kind == DriveKind::given ? p.width : p.inputs);
    finish_h0();
  }
};

}  // namespace
