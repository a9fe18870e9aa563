// A tile of rows on its way through time: where its scratch lies, and the drive pointers of each time tile.
#pragma once

#include "hadamard_scan/drive.h"
#include "hadamard_scan/recurrence.h"

namespace {

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Steps a tile takes at once: 16 KiB of float a row: long enough for the pipelined widths, short enough for L1
inline int64_t tile_steps(int64_t padded) {
  int64_t steps = kMaxTileSteps;
  while (steps > 1 && steps * padded > 4096) steps /= 2;
  return steps;
}

// From this many inputs on, U is streamed once for all rows of a tile, not once a row
constexpr int64_t kWideInputs = 64;

template <class V>
struct Tile {
  using Real = typename V::Real;

  const Problem& p;
  int64_t first, rows, group, steps;  // rows [first, first + rows); group: rows run at once; steps of a time tile
  bool wide;
  Real *state, *rebuilt, *work, *zeros, *drive, *out, *second, *inputs, *input_grads;
  const Real* x = nullptr;  // of the time tile
  Real* state_rows[kMaxTileRows];
  Real* rebuilt_rows[kMaxTileRows];
  Steps<Real> pointers;

  Tile(const Problem& problem, int64_t tile, Real* scratch)
      : p(problem), first(tile * problem.tile_rows), group(group_rows<V>(problem)), steps(tile_steps(problem.padded)) {
    rows = p.batch - first < p.tile_rows ? p.batch - first : p.tile_rows;
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
    take(second, time_tile);
    take(inputs, values * p.inputs + kLanes);  // rows of x are widened in whole vectors
    take(input_grads, values * round_up(p.inputs, kLanes));
    return at;
  }

  // A fused drive's x, sample r·n + c, for the steps k = start + direction·c: where it lies, if it lies like that
  void read_inputs(int64_t start, int64_t direction, int64_t n) {
    const bool real = p.drive.dtype == p.real;
    const int64_t stride = (p.reverse ? -direction : direction) * p.drive.step;
    x = inputs;
    if (real && rows == 1 && stride == p.inputs) {
      x = reinterpret_cast<const Real*>(element(p.drive, time_of(p, start), first));
    } else {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < n; ++c) read_input(start + direction * c, first + r, inputs + (r * n + c) * p.inputs);
    }
    if (wide) mix<V>(x, p.inputs, rows * n, p.inputs, static_cast<const Real*>(p.weight), p.padded, drive);
  }

  void read_input(int64_t k, int64_t b, Real* to) const {
    const char* from = element(p.drive, time_of(p, k), b);
    if (p.drive.dtype == p.real) {
      std::memcpy(to, from, static_cast<size_t>(p.inputs) * sizeof(Real));
      return;
    }
    const int64_t whole = p.inputs / kLanes * kLanes;
    widen_row<V>(from, p.drive.dtype, whole, to);
    if (whole == p.inputs) return;
    Real padded[kLanes];
    widen_row<V>(from + whole * sylvester::size_of(p.drive.dtype), p.drive.dtype, p.inputs - whole, padded);
    for (int64_t i = whole; i < p.inputs; ++i) to[i] = padded[i - whole];
  }

  // Drive pointers of rows [r0, r0 + m) of the tile, for the steps k = start + direction·c. lazily: whoever runs the
  // steps may fill the rows.
  void point_at_drive(int64_t r0, int64_t m, int64_t start, int64_t direction, int64_t n, bool lazily = false) {
    if (p.kind == DriveKind::given) return point_at(p.drive, drive, r0, m, start, direction, n);
    const bool lazy = lazily && p.kind == DriveKind::fused && !wide && m == 1 && is_in_registers<V>(p);
    const auto* weight = static_cast<const Real*>(p.weight);
    pointers.lazy_x = lazy ? x + r0 * n * p.inputs : nullptr;
    if (lazy) {
      pointers.lazy_weight = weight;
      pointers.lazy_inputs = p.inputs;
      pointers.lazy_z = drive;
    } else if (p.kind == DriveKind::fused && !wide) {
      mix<V>(x + r0 * n * p.inputs, p.inputs, m * n, p.inputs, weight, p.padded, drive);
    }
    Real* at = wide ? drive + r0 * n * p.padded : drive;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c, at += p.padded) {
        const bool token = p.kind == DriveKind::token;
        pointers.ahead[r][c] = zeros;
        pointers.drive[r][c] = token ? read_token<V>(p, start + direction * c, first + r0 + r, at) : at;
      }
    }
  }

  // The same for the rows of s: in place where they are Real rows, else converted into `tile`
  void point_at(const Sequence& s, Real* tile, int64_t r0, int64_t m, int64_t start, int64_t direction, int64_t n) {
    const bool direct = is_direct(p, s);
    const int64_t stride = (p.reverse ? -direction : direction) * s.step;
    for (int64_t r = 0; r < m; ++r) {
      const int64_t b = first + r0 + r;
      if (direct) {
        const Real* at = reinterpret_cast<const Real*>(element(s, time_of(p, start), b));
        const Real* later = ahead_of(s, r0 + r, m, start, direction * n);
        for (int64_t c = 0; c < n; ++c) {
          pointers.drive[r][c] = at + c * stride;
          pointers.ahead[r][c] = later + c * stride;
        }
        continue;
      }
      for (int64_t c = 0; c < n; ++c, tile += p.padded) {
        pointers.ahead[r][c] = zeros;
        pointers.drive[r][c] = read_row<V>(p, s, start + direction * c, b, tile);
      }
    }
  }

  // Where s will be read next after row r of the tile at step k: m rows on, or at the tile's first rows jump steps on.
  // Only ever prefetched, so beyond the end it may be any place.
  const Real* ahead_of(const Sequence& s, int64_t r, int64_t m, int64_t k, int64_t jump) const {
    const bool wraps = r + m >= rows;
    const int64_t step = wraps ? k + jump : k;
    if (step < 0 || step >= p.steps) return zeros;
    return reinterpret_cast<const Real*>(element(s, time_of(p, step), first + (wraps ? 0 : r + m)));
  }

  // Output pointers of the same rows and steps: into s where it takes Real rows, else into `tile`
  void point_at_output(const Sequence& s, Real* tile, int64_t r0, int64_t m, int64_t start, int64_t direction,
                       int64_t n) {
    const bool direct = s.data != nullptr && is_direct(p, s);
    const int64_t stride = direct ? (p.reverse ? -direction : direction) * s.step : p.padded;
    for (int64_t r = 0; r < m; ++r) {
      Real* at = tile + r * n * p.padded;
      if (direct) at = reinterpret_cast<Real*>(element(s, time_of(p, start), first + r0 + r));
      for (int64_t c = 0; c < n; ++c) pointers.out[r][c] = at + c * stride;
    }
  }

  // Sends the outputs on to s when they could not go there directly
  void write_output(const Sequence& s, int64_t r0, int64_t m, int64_t start, int64_t direction, int64_t n) {
    if (s.data == nullptr || is_direct(p, s)) return;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        void* to = element(s, time_of(p, start + direction * c), first + r0 + r);
        narrow_row<V>(pointers.out[r][c], s.dtype, p.width, to);
      }
    }
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
