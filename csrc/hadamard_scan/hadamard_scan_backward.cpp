#include <algorithm>
#include <tuple>

#include "common/thread.h"
#include "hadamard_scan/hadamard_scan.h"
#include "hadamard_scan/problem.h"

namespace sylvester::hadamard_scan {
namespace {

// Sums of the partials in order, and the small gradients cut out of the sum
template <class Real>
struct Sums {
  int64_t count, elements, padded;
  ScalarType real;
  Scratch<Real> partials;

  Sums(int64_t partial_count, int64_t partial_elements, const Problem& p)
      : count(partial_count),
        elements(partial_elements),
        padded(p.padded),
        real(scalar_type(p.real)),
        partials(scratch<Real>(count * elements)) {
    std::fill(partials.get(), partials.get() + count * elements, Real{0});
  }
  Real* partial(int64_t i) { return partials.get() + i * elements; }
  void reduce() {
    for (int64_t i = 1; i < count; ++i)
      for (int64_t e = 0; e < elements; ++e) partials[e] += partials[i * elements + e];
  }
  void add_rows(int64_t at, int64_t rows, int64_t to) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t d = 0; d < padded; ++d) partials[to + d] += partials[at + i * padded + d];
  }
  // rows × columns of the sum from element `at` on, rows P apart; transposed: element (i, d) goes to (d, i)
  Tensor matrix(int64_t at, int64_t rows, int64_t columns, bool transposed, ScalarType type) const {
    Tensor out = transposed ? empty({columns, rows}, real) : empty({rows, columns}, real);
    Real* to = static_cast<Real*>(out.data_ptr());
    for (int64_t i = 0; i < rows; ++i) {
      const Real* from = partials.get() + at + i * padded;
      for (int64_t d = 0; d < columns; ++d) to[transposed ? d * rows + i : i * columns + d] = from[d];
    }
    return type == real ? out : torch::stable::to(out, type);
  }
  Tensor vector(int64_t at, int64_t columns, ScalarType type) const {
    Tensor out = empty({columns}, real);
    std::copy_n(partials.get() + at, columns, static_cast<Real*>(out.data_ptr()));
    return type == real ? out : torch::stable::to(out, type);
  }
};

// The tensors whose gradients are wanted, beyond those that cost nothing
struct Wanted {
  const Recurrence& r;
  const std::optional<Tensor>& readout;
  bool drive, weight, sign;
};
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class Real>
Scratch<Real> rows_of_weight(const Problem& p) {
  const int64_t padded_inputs = (p.inputs + 15) / 16 * 16;
  Scratch<Real> rows = scratch<Real>(p.width * padded_inputs);
  std::fill(rows.get(), rows.get() + p.width * padded_inputs, Real{0});
  const Real* from = static_cast<const Real*>(p.weight);
  for (int64_t d = 0; d < p.width; ++d)
    for (int64_t i = 0; i < p.inputs; ++i) rows[d * padded_inputs + i] = from[i * p.padded + d];
  return rows;
}

template <class Real>
Gradients run_backward(const Bound& b, Backward io, const Tensor& grad_drive, const Wanted& need) {
  const Problem& p = b.p;
  Tensor grad_h0 = empty({p.batch, p.width}, scalar_type(p.real));
  io.grad_h0 = grad_h0.data_ptr();
  Scratch<Real> rows;
  if (p.kind == DriveKind::fused && need.drive) {
    rows = rows_of_weight<Real>(p);
    io.weight_rows = rows.get();
  }
  const Partial at(p, need.weight);
  const int64_t tiles = tile_count(p);
  const int64_t most = std::clamp<int64_t>(tiles, 1, kMostPartials);
  const int64_t count = std::clamp<int64_t>(kPartialFloor / at.elements, 1, most);
  Sums<Real> sums(count, at.elements, p);
  const Kernels& kernels = levels.select(p.real);
  parallel_with_scratch<Real>(count, 3 * tile_cost(p) * tiles / count, kernels.scratch(p),
                              [&](int64_t begin, int64_t end, Real* scratch) {
                                for (int64_t i = begin; i < end; ++i)
                                  for (int64_t tile = i * tiles / count; tile < (i + 1) * tiles / count; ++tile)
                                    kernels.backward(p, io, tile, sums.partial(i), scratch);
                              });
  sums.reduce();
  if (p.kind == DriveKind::token && need.weight) sums.add_rows(at.weight, p.inputs, at.bias);
  const auto none = [](ScalarType type) { return empty({0}, type); };
  const Recurrence& r = need.r;
  const ScalarType sign = r.sign.scalar_type(), weight = r.weight ? r.weight->scalar_type() : b.io;
  const bool fused = p.kind == DriveKind::fused;
  const ScalarType readout = need.readout ? need.readout->scalar_type() : sign;
  return {grad_drive,
          need.weight ? sums.matrix(at.weight, p.inputs, p.width, fused, weight) : none(weight),
          need.sign ? sums.vector(at.sign, p.width, sign) : none(sign),
          sums.vector(at.bias, p.width, (r.bias ? *r.bias : r.sign).scalar_type()),
          grad_h0,
          need.readout ? sums.matrix(at.readout, p.readout.outputs, p.width, false, readout) : none(readout),
          need.readout ? sums.vector(at.readout_bias, p.readout.outputs, readout) : none(readout),
          r.act_bias ? sums.vector(at.act_bias, p.width, r.act_bias->scalar_type()) : none(sign)};
}

void check_checkpoints(const Problem& p, const Tensor& checkpoints, const Tensor& last) {
  const int64_t count = p.steps > 0 ? (p.steps - 1) / kCheckpointSteps : 0;
  SYLVESTER_CHECK(checkpoints.size(0) == count, kOp, ": checkpoints must have ", count, " rows, got ",
                  checkpoints.size(0), " (the forward ran with keep = False)");
  check_cpu(kOp, "checkpoints", checkpoints);
  check_shape(kOp, "checkpoints", checkpoints, {count, p.batch, p.width});
  SYLVESTER_CHECK(checkpoints.scalar_type() == last.scalar_type(), kOp, ": checkpoints must have the dtype of last");
}

// A checked sequence of `columns`, with the tensor it points into
std::optional<Tensor> bind_sequence(const Bound& b, const char* name, const std::optional<Tensor>& t, int64_t columns,
                                    ScalarType type, Sequence& to) {
  if (!t) return std::nullopt;
  const auto shape = b.sequence_shape(columns);
  check_cpu(kOp, name, *t);
  check_shape(kOp, name, *t, {shape[0], shape[1], shape[2]});
  SYLVESTER_CHECK(t->scalar_type() == type, kOp, ": ", name, " must be of the dtype of the ",
                  type == b.io ? "output" : "state");
  const Tensor dense = with_dense_rows(*t);
  to = sequence(dense, b.axes, dtype_of(kOp, name, dense));
  return dense;
}

Gradients scan_backward(const std::optional<Tensor>& grad_output, const std::optional<Tensor>& grad_last,
                        const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& h0,
                        const std::optional<Tensor>& lengths, const std::optional<Tensor>& readout,
                        const std::optional<Tensor>& act_bias, const std::optional<Tensor>& states, const Tensor& last,
                        const Tensor& checkpoints, int64_t block, int64_t activation, bool last_only, bool reverse,
                        bool batch_first, bool need_drive, bool need_weight, bool need_sign) {
  const Axes axes = batch_first ? Axes::batch_first : Axes::time_first;
  const Recurrence r{weight, sign, bias, act_bias, block, activation};
  Bound b = bind(drive, r, lengths, reverse, axes);
  const Problem& p = b.p;
  if (readout) bind_readout(b, *readout, std::nullopt);
  const Wanted need{r, readout, need_drive && p.kind != DriveKind::token, need_weight && weight.has_value(), need_sign};
  Backward io{};
  const int64_t columns = readout ? p.readout.outputs : p.width;
  std::optional<Tensor> g;
  if (last_only && grad_output) {
    SYLVESTER_CHECK(readout.has_value(), kOp, ": grad_output with last_only belongs to a read-out");
    check_cpu(kOp, "grad_output", *grad_output);
    check_shape(kOp, "grad_output", *grad_output, {p.batch, columns});
    SYLVESTER_CHECK(grad_output->scalar_type() == b.io, kOp, ": grad_output must be of the dtype of the output");
    g = with_dense_rows(*grad_output);
    io.grad_last_outputs = sequence(*g, Axes::step, dtype_of(kOp, "grad_output", *g));
  } else {
    g = bind_sequence(b, "grad_output", grad_output, columns, b.io, readout ? io.grad_outputs : io.grad_states);
  }
  const auto g_last = bind_rows(p, "grad_last", grad_last, io.grad_last);
  const auto initial = bind_rows(p, "h0", h0, io.h0);
  const auto end = bind_rows(p, "last", last, io.last);
  const auto full = bind_sequence(b, "states", states, p.width, scalar_type(p.real), io.states);
  if (!states && (need_sign || (readout && !last_only) || p.activation != Activation::identity)) {
    check_checkpoints(p, checkpoints, last);
  }
  const Tensor marks = packed(checkpoints);
  io.checkpoints = marks.data_ptr();
  io.need_sign = need.sign;
  io.need_weight = need.weight;
  const int64_t inputs = p.kind == DriveKind::given ? p.width : p.inputs;
  Tensor grad_drive = need.drive ? empty(b.sequence_shape(inputs), b.io) : empty({0}, b.io);
  if (need.drive) io.grad_drive = sequence(grad_drive, axes, dtype_of(kOp, "drive", grad_drive));
  return p.real == Dtype::float64 ? run_backward<double>(b, io, grad_drive, need)
                                  : run_backward<float>(b, io, grad_drive, need);
}

}  // namespace
}  // namespace sylvester::hadamard_scan

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def(
      "hadamard_scan_backward(Tensor? grad_output, Tensor? grad_last, Tensor drive, Tensor? weight, Tensor sign, "
      "Tensor? bias, Tensor? h0, Tensor? lengths, Tensor? readout, Tensor? act_bias, Tensor? states, Tensor last, "
      "Tensor checkpoints, int block_size, int activation, bool last_only, bool reverse, bool batch_first, bool "
      "need_drive, "
      "bool need_weight, bool need_sign) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("hadamard_scan_backward", TORCH_BOX(&sylvester::hadamard_scan::scan_backward));
}
