#include "hadamard_scan/hadamard_scan.h"

#include "hadamard_scan/tile.h"

namespace {

using sylvester::hadamard_scan::Backward;
using sylvester::hadamard_scan::Forward;
using sylvester::hadamard_scan::kCheckpointSteps;

// Outputs beyond this do not stay in a second-level cache until someone reads them
constexpr int64_t kStreamedElements = int64_t{1} << 20;

inline bool is_aligned(const Sequence& s) {
  const int64_t size = sylvester::size_of(s.dtype);
  return reinterpret_cast<uintptr_t>(s.data) % 64 == 0 && s.step * size % 64 == 0 && s.row * size % 64 == 0;
}

template <class V>
void forward(const Problem& p, const Forward& io, int64_t tile, typename V::Real* scratch) {
  Tile<V> t(p, tile, scratch);
  for (int64_t r = 0; r < t.rows; ++r) {
    if (io.h0 == nullptr) clear(t.state_rows[r], p.padded);
    if (io.h0 != nullptr) read_state<V>(io.h0, p, t.first + r, t.state_rows[r]);
  }
  const bool streamed = io.states.data != nullptr && is_direct(p, io.states) && is_aligned(io.states) &&
                        p.steps * p.batch * p.width > kStreamedElements;
  for (int64_t k = 0; k < p.steps; k += t.steps) {
    const int64_t n = p.steps - k < t.steps ? p.steps - k : t.steps;
    if (p.kind == DriveKind::fused) t.read_inputs(k, 1, n);
    for (int64_t r = 0; r < t.rows; r += t.group) {
      const int64_t m = t.rows - r < t.group ? t.rows - r : t.group;
      t.point_at_drive(r, m, k, 1, n, true);
      if (io.states.data == nullptr) {
        run<V, Mode::forward, Out::none>(p, t.work, t.state_rows + r, t.pointers, 0, n, m);
        continue;
      }
      t.point_at_output(io.states, t.out, r, m, k, 1, n);
      if (streamed) run<V, Mode::forward, Out::streamed>(p, t.work, t.state_rows + r, t.pointers, 0, n, m);
      if (!streamed) run<V, Mode::forward, Out::cached>(p, t.work, t.state_rows + r, t.pointers, 0, n, m);
      t.write_output(io.states, r, m, k, 1, n);
    }
    const int64_t done = k + n;
    if (io.checkpoints == nullptr || done % kCheckpointSteps != 0 || done == p.steps) continue;
    const int64_t base = (done / kCheckpointSteps - 1) * p.batch;
    for (int64_t r = 0; r < t.rows; ++r) write_state<V>(t.state_rows[r], p, base + t.first + r, io.checkpoints);
  }
  for (int64_t r = 0; r < t.rows; ++r) write_state<V>(t.state_rows[r], p, t.first + r, io.last);
}

// λ = g + incoming, μ = s∘λ: the adjoint's first step, where nothing has been transformed yet
template <class V>
void begin_adjoint(const Problem& p, const typename V::Real* g, typename V::Real* mu, typename V::Real* lambda) {
  const auto* sign = static_cast<const typename V::Real*>(p.sign);
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    const V sum = add(load<V>(g + i), load<V>(mu + i));
    store(lambda + i, sum);
    store(mu + i, flip(sum, load<V>(sign + i)));
  }
}

// r = s∘(h − (z + b))
template <class V>
void begin_rebuild(const Problem& p, const typename V::Real* h, const typename V::Real* z, typename V::Real* state,
                   typename V::Real* out) {
  const auto* sign = static_cast<const typename V::Real*>(p.sign);
  const auto* bias = sign + p.padded;
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    const V r = flip(sub(load<V>(h + i), add(load<V>(z + i), load<V>(bias + i))), load<V>(sign + i));
    store(state + i, r);
    store(out + i, r);
  }
}

// dsign += Σ_c λ_c∘r_c (r null: left alone) and dbias += Σ_c λ_c
template <class V>
void accumulate(const Problem& p, const typename V::Real* const* lambda, const typename V::Real* const* r, int64_t n,
                typename V::Real* dsign, typename V::Real* dbias) {
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V sign_sum = load<V>(dsign + i), bias_sum = load<V>(dbias + i);
    for (int64_t c = 0; c < n; ++c) {
      const V l = load<V>(lambda[c] + i);
      if (r != nullptr) sign_sum = fma(l, load<V>(r[c] + i), sign_sum);
      bias_sum = add(bias_sum, l);
    }
    store(dsign + i, sign_sum);
    store(dbias + i, bias_sum);
  }
}

// A time tile's rows [r0, r0 + m): adjoint, rebuilt states, and their sums. start: its last step; c counts down from
// it.
template <class V>
void backward_rows(Tile<V>& t, const Backward& io, int64_t r0, int64_t m, int64_t start, int64_t n,
                   typename V::Real* partial) {
  using Real = typename V::Real;
  const Problem& p = t.p;
  const bool given = p.kind == DriveKind::given, top = start == p.steps - 1;
  const Sequence direct = given ? io.grad_drive : Sequence{};
  t.point_at_output(direct, t.out + r0 * n * p.padded, r0, m, start, -1, n);
  if (io.grad_states.data != nullptr) t.point_at(io.grad_states, t.second, r0, m, start, -1, n);
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t c = 0; c < n && io.grad_states.data == nullptr; ++c) {
      t.pointers.drive[r][c] = t.pointers.ahead[r][c] = t.zeros;
    }
    if (top) begin_adjoint<V>(p, t.pointers.drive[r][0], t.state_rows[r0 + r], t.pointers.out[r][0]);
  }
  run<V, Mode::adjoint, Out::cached>(p, t.work, t.state_rows + r0, t.pointers, top, n, m);
  if (given) t.write_output(io.grad_drive, r0, m, start, -1, n);

  Steps<Real> lambda = t.pointers;
  if (io.need_sign) {
    t.point_at_drive(r0, m, start, -1, n);
    const bool stored = io.states.data != nullptr, mark = top || (start + 1) % kCheckpointSteps == 0;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) t.pointers.out[r][c] = t.second + (r * n + c) * p.padded;
      const int64_t b = t.first + r0 + r, known = stored ? n : mark ? 1 : 0;
      for (int64_t c = 0; c < known; ++c) {
        const Real* h = t.work;
        if (stored) h = read_row<V>(p, io.states, start - c, b, t.work);
        if (!stored && top) read_state<V>(io.last, p, b, t.work);
        if (!stored && !top)
          read_state<V>(io.checkpoints, p, ((start + 1) / kCheckpointSteps - 1) * p.batch + b, t.work);
        begin_rebuild<V>(p, h, t.pointers.drive[r][c], t.rebuilt_rows[r0 + r], t.pointers.out[r][c]);
      }
    }
    if (!stored) run<V, Mode::rebuild, Out::cached>(p, t.work, t.rebuilt_rows + r0, t.pointers, mark, n, m);
  }
  for (int64_t r = 0; r < m; ++r) {
    accumulate<V>(p, lambda.out[r], io.need_sign ? t.pointers.out[r] : nullptr, n, partial, partial + p.padded);
    if (p.kind != DriveKind::token || !io.need_weight) continue;
    for (int64_t c = 0; c < n; ++c) {
      Real* to = partial + (2 + token_of(p, start - c, t.first + r0 + r)) * p.padded;
      for (int64_t i = 0; i < p.padded; i += kLanes) store(to + i, add(load<V>(to + i), load<V>(lambda.out[r][c] + i)));
    }
  }
}

template <class V>
void backward(const Problem& p, const Backward& io, int64_t tile, typename V::Real* partial,
              typename V::Real* scratch) {
  using Real = typename V::Real;
  Tile<V> t(p, tile, scratch);
  clear(t.zeros, p.padded);
  for (int64_t r = 0; r < t.rows; ++r) {
    if (io.grad_last == nullptr) clear(t.state_rows[r], p.padded);
    if (io.grad_last != nullptr) read_state<V>(io.grad_last, p, t.first + r, t.state_rows[r]);
  }
  const bool fused = p.kind == DriveKind::fused;
  for (int64_t end = p.steps; end > 0;) {
    const int64_t begin = (end - 1) / t.steps * t.steps, n = end - begin, start = end - 1;
    if (fused) t.read_inputs(start, -1, n);
    for (int64_t r = 0; r < t.rows; r += t.group) {
      const int64_t m = t.rows - r < t.group ? t.rows - r : t.group;
      backward_rows(t, io, r, m, start, n, partial);
    }
    if (fused && io.need_weight) {
      outer<V>(t.x, p.inputs, t.out, t.rows * n, p.inputs, p.padded, partial + 2 * p.padded);
    }
    if (fused && io.grad_drive.data != nullptr) {
      const int64_t row = round_up(p.inputs, kLanes);
      mix<V>(t.out, p.padded, t.rows * n, p.width, static_cast<const Real*>(io.weight_rows), row, t.input_grads);
      for (int64_t s = 0; s < t.rows * n; ++s) {
        void* to = element(io.grad_drive, time_of(p, start - s % n), t.first + s / n);
        narrow_row<V>(t.input_grads + s * row, io.grad_drive.dtype, p.inputs, to);
      }
    }
    end = begin;
  }
  // dh0 = S̃ μ_0; without a step it is what came in
  for (int64_t r = 0; r < t.rows && p.steps > 0; ++r) {
    t.pointers.drive[0][0] = t.pointers.ahead[0][0] = t.zeros;
    t.pointers.out[0][0] = t.out;
    run<V, Mode::adjoint, Out::cached>(p, t.work, t.state_rows + r, t.pointers, 0, 1, 1);
    write_state<V>(t.out, p, t.first + r, io.grad_h0);
  }
  for (int64_t r = 0; r < t.rows && p.steps == 0; ++r) write_state<V>(t.state_rows[r], p, t.first + r, io.grad_h0);
}

template <class V>
int64_t scratch_elements(const Problem& p) {
  using Real = typename V::Real;
  alignas(64) static Real origin[1];
  Tile<V> t(p, 0, origin);
  return t.place(origin) - origin;
}

#if defined(SYLVESTER_LEVEL_scalar)
using Wide = lanes16<double>;
#else
using Wide = Vector;  // the caller sends float64 to the scalar level
#endif

int64_t scratch_any(const Problem& p) noexcept {
  return p.real == Dtype::float64 ? scratch_elements<Wide>(p) : scratch_elements<Vector>(p);
}
void forward_any(const Problem& p, const Forward& io, int64_t tile, void* scratch) noexcept {
  if (p.real == Dtype::float64) return forward<Wide>(p, io, tile, static_cast<Wide::Real*>(scratch));
  forward<Vector>(p, io, tile, static_cast<float*>(scratch));
}
void backward_any(const Problem& p, const Backward& io, int64_t tile, void* partial, void* scratch) noexcept {
  if (p.real == Dtype::float64) {
    return backward<Wide>(p, io, tile, static_cast<Wide::Real*>(partial), static_cast<Wide::Real*>(scratch));
  }
  backward<Vector>(p, io, tile, static_cast<float*>(partial), static_cast<float*>(scratch));
}

}  // namespace

namespace sylvester::hadamard_scan::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{scratch_any, forward_any, backward_any};
}  // namespace sylvester::hadamard_scan::SYLVESTER_LEVEL
