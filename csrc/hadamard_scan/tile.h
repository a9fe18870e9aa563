// A tile of rows of equal length on its way through time: where its scratch lies, and the drive pointers of each time
// tile.
#pragma once

#include "hadamard_scan/drive.h"
#include "hadamard_scan/recurrence.h"

namespace {

using sylvester::hadamard_scan::Activation;
using sylvester::hadamard_scan::kCheckpointSteps;

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Elements a row of outputs takes: a read-out writes up to three too many
inline int64_t output_row(const Problem& p) { return round_up(p.readout.outputs + 3, kLanes); }

// Steps a tile takes at once: 16 KiB of float a row: long enough for the pipelined widths, short enough for L1
inline int64_t tile_steps(int64_t padded) {
  int64_t steps = kMaxTileSteps;
  while (steps > 1 && steps * padded > 4096) steps /= 2;
  return steps;
}

// From this many inputs on, U is streamed once for all rows of a tile, not once a row
constexpr int64_t kWideInputs = 64;

// Rows [row, row + rows) of the tile, steps start + direction·c for c in [0, steps): what is worked on at once
struct Strip {
  int64_t row, rows, start, direction, steps;
};

template <class V>
struct Tile {
  using Real = typename V::Real;

  const Problem& p;
  int64_t first, rows, total;  // rows [first, first + rows) of the batch, each of `total` steps
  int64_t group, steps;        // rows run at once; steps of a time tile
  bool wide;
  Real *state, *rebuilt, *work, *zeros, *drive, *out, *grads, *known, *segment, *inputs, *input_grads, *outputs;
  const Real* x = nullptr;  // of the time tile
  Real* state_rows[kMaxTileRows];
  Real* rebuilt_rows[kMaxTileRows];

  Tile(const Problem& problem, int64_t first_row, int64_t row_count, Real* scratch)
      : p(problem), first(first_row), rows(row_count), group(group_rows<V>(problem)), steps(tile_steps(p.padded)) {
    total = p.batch > 0 ? steps_of(p, first) : 0;
    wide = p.kind == DriveKind::fused && p.inputs > kWideInputs;
    place(scratch);
    for (int64_t r = 0; r < rows; ++r) {
      state_rows[r] = state + r * p.padded;
      rebuilt_rows[r] = rebuilt + r * p.padded;
    }
  }

  // Lays the arrays out from `at` on, touching none, and returns the end
  Real* place(Real* at) {
    const int64_t row = p.padded, time_tile = p.tile_rows * steps * row;
    const int64_t values = p.kind == DriveKind::fused ? p.tile_rows * steps : 0;
    const auto take = [&at](Real*& array, int64_t count) {
      array = at;
      at += round_up(count, kLanes);
    };
    take(state, p.tile_rows * row);
    take(rebuilt, p.tile_rows * row);
    take(work, 2 * row);
    take(zeros, row);
    take(drive, time_tile);
    take(out, time_tile);
    take(grads, time_tile);
    take(known, time_tile);
    take(segment, p.activation == Activation::identity ? 0 : p.tile_rows * kCheckpointSteps * row);
    take(inputs, values * p.inputs + kLanes);  // rows of x are widened in whole vectors
    take(input_grads, values * round_up(p.inputs, kLanes));
    take(outputs, p.readout.outputs > 0 ? p.tile_rows * steps * output_row(p) : 0);
    return at;
  }

  int64_t time_of(int64_t k) const { return p.reverse ? total - 1 - k : k; }
  int64_t stride_of(const Strip& strip, int64_t step) const { return (p.reverse ? -step : step) * strip.direction; }
  char* at(const Sequence& s, int64_t k, int64_t r) const { return element(s, time_of(k), first + r); }

  // A fused drive's x of all rows, sample r·n + c, for the steps k = start + direction·c: where it lies, if it lies
  // like that
  void read_inputs(int64_t start, int64_t direction, int64_t n) {
    const bool real = p.drive.dtype == p.real;
    const int64_t stride = (p.reverse ? -direction : direction) * p.drive.step;
    x = inputs;
    if (real && rows == 1 && stride == p.inputs) {
      x = reinterpret_cast<const Real*>(at(p.drive, start, 0));
    } else {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < n; ++c) {
          read_values(at(p.drive, start + direction * c, r), p.drive.dtype, p.inputs, inputs + (r * n + c) * p.inputs);
        }
    }
    if (wide) mix<V>(x, p.inputs, rows * n, p.inputs, static_cast<const Real*>(p.weight), p.padded, drive);
  }

  void read_values(const char* from, Dtype dtype, int64_t count, Real* to) const {
    if (dtype == p.real) {
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(Real));
      return;
    }
    const int64_t whole = count / kLanes * kLanes;
    widen_row<V>(from, dtype, whole, to);
    if (whole == count) return;
    Real padded[kLanes];
    widen_row<V>(from + whole * sylvester::size_of(dtype), dtype, count - whole, padded);
    for (int64_t i = whole; i < count; ++i) to[i] = padded[i - whole];
  }

  // Drive pointers of a strip. lazily: whoever runs the steps may fill the rows.
  void point_at_drive(const Strip& strip, Steps<Real>& to, bool lazily = false) {
    if (p.kind == DriveKind::given) return point_at(p.drive, drive, strip, to);
    const int64_t n = strip.steps;
    const bool lazy = lazily && p.kind == DriveKind::fused && !wide && strip.rows == 1 && is_in_registers<V>(p);
    const auto* weight = static_cast<const Real*>(p.weight);
    to.lazy_x = lazy ? x + strip.row * n * p.inputs : nullptr;
    if (lazy) {
      to.lazy_weight = weight;
      to.lazy_inputs = p.inputs;
      to.lazy_z = drive;
    } else if (p.kind == DriveKind::fused && !wide) {
      mix<V>(x + strip.row * n * p.inputs, p.inputs, strip.rows * n, p.inputs, weight, p.padded, drive);
    }
    Real* row = wide ? drive + strip.row * n * p.padded : drive;
    for (int64_t r = 0; r < strip.rows; ++r) {
      for (int64_t c = 0; c < n; ++c, row += p.padded) {
        to.ahead[r][c] = zeros;
        to.drive[r][c] = row;
        if (p.kind != DriveKind::token) continue;
        to.drive[r][c] = read_token<V>(p, time_of(strip.start + strip.direction * c), first + strip.row + r, row);
      }
    }
  }

  // The same for the rows of s: in place where they are Real rows, else converted into `tile`
  void point_at(const Sequence& s, Real* tile, const Strip& strip, Steps<Real>& to) {
    const bool direct = is_direct(p, s);
    const int64_t stride = stride_of(strip, s.step);
    for (int64_t r = 0; r < strip.rows; ++r) {
      if (direct) {
        const Real* from = reinterpret_cast<const Real*>(at(s, strip.start, strip.row + r));
        const Real* later = ahead_of(s, strip, r);
        for (int64_t c = 0; c < strip.steps; ++c) {
          to.drive[r][c] = from + c * stride;
          to.ahead[r][c] = later + c * stride;
        }
        continue;
      }
      for (int64_t c = 0; c < strip.steps; ++c, tile += p.padded) {
        to.ahead[r][c] = zeros;
        const int64_t t = time_of(strip.start + strip.direction * c);
        to.drive[r][c] = read_row<V>(p, s, t, first + strip.row + r, tile);
      }
    }
  }

  // Where s will be read next after row r of the strip: a strip's rows on, or at the tile's first rows a time tile on.
  // Only ever prefetched, so beyond the end it may be any place.
  const Real* ahead_of(const Sequence& s, const Strip& strip, int64_t r) const {
    const int64_t next = strip.row + r + strip.rows;
    const int64_t step = next < rows ? strip.start : strip.start + strip.direction * strip.steps;
    if (step < 0 || step >= total) return zeros;
    return reinterpret_cast<const Real*>(at(s, step, next < rows ? next : r));
  }

  // Output pointers of a strip: into s where it takes Real rows, else into `tile`
  void point_at_output(const Sequence& s, Real* tile, const Strip& strip, Steps<Real>& to) {
    const bool direct = s.data != nullptr && is_direct(p, s);
    const int64_t stride = direct ? stride_of(strip, s.step) : p.padded;
    for (int64_t r = 0; r < strip.rows; ++r) {
      Real* row = tile + r * strip.steps * p.padded;
      if (direct) row = reinterpret_cast<Real*>(at(s, strip.start, strip.row + r));
      for (int64_t c = 0; c < strip.steps; ++c) to.out[r][c] = row + c * stride;
    }
  }

  // Sends the outputs on to s when they could not go there directly
  void write_output(const Sequence& s, const Strip& strip, const Steps<Real>& from) {
    if (s.data == nullptr || is_direct(p, s)) return;
    for (int64_t r = 0; r < strip.rows; ++r) {
      for (int64_t c = 0; c < strip.steps; ++c) {
        void* to = at(s, strip.start + strip.direction * c, strip.row + r);
        narrow_row<V>(from.out[r][c], s.dtype, p.width, to);
      }
    }
  }

  // Zeros in the n columns of s after the end of each row
  void clear_after(const Sequence& s, int64_t n) const {
    for (int64_t t = total; t < p.steps && s.data != nullptr; ++t)
      for (int64_t r = 0; r < rows; ++r)
        std::memset(element(s, t, first + r), 0, static_cast<size_t>(n * sylvester::size_of(s.dtype)));
  }
};

template <class Real>
void clear(Real* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 0;
}

// Row b of a (B,D) Real array into a padded row, and back
template <class V>
void read_state(const void* array, const Problem& p, int64_t b, typename V::Real* to) {
  widen_row<V>(static_cast<const typename V::Real*>(array) + b * p.width, p.width, to);
}
template <class V>
void write_state(const typename V::Real* from, const Problem& p, int64_t b, void* array) {
  narrow_row<V>(from, p.width, static_cast<typename V::Real*>(array) + b * p.width);
}

}  // namespace
