// A Problem with the tensors and small arrays (signs, bias, transposed weights) that its pointers point into.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "common/binding.h"
#include "hadamard_scan/hadamard_scan.h"

namespace sylvester::hadamard_scan {

constexpr const char* kOp = "hadamard_scan";

inline ScalarType scalar_type(Dtype real) { return real == Dtype::float64 ? ScalarType::Double : ScalarType::Float; }

inline Tensor converted(const Tensor& t, Dtype real) {
  return t.scalar_type() == scalar_type(real) ? t : torch::stable::to(t, scalar_type(real));
}

// How (T,B,n), (B,T,n) and, for one step, (B,n) lie in a tensor; n is left out for tokens.
enum class Axes { time_first, batch_first, step };

// The last axis must be contiguous.
inline Sequence sequence(const Tensor& t, Axes axes, Dtype dtype) {
  if (axes == Axes::step) return {t.data_ptr(), 0, t.stride(0), dtype};
  const int time = axes == Axes::batch_first ? 1 : 0;
  return {t.data_ptr(), t.stride(time), t.stride(1 - time), dtype};
}

inline Tensor with_dense_rows(const Tensor& t) {
  return t.size(-1) <= 1 || t.stride(-1) == 1 ? t : torch::stable::contiguous(t);
}

// A Problem with the tensors that its pointers point into
struct Bound {
  Problem p{};
  std::optional<Tensor> drive;
  std::optional<Tensor> table;
  std::optional<Tensor> lengths;
  Scratch<char> constants;  // sign, bias and, fused, the transposed weight
  Scratch<char> readout;    // V, b_o
  Axes axes;
  ScalarType io;  // of states

  std::array<int64_t, 3> sequence_shape(int64_t last) const {
    return axes == Axes::batch_first ? std::array{p.batch, p.steps, last} : std::array{p.steps, p.batch, last};
  }
};

template <class Real>
void fill_constants(Bound& b, const Tensor& sign, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& act_bias, const std::optional<Tensor>& weight) {
  Problem& p = b.p;
  const int64_t rows = 5 + (p.kind == DriveKind::fused ? p.inputs : 0);
  b.constants = scratch<char>(rows * p.padded * static_cast<int64_t>(sizeof(Real)));
  Real* at = reinterpret_cast<Real*>(b.constants.get());
  std::fill(at, at + rows * p.padded, Real{0});
  const Tensor signs = converted(sign, p.real);
  const Real* s = static_cast<const Real*>(signs.data_ptr());
  const int64_t step = signs.stride(0);
  for (int64_t d = 0; d < p.width; ++d) {
    const Real value = s[d * step];
    SYLVESTER_CHECK(value == Real{1} || value == Real{-1}, kOp, ": sign must hold only -1 and +1, got ", value,
                    " at index ", d);
    at[d] = std::copysign(Real{0}, value);
    at[2 * p.padded + d] = value * static_cast<Real>(p.scale.hi);
    at[3 * p.padded + d] = value * static_cast<Real>(p.scale.lo);
  }
  p.sign = at;
  const auto copy = [&](const std::optional<Tensor>& vector, Real* to) {
    if (!vector) return;
    const Tensor values = converted(*vector, p.real);
    const Real* from = static_cast<const Real*>(values.data_ptr());
    for (int64_t d = 0; d < p.width; ++d) to[d] = from[d * values.stride(0)];
  };
  copy(bias, at + p.padded);
  copy(act_bias, at + 4 * p.padded);
  if (p.kind != DriveKind::fused) return;
  const Tensor u = converted(*weight, p.real);
  const Real* from = static_cast<const Real*>(u.data_ptr());
  const int64_t row = u.stride(0), column = u.stride(1);
  Real* to = at + 5 * p.padded;
  for (int64_t i = 0; i < p.inputs; ++i)
    for (int64_t d = 0; d < p.width; ++d) to[i * p.padded + d] = from[d * row + i * column];
  p.weight = to;
}

template <class Real>
void fill_readout(Bound& b, const Tensor& weight, const std::optional<Tensor>& bias) {
  Problem& p = b.p;
  const int64_t outputs = weight.size(0), elements = outputs * p.padded + kMostOutputs;
  b.readout = scratch<char>(elements * static_cast<int64_t>(sizeof(Real)));
  Real* v = reinterpret_cast<Real*>(b.readout.get());
  Real* last = v + outputs * p.padded;
  std::fill(v, v + elements, Real{0});
  const Tensor values = converted(weight, p.real);
  const Real* from = static_cast<const Real*>(values.data_ptr());
  for (int64_t o = 0; o < outputs; ++o)
    for (int64_t d = 0; d < p.width; ++d) v[o * p.padded + d] = from[o * values.stride(0) + d * values.stride(1)];
  if (bias) {
    const Tensor shift = converted(*bias, p.real);
    const Real* shifts = static_cast<const Real*>(shift.data_ptr());
    for (int64_t o = 0; o < outputs; ++o) last[o] = shifts[o * shift.stride(0)];
  }
  p.readout = {outputs, v, last};
}

}  // namespace sylvester::hadamard_scan
