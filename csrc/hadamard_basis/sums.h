// The sums of a group of rows, a block of the basis at a time from the first to the last.
#pragma once

#include "hadamard_basis/basis.h"

namespace sylvester::hadamard_basis {

// Sums over the steps: of the inputs, (B,P), and of the biases, (P)
template <class Real>
struct Sums {
  int64_t batch, width;
  Scratch<Real> memory, shift;
  Rows<Real> rows;

  Sums(int64_t rows_of_batch, int64_t columns, int64_t padded)
      : batch(rows_of_batch),
        width(columns),
        memory(zeros<Real>(batch * odd_lines(padded))),
        shift(zeros<Real>(padded)),
        rows{memory.get(), 0, odd_lines(padded)} {}
  void add_bias(const Rows<Real>& basis, int64_t steps, int64_t row) {
    constexpr int64_t kSideBySide = 16;                 // sums in registers
    for (int64_t d = 0; d < width; d += kSideBySide) {  // rows are padded to as many
      Real sum[kSideBySide];
      std::copy_n(shift.get() + d, kSideBySide, sum);
      for (int64_t j = 0; j < steps; ++j) {
        const Real* from = basis.at(j, row) + d;
        for (int64_t i = 0; i < kSideBySide; ++i) sum[i] += from[i];
      }
      std::copy_n(sum, kSideBySide, shift.get() + d);
    }
  }
  void write(const Real* added, Real* to) const {
    for (int64_t b = 0; b < batch; ++b, to += width) {
      const Real* from = rows.at(0, b);
      for (int64_t d = 0; d < width; ++d) to[d] = from[d] + added[d];
    }
  }
};

// The rows of a group
template <class Real>
struct Group {
  const Problem p;
  Basis<Real> basis;
  Scratch<Real> packed;
  Sums<Real> sums;

  Group(const Bound& b, const Problem& group, const std::optional<Tensor>& bias)
      : p(group),
        basis(b, bias),
        packed(scratch<Real>(p.kind == DriveKind::token ? 0 : p.batch * basis.length * p.inputs)),
        sums(p.batch, p.width, p.padded) {}

  // starts: where each block's state is kept, or null
  void run(bool bias, Real* starts) {
    const Kernels& kernels = levels.select(p.real);
    const int64_t blocks = basis.blocks(p.steps), size = basis.rows * p.width;
    for (int64_t k = 0; k < blocks; ++k) {
      const int64_t n = basis.steps_of(k, p.steps);
      if (starts != nullptr) std::copy_n(basis.carry.get(), size, starts + k * size);
      basis.fill(basis.carry.get(), n, k + 1 < blocks);
      add_products(kernels, inputs_of(p, p.drive), p.kind == DriveKind::token, k * basis.length, n, basis.block,
                   p.padded, packed.get(), sums.rows);
      if (bias) sums.add_bias(basis.block, n, p.inputs);
    }
  }
};

}  // namespace sylvester::hadamard_basis
