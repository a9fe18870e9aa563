#include "hadamard_basis/hadamard_basis.h"

#include <deque>
#include <tuple>

#include "hadamard_basis/basis.h"
#include "hadamard_basis/gradient.h"
#include "hadamard_basis/sums.h"

namespace sylvester::hadamard_basis {
namespace {

using hadamard_scan::Axes;
using hadamard_scan::scalar_type;
using hadamard_scan::sequence;

constexpr const char* kOp = "hadamard_scan";  // whose plan this is

Axes axes_of(bool batch_first) { return batch_first ? Axes::batch_first : Axes::time_first; }

// The recurrence of the basis has no bias of its own: it is one of the basis's rows.
Bound bind_basis(const Tensor& drive, const Tensor& weight, const Tensor& sign, const std::optional<Tensor>& bias,
                 int64_t block, bool reverse, bool batch_first) {
  if (bias) {
    check_cpu(kOp, "bias", *bias);
    check_shape(kOp, "bias", *bias, {sign.size(0)});
    dtype_of(kOp, "bias", *bias);
  }
  const std::optional<Tensor> none, rows(weight);
  return hadamard_scan::bind(drive, {rows, sign, none, none, block, 0}, none, reverse, axes_of(batch_first));
}

template <class Real>
std::tuple<Tensor, Tensor> run_scan(const Bound& b, const std::optional<Tensor>& bias, bool keep) {
  const Problem& p = b.p;
  std::deque<Group<Real>> groups;
  // As many as there are threads: a row's sum does not depend on its group.
  const int64_t count = std::min<int64_t>(group_count(p.batch), torch::stable::get_num_threads());
  for (int64_t i = 0; i < count; ++i) groups.emplace_back(b, group_of(p, i, count), bias);
  const Basis<Real>& basis = groups.front().basis;
  Tensor starts = empty({keep ? basis.blocks(p.steps) : 0, basis.rows, p.width}, scalar_type(p.real));
  Tensor last = empty({p.batch, p.width}, scalar_type(p.real));
  Real *kept = static_cast<Real*>(starts.data_ptr()), *to = static_cast<Real*>(last.data_ptr());
  parallel(count, group_cost(p, count), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      groups[i].run(bias.has_value(), keep && i == 0 ? kept : nullptr);
      groups[i].sums.write(groups[i].sums.shift.get(), to + first_of(p, i, count) * p.width);
    }
  });
  return {last, starts};
}

std::tuple<Tensor, Tensor> scan(const Tensor& drive, const Tensor& weight, const Tensor& sign,
                                const std::optional<Tensor>& bias, int64_t block, bool reverse, bool batch_first,
                                bool keep) {
  const Bound b = bind_basis(drive, weight, sign, bias, block, reverse, batch_first);
  return b.p.real == Dtype::float64 ? run_scan<double>(b, bias, keep) : run_scan<float>(b, bias, keep);
}

Gradients scan_backward(const Tensor& grad_last, const Tensor& drive, const Tensor& weight, const Tensor& sign,
                        const std::optional<Tensor>& bias, const Tensor& starts, int64_t block, bool reverse,
                        bool batch_first, bool need_drive, bool need_weight, bool need_sign) {
  const Bound b = bind_basis(drive, weight, sign, bias, block, reverse, batch_first);
  const Problem& p = b.p;
  const Wanted need{need_drive && p.kind != DriveKind::token, need_weight, need_sign};
  const ScalarType real = scalar_type(p.real);
  const int64_t rows = p.inputs + (bias ? 1 : 0);
  check_cpu(kOp, "grad_last", grad_last);
  check_shape(kOp, "grad_last", grad_last, {p.batch, p.width});
  SYLVESTER_CHECK(grad_last.scalar_type() == real, kOp, ": grad_last must have the dtype of last");
  if (need.drive || need.sign) {
    check_cpu(kOp, "starts", starts);
    check_shape(kOp, "starts", starts, {block_count(p.steps, block_steps(p.inputs, p.padded)), rows, p.width});
    SYLVESTER_CHECK(starts.scalar_type() == real, kOp, ": starts must have the dtype of last");
  }
  return p.real == Dtype::float64 ? run_backward<double>(b, packed(grad_last), weight, sign, bias, packed(starts), need)
                                  : run_backward<float>(b, packed(grad_last), weight, sign, bias, packed(starts), need);
}

template <class Real>
std::tuple<Tensor, Tensor> run_basis(const Bound& b, const std::optional<Tensor>& bias, int64_t steps) {
  const Problem& p = b.p;
  Basis<Real> basis(b, bias);
  Sums<Real> sums(0, p.width, p.padded);
  // Rows an odd number of cache lines apart, as in a block
  const int64_t row = odd_lines(p.padded);
  const std::array shape{steps, p.inputs, p.width}, strides{p.inputs * row, row, int64_t{1}};
  Tensor out =
      empty_strided(shape, strides, std::max<int64_t>(0, steps * p.inputs * row - row + p.width), scalar_type(p.real));
  Tensor shift = empty({p.width}, scalar_type(p.real));
  Real* to = static_cast<Real*>(out.data_ptr());
  for (int64_t k = 0; k < basis.blocks(steps); ++k) {
    const int64_t n = basis.steps_of(k, steps);
    basis.fill(basis.carry.get(), n, true);
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = 0; i < p.inputs; ++i, to += row) std::copy_n(basis.block.at(j, i), p.width, to);
    if (bias) sums.add_bias(basis.block, n, p.inputs);
  }
  std::copy_n(sums.shift.get(), p.width, static_cast<Real*>(shift.data_ptr()));
  return {out, shift};
}

std::tuple<Tensor, Tensor> basis(const Tensor& weight, const Tensor& sign, const std::optional<Tensor>& bias,
                                 int64_t block, int64_t steps, bool tokens) {
  SYLVESTER_CHECK(steps >= 0, kOp, ": steps must be at least 0, got ", steps);
  SYLVESTER_CHECK(weight.dim() == 2, kOp, ": weight must have two dimensions, got shape ", shape_text(sizes(weight)));
  check_cpu(kOp, "weight", weight);
  const Tensor none =
      tokens ? empty({steps, 0}, ScalarType::Long) : empty({steps, 0, weight.size(1)}, weight.scalar_type());
  const Bound b = bind_basis(none, weight, sign, bias, block, false, false);
  return b.p.real == Dtype::float64 ? run_basis<double>(b, bias, steps) : run_basis<float>(b, bias, steps);
}

template <class Real>
Tensor run_apply(const Inputs& x, bool tokens, const Tensor& basis, const Tensor& shift) {
  const int64_t width = basis.size(2), padded = (width + 15) / 16 * 16;
  const Dtype real = sizeof(Real) == 8 ? Dtype::float64 : Dtype::float32;
  const Kernels& kernels = levels.select(real);
  const int64_t length = std::min(block_steps(x.inputs, padded), std::max<int64_t>(1, x.steps));
  const Scratch<Real> packed = scratch<Real>(tokens ? 0 : x.batch * length * x.inputs);
  const Scratch<Real> copy = zeros<Real>(width == padded ? 0 : length * x.inputs * padded);
  Sums<Real> sums(x.batch, width, padded);
  for (int64_t j = 0; j < x.steps; j += length) {
    const int64_t n = std::min(length, x.steps - j);
    Rows<Real> block{static_cast<Real*>(basis.data_ptr()) + j * basis.stride(0), basis.stride(0), basis.stride(1)};
    if (width != padded) {
      const Rows<Real> whole{copy.get(), x.inputs * padded, padded};
      for (int64_t k = 0; k < n; ++k)
        for (int64_t i = 0; i < x.inputs; ++i) std::copy_n(block.at(k, i), width, whole.at(k, i));
      block = whole;
    }
    add_products(kernels, x, tokens, j, n, block, padded, packed.get(), sums.rows, Threads::all);
  }
  Tensor last = empty({x.batch, width}, scalar_type(real));
  sums.write(static_cast<const Real*>(shift.data_ptr()), static_cast<Real*>(last.data_ptr()));
  return last;
}

Tensor apply(const Tensor& drive, const Tensor& basis, const Tensor& shift, bool reverse, bool batch_first) {
  SYLVESTER_CHECK(basis.dim() == 3 && basis.size(2) > 0, kOp, ": basis must have shape (T, I, D), got ",
                  shape_text(sizes(basis)));
  const Dtype real = dtype_of(kOp, "basis", basis);
  SYLVESTER_CHECK(size_of(real) >= 4, kOp, ": basis must be float32 or float64");
  check_cpu(kOp, "basis", basis);
  check_cpu(kOp, "shift", shift);
  check_shape(kOp, "shift", shift, {basis.size(2)});
  SYLVESTER_CHECK(shift.scalar_type() == basis.scalar_type(), kOp, ": shift must have the dtype of basis");
  check_cpu(kOp, "drive", drive);
  const bool tokens = !is_float(drive.scalar_type());
  SYLVESTER_CHECK(drive.dim() == (tokens ? 2 : 3), kOp, ": drive must have shape (T, B, I), or (T, B) for tokens, got ",
                  shape_text(sizes(drive)));
  SYLVESTER_CHECK(tokens || (drive.scalar_type() == ScalarType::Double) == (real == Dtype::float64), kOp,
                  ": basis must be ", drive.scalar_type() == ScalarType::Double ? "float64" : "float32",
                  " with this drive");
  Bound b{};
  b.axes = axes_of(batch_first);
  Problem& p = b.p;
  p.steps = drive.size(batch_first ? 1 : 0);
  p.batch = drive.size(batch_first ? 0 : 1);
  p.inputs = tokens ? basis.size(1) : drive.size(2);
  p.reverse = reverse;
  SYLVESTER_CHECK(basis.size(0) == p.steps && basis.size(1) == p.inputs, kOp, ": basis must have shape (", p.steps,
                  ", ", p.inputs, ", D), got ", shape_text(sizes(basis)));
  b.drive = !tokens                                   ? hadamard_scan::with_dense_rows(drive)
            : drive.scalar_type() == ScalarType::Long ? drive
                                                      : torch::stable::to(drive, ScalarType::Long);
  p.drive = sequence(*b.drive, b.axes, tokens ? Dtype::float64 : dtype_of(kOp, "drive", drive));
  if (tokens) hadamard_scan::check_tokens(b);
  const Tensor dense = hadamard_scan::with_dense_rows(basis), dense_shift = packed(shift);
  return real == Dtype::float64 ? run_apply<double>(inputs_of(p, p.drive), tokens, dense, dense_shift)
                                : run_apply<float>(inputs_of(p, p.drive), tokens, dense, dense_shift);
}

}  // namespace
}  // namespace sylvester::hadamard_basis

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def(
      "hadamard_basis_scan(Tensor drive, Tensor weight, Tensor sign, Tensor? bias, int block_size, bool reverse, "
      "bool batch_first, bool keep) -> (Tensor, Tensor)");
  m.def(
      "hadamard_basis_scan_backward(Tensor grad_last, Tensor drive, Tensor weight, Tensor sign, Tensor? bias, "
      "Tensor starts, int block_size, bool reverse, bool batch_first, bool need_drive, bool need_weight, "
      "bool need_sign) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "hadamard_basis(Tensor weight, Tensor sign, Tensor? bias, int block_size, SymInt steps, bool tokens) -> "
      "(Tensor, Tensor)");
  m.def("hadamard_basis_apply(Tensor drive, Tensor basis, Tensor shift, bool reverse, bool batch_first) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("hadamard_basis_scan", TORCH_BOX(&sylvester::hadamard_basis::scan));
  m.impl("hadamard_basis_scan_backward", TORCH_BOX(&sylvester::hadamard_basis::scan_backward));
  m.impl("hadamard_basis", TORCH_BOX(&sylvester::hadamard_basis::basis));
  m.impl("hadamard_basis_apply", TORCH_BOX(&sylvester::hadamard_basis::apply));
}
