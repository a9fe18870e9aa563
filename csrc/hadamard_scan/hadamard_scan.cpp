#include "hadamard_scan/hadamard_scan.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "common/thread.h"
#include "hadamard_scan/problem.h"

namespace sylvester::hadamard_scan {
namespace {

size_t bytes_of(Dtype real) { return static_cast<size_t>(size_of(real)); }

void check_state(const char* name, const Tensor& t, const Problem& p) {
  check_cpu(kOp, name, t);
  check_shape(kOp, name, t, {p.batch, p.width});
  SYLVESTER_CHECK(t.scalar_type() == scalar_type(p.real), kOp, ": ", name,
                  p.real == Dtype::float64 ? " must be float64, as drive is" : " must be float32");
}

void run_forward(const Problem& p, const Forward& io) {
  const Kernels& kernels = levels.select(p.real);
  const int64_t elements = kernels.scratch(p) * static_cast<int64_t>(bytes_of(p.real) / sizeof(float));
  parallel_with_scratch<float>(tile_count(p), tile_cost(p), elements, [&](int64_t begin, int64_t end, float* scratch) {
    for (int64_t tile = begin; tile < end; ++tile) kernels.forward(p, io, tile, scratch);
  });
}

std::tuple<Tensor, Tensor, Tensor> scan(const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
                                        const std::optional<Tensor>& bias, const std::optional<Tensor>& h0,
                                        int64_t block, bool last_only, bool reverse, bool batch_first, bool keep) {
  const Axes axes = batch_first ? Axes::batch_first : Axes::time_first;
  const Bound b = bind(drive, weight, sign, bias, block, reverse, axes);
  const Problem& p = b.p;
  if (h0) check_state("h0", *h0, p);
  const std::optional<Tensor> initial = h0 ? std::optional(packed(*h0)) : std::nullopt;
  const ScalarType real = scalar_type(p.real);
  Tensor states = last_only ? empty({0}, b.io) : empty(b.sequence_shape(p.width), b.io);
  Tensor last = empty({p.batch, p.width}, real);
  const int64_t marks = keep && p.steps > 0 ? (p.steps - 1) / kCheckpointSteps : 0;
  Tensor checkpoints = empty({marks, p.batch, p.width}, real);
  Forward io{};
  io.h0 = initial ? initial->data_ptr() : nullptr;
  if (!last_only) io.states = sequence(states, axes, dtype_of(kOp, "states", states));
  io.last = last.data_ptr();
  io.checkpoints = marks > 0 ? checkpoints.data_ptr() : nullptr;
  run_forward(p, io);
  return {states, last, checkpoints};
}

Tensor step(const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
            const std::optional<Tensor>& bias, const Tensor& h, int64_t block) {
  const Bound b = bind(drive, weight, sign, bias, block, false, Axes::step);
  check_state("h", h, b.p);
  const Tensor before = packed(h);
  Tensor after = empty({b.p.batch, b.p.width}, scalar_type(b.p.real));
  Forward io{};
  io.h0 = before.data_ptr();
  io.last = after.data_ptr();
  run_forward(b.p, io);
  return after;
}

// Sums of the partials in order, and the small gradients cut out of the sum
template <class Real>
struct Sums {
  int64_t count, elements, padded;
  Scratch<Real> partials;

  Sums(int64_t partial_count, int64_t partial_elements, int64_t row)
      : count(partial_count), elements(partial_elements), padded(row), partials(scratch<Real>(count * elements)) {
    std::fill(partials.get(), partials.get() + count * elements, Real{0});
  }
  Real* partial(int64_t i) { return partials.get() + i * elements; }
  void reduce() {
    for (int64_t i = 1; i < count; ++i)
      for (int64_t e = 0; e < elements; ++e) partials[e] += partials[i * elements + e];
  }
  // rows × columns of the sum from `row` on; transposed: element (i, d) goes to (d, i)
  Tensor cut(int64_t row, int64_t rows, int64_t columns, bool transposed, ScalarType real, ScalarType type) const {
    Tensor out = transposed ? empty({columns, rows}, real) : empty({rows, columns}, real);
    Real* to = static_cast<Real*>(out.data_ptr());
    for (int64_t i = 0; i < rows; ++i) {
      const Real* from = partials.get() + (row + i) * padded;
      for (int64_t d = 0; d < columns; ++d) to[transposed ? d * rows + i : i * columns + d] = from[d];
    }
    return type == real ? out : torch::stable::to(out, type);
  }
};

struct Wanted {
  bool drive, weight, sign;
};
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class Real>
Gradients run_backward(const Bound& b, Backward io, const Tensor& grad_drive, const Wanted& need, const Tensor& sign,
                       const std::optional<Tensor>& bias, const std::optional<Tensor>& weight) {
  const Problem& p = b.p;
  const ScalarType real = scalar_type(p.real);
  Tensor grad_h0 = empty({p.batch, p.width}, real);
  io.grad_h0 = grad_h0.data_ptr();
  const int64_t padded_inputs = (p.inputs + 15) / 16 * 16;
  Scratch<Real> rows;
  if (p.kind == DriveKind::fused && need.drive) {
    rows = scratch<Real>(p.width * padded_inputs);
    std::fill(rows.get(), rows.get() + p.width * padded_inputs, Real{0});
    const Real* from = static_cast<const Real*>(p.weight);
    for (int64_t d = 0; d < p.width; ++d)
      for (int64_t i = 0; i < p.inputs; ++i) rows[d * padded_inputs + i] = from[i * p.padded + d];
    io.weight_rows = rows.get();
  }
  const int64_t elements = (2 + (need.weight ? p.inputs : 0)) * p.padded, tiles = tile_count(p);
  const int64_t count = std::clamp<int64_t>(kPartialFloor / elements, 1, std::clamp<int64_t>(tiles, 1, kMostPartials));
  Sums<Real> sums(count, elements, p.padded);
  const Kernels& kernels = levels.select(p.real);
  parallel_with_scratch<Real>(count, 3 * tile_cost(p) * tiles / count, kernels.scratch(p),
                              [&](int64_t begin, int64_t end, Real* scratch) {
                                for (int64_t i = begin; i < end; ++i)
                                  for (int64_t tile = i * tiles / count; tile < (i + 1) * tiles / count; ++tile)
                                    kernels.backward(p, io, tile, sums.partial(i), scratch);
                              });
  sums.reduce();
  const auto vector = [&](int64_t row, ScalarType type) {
    Tensor out = empty({p.width}, real);
    std::copy_n(sums.partial(0) + row * p.padded, p.width, static_cast<Real*>(out.data_ptr()));
    return type == real ? out : torch::stable::to(out, type);
  };
  const ScalarType weight_type = weight ? weight->scalar_type() : b.io;
  Tensor grad_weight = need.weight ? sums.cut(2, p.inputs, p.width, p.kind == DriveKind::fused, real, weight_type)
                                   : empty({0}, weight_type);
  Tensor grad_sign = need.sign ? vector(0, sign.scalar_type()) : empty({0}, sign.scalar_type());
  return {grad_drive, grad_weight, grad_sign, vector(1, (bias ? *bias : sign).scalar_type()), grad_h0};
}

Gradients scan_backward(const std::optional<Tensor>& grad_states, const std::optional<Tensor>& grad_last,
                        const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& states, const Tensor& last,
                        const Tensor& checkpoints, int64_t block, bool reverse, bool batch_first, bool need_drive,
                        bool need_weight, bool need_sign) {
  const Axes axes = batch_first ? Axes::batch_first : Axes::time_first;
  const Bound b = bind(drive, weight, sign, bias, block, reverse, axes);
  const Problem& p = b.p;
  const Wanted need{need_drive && p.kind != DriveKind::token, need_weight && p.kind != DriveKind::given, need_sign};
  const auto shape = b.sequence_shape(p.width);
  Backward io{};
  std::optional<Tensor> g, g_last, full;
  if (grad_states) {
    check_cpu(kOp, "grad_states", *grad_states);
    check_shape(kOp, "grad_states", *grad_states, {shape[0], shape[1], shape[2]});
    SYLVESTER_CHECK(grad_states->scalar_type() == b.io, kOp, ": grad_states must have the dtype of the states");
    g = with_dense_rows(*grad_states);
    io.grad_states = sequence(*g, axes, dtype_of(kOp, "grad_states", *g));
  }
  if (grad_last) {
    check_state("grad_last", *grad_last, p);
    g_last = packed(*grad_last);
    io.grad_last = g_last->data_ptr();
  }
  check_state("last", last, p);
  const Tensor end = packed(last), marks = packed(checkpoints);
  if (states) {
    check_shape(kOp, "states", *states, {shape[0], shape[1], shape[2]});
    SYLVESTER_CHECK(states->scalar_type() == scalar_type(p.real), kOp, ": states must be full precision");
    full = with_dense_rows(*states);
    io.states = sequence(*full, axes, p.real);
  } else {
    const int64_t count = p.steps > 0 ? (p.steps - 1) / kCheckpointSteps : 0;
    SYLVESTER_CHECK(!need_sign || checkpoints.size(0) == count, kOp, ": checkpoints must have ", count, " rows, got ",
                    checkpoints.size(0), " (the forward ran with keep = False)");
    if (need_sign) {
      check_cpu(kOp, "checkpoints", checkpoints);
      check_shape(kOp, "checkpoints", checkpoints, {count, p.batch, p.width});
      SYLVESTER_CHECK(checkpoints.scalar_type() == last.scalar_type(), kOp,
                      ": checkpoints must have the dtype of last");
    }
  }
  io.last = end.data_ptr();
  io.checkpoints = marks.data_ptr();
  io.need_sign = need.sign;
  io.need_weight = need.weight;
  const int64_t columns = p.kind == DriveKind::given ? p.width : p.inputs;
  Tensor grad_drive = need.drive ? empty(b.sequence_shape(columns), b.io) : empty({0}, b.io);
  if (need.drive) io.grad_drive = sequence(grad_drive, axes, dtype_of(kOp, "drive", grad_drive));
  return p.real == Dtype::float64 ? run_backward<double>(b, io, grad_drive, need, sign, bias, weight)
                                  : run_backward<float>(b, io, grad_drive, need, sign, bias, weight);
}

}  // namespace
}  // namespace sylvester::hadamard_scan

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def(
      "hadamard_scan(Tensor drive, Tensor? weight, Tensor sign, Tensor? bias, Tensor? h0, int block_size, "
      "bool last_only, bool reverse, bool batch_first, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def(
      "hadamard_scan_backward(Tensor? grad_states, Tensor? grad_last, Tensor drive, Tensor? weight, Tensor sign, "
      "Tensor? bias, Tensor? states, Tensor last, Tensor checkpoints, int block_size, bool reverse, bool batch_first, "
      "bool need_drive, bool need_weight, bool need_sign) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("hadamard_step(Tensor drive, Tensor? weight, Tensor sign, Tensor? bias, Tensor h, int block_size) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("hadamard_scan", TORCH_BOX(&sylvester::hadamard_scan::scan));
  m.impl("hadamard_scan_backward", TORCH_BOX(&sylvester::hadamard_scan::scan_backward));
  m.impl("hadamard_step", TORCH_BOX(&sylvester::hadamard_scan::step));
}
