// The gradient of the sums, a block of the basis at a time from the last to the first: products give the gradient of
// its rows, the backward kernel of hadamard_scan takes that through the recurrence.
#pragma once

#include <deque>
#include <tuple>

#include "hadamard_basis/basis.h"

namespace sylvester::hadamard_basis {

struct Wanted {
  bool drive, weight, sign;
};
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class Real>
struct Gradient {
  const Kernels& kernels;
  const Problem p;  // of the rows of the group
  Basis<Real>& basis;
  const Inputs x;
  const Real* given;  // dL/dlast (B,D)
  Dtype real;
  int64_t row, batch_row;
  Scratch<Real> grad_rows, grad_columns, bias_row, memory, packed, products, sums;
  Rows<Real> block;  // dL/dP_j, like basis.block; the last row: of where the next block starts

  Gradient(const Problem& group, Basis<Real>& of, const Real* grad_last, const Wanted& need, bool bias)
      : kernels(levels.select(group.real)),
        p(group),
        basis(of),
        x(inputs_of(p, p.drive)),
        given(grad_last),
        real(p.real),
        row(basis.block.row),
        batch_row(odd_lines((p.batch + 15) / 16 * 16)) {
    const int64_t most = std::max(p.batch, need.drive ? p.width : 0) * basis.length * p.inputs;
    memory = padded_rows<Real>(p, (basis.length + 1) * basis.block.step);
    block = {memory.get(), basis.block.step, row};
    std::fill(block.at(basis.length, 0), block.at(basis.length + 1, 0), Real{0});
    packed = scratch<Real>(p.kind == DriveKind::token ? 0 : most);
    sums = zeros<Real>(hadamard_scan::Partial(basis.p, false).elements);
    grad_rows = padded_rows<Real>(p, p.batch * row);
    for (int64_t i = 0; i < p.batch; ++i) std::copy_n(given + i * p.width, p.width, grad_rows.get() + i * row);
    if (bias) {
      bias_row = zeros<Real>(p.width);
      for (int64_t i = 0; i < p.batch; ++i)
        for (int64_t d = 0; d < p.width; ++d) bias_row[d] += given[i * p.width + d];
    }
    if (!need.drive) return;
    products = scratch<Real>(basis.length * p.inputs * batch_row);
    grad_columns = zeros<Real>(p.width * batch_row);
    for (int64_t i = 0; i < p.batch; ++i)
      for (int64_t d = 0; d < p.width; ++d) grad_columns[d * batch_row + i] = given[i * p.width + d];
  }

  Axis rows_of(int64_t n) const { return steps_by_inputs(n, p.inputs, block.step, block.row); }

  // dP_j[i] = Σ_b x[b] · dlast[b] for the n steps from step j on; the bias's rows are all Σ_b dlast[b]
  void fill(int64_t j, int64_t n) {
    if (p.kind == DriveKind::token) {
      for (int64_t k = 0; k < n; ++k) std::fill(block.at(k, 0), block.at(k, p.inputs), Real{0});
      const Lookup lookup{static_cast<const int64_t*>(x.at(j)),
                          x.step(),
                          x.s.row,
                          n,
                          x.batch,
                          block.data,
                          block.step,
                          block.row,
                          grad_rows.get(),
                          row,
                          p.padded,
                          real};
      kernels.scatter(lookup, 0, p.padded);
    } else {
      const Axis rows = steps_by_inputs(n, p.inputs, x.step(), 1), depth = Axis::even(p.batch, x.s.row);
      run_pack(kernels, {x.at(j), x.s.dtype, rows, depth, packed.get(), real});
      run_product(kernels, {packed.get(), grad_rows.get(), block.data, Axis::even(p.batch, row), rows_of(n), p.padded,
                            false, real});
    }
    for (int64_t k = 0; bias_row && k < n; ++k) std::copy_n(bias_row.get(), p.width, block.at(k, p.inputs));
  }

  // dx[b, j, i] = Σ_d dlast[b, d] · P_j[i, d]
  void write_drive(const Sequence& to, int64_t j, int64_t n) {
    const Axis depth = Axis::even(p.width, 1), basis_rows = rows_of(n);
    run_pack(kernels, {basis.block.data, real, basis_rows, depth, packed.get(), real});
    run_product(kernels, {packed.get(), grad_columns.get(), products.get(), Axis::even(p.width, batch_row),
                          Axis::even(n * p.inputs, batch_row), (p.batch + 15) / 16 * 16, false, real});
    const Inputs out = inputs_of(p, to);
    const Unpack unpack{products.get(),
                        batch_row,
                        out.at(j),
                        to.dtype,
                        steps_by_inputs(n, p.inputs, out.step(), 1),
                        Axis::even(p.batch, to.row),
                        real};
    kernels.unpack(unpack, 0, n * p.inputs);
  }

  // Takes block's n steps through the recurrence; what their start gets joins the last row, for the block before
  void adjoin(int64_t n, bool more, bool need_sign) {
    Problem& r = basis.p;
    r.steps = more ? n : n - 1;
    hadamard_scan::Backward io{};
    io.grad_states = {block.at(1, 0), block.step, block.row, real};
    if (need_sign) io.states = {basis.block.at(1, 0), basis.block.step, basis.block.row, real};
    io.grad_h0 = basis.carry.get();
    io.need_sign = need_sign;
    for (int64_t tile = 0; tile < tile_count(r); ++tile) {
      basis.scan.backward(r, io, tile, sums.get(), basis.work.get());
    }
    for (int64_t i = 0; i < basis.rows; ++i) {
      const Real *direct = block.at(0, i), *later = basis.carry.get() + i * p.width;
      Real* to = block.at(basis.length, i);
      for (int64_t d = 0; d < p.width; ++d) to[d] = direct[d] + later[d];
    }
  }

  // All blocks, from the last to the first
  void run(const Real* starts, const Wanted& need, const Sequence& grad_drive) {
    const int64_t blocks = basis.blocks(p.steps);
    for (int64_t k = blocks; k-- > 0;) {
      const int64_t n = basis.steps_of(k, p.steps), j = k * basis.length;
      const bool more = k + 1 < blocks;
      if (need.drive || need.sign) basis.fill(starts + k * basis.rows * p.width, n, more);
      fill(j, n);
      if (need.drive) write_drive(grad_drive, j, n);
      adjoin(n, more, need.sign);
    }
  }

  void add(const Gradient& other) {
    for (int64_t i = 0; i < basis.rows; ++i)
      for (int64_t d = 0; d < p.width; ++d) block.at(basis.length, i)[d] += other.block.at(basis.length, i)[d];
    for (int64_t d = 0; d < p.width; ++d) sums[d] += other.sums[d];
  }

  // Rows [first, first + count) of the gradient of [U b]; transposed: element (i, d) goes to (d, i)
  Tensor start(int64_t first, int64_t count, std::initializer_list<int64_t> shape, bool transposed,
               ScalarType type) const {
    Tensor out = empty(shape, hadamard_scan::scalar_type(real));
    Real* to = static_cast<Real*>(out.data_ptr());
    for (int64_t i = 0; i < count; ++i) {
      const Real* from = block.at(basis.length, first + i);
      for (int64_t d = 0; d < p.width; ++d) to[transposed ? d * count + i : i * p.width + d] = from[d];
    }
    return type == out.scalar_type() ? out : torch::stable::to(out, type);
  }

  Tensor sign(ScalarType type) const {
    Tensor out = empty({p.width}, hadamard_scan::scalar_type(real));
    Real* to = static_cast<Real*>(out.data_ptr());
    std::copy_n(sums.get(), p.width, to);
    return type == out.scalar_type() ? out : torch::stable::to(out, type);
  }
};

template <class Real>
Gradients run_backward(const Bound& b, const Tensor& grad_last, const Tensor& weight, const Tensor& sign,
                       const std::optional<Tensor>& bias, const Tensor& starts, const Wanted& need) {
  const Problem& p = b.p;
  const Real* from = static_cast<const Real*>(grad_last.data_ptr());
  Tensor grad_drive = need.drive ? empty(b.sequence_shape(p.inputs), b.io) : empty({0}, b.io);
  Sequence whole{};
  if (need.drive) whole = hadamard_scan::sequence(grad_drive, b.axes, p.drive.dtype);
  std::deque<Basis<Real>> bases;
  std::deque<Gradient<Real>> groups;
  const int64_t count = group_count(p.batch);  // by the batch alone: the groups are added up
  for (int64_t i = 0; i < count; ++i) {
    groups.emplace_back(group_of(p, i, count), bases.emplace_back(b, bias), from + first_of(p, i, count) * p.width,
                        need, bias.has_value());
  }
  parallel(count, 2 * group_cost(p, count), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Sequence part = whole;
      const int64_t first = first_of(p, i, count);
      if (need.drive) part.data = static_cast<char*>(whole.data) + first * whole.row * size_of(whole.dtype);
      groups[i].run(static_cast<const Real*>(starts.data_ptr()), need, part);
    }
  });
  Gradient<Real>& sum = groups.front();
  for (int64_t i = 1; i < count; ++i) sum.add(groups[i]);
  const ScalarType sign_type = sign.scalar_type(), weight_type = weight.scalar_type();
  Tensor grad_weight = empty({0}, weight_type), grad_bias = empty({0}, sign_type);
  if (need.weight && p.kind == DriveKind::fused) {
    grad_weight = sum.start(0, p.inputs, {p.width, p.inputs}, true, weight_type);
  } else if (need.weight) {
    grad_weight = sum.start(0, p.inputs, {p.inputs, p.width}, false, weight_type);
  }
  if (bias) grad_bias = sum.start(p.inputs, 1, {p.width}, false, bias->scalar_type());
  return {grad_drive, grad_weight, need.sign ? sum.sign(sign_type) : empty({0}, sign_type), grad_bias};
}

}  // namespace sylvester::hadamard_basis
