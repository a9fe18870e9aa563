// From tensors to a Problem: checks, and the small arrays (signs, bias, transposed weight) that the kernels want.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "common/binding.h"
#include "hadamard_scan/hadamard_scan.h"

namespace sylvester::hadamard_scan {

constexpr const char* kOp = "hadamard_scan";
constexpr int64_t kLargestBlock = int64_t{1} << 20;
constexpr int64_t kPartialFloor = int64_t{1} << 22;  // elements of all partials together that are always allowed
constexpr int64_t kMostPartials = 64;

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
  Scratch<char> constants;  // sign, bias and, fused, the transposed weight
  Axes axes;
  ScalarType io;  // of states

  std::array<int64_t, 3> sequence_shape(int64_t last) const {
    return axes == Axes::batch_first ? std::array{p.batch, p.steps, last} : std::array{p.steps, p.batch, last};
  }
};

template <class Real>
void fill_constants(Bound& b, const Tensor& sign, const std::optional<Tensor>& bias,
                    const std::optional<Tensor>& weight) {
  Problem& p = b.p;
  const int64_t rows = 4 + (p.kind == DriveKind::fused ? p.inputs : 0);
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
  if (bias) {
    const Tensor values = converted(*bias, p.real);
    const Real* from = static_cast<const Real*>(values.data_ptr());
    for (int64_t d = 0; d < p.width; ++d) at[p.padded + d] = from[d * values.stride(0)];
  }
  if (p.kind != DriveKind::fused) return;
  const Tensor u = converted(*weight, p.real);
  const Real* from = static_cast<const Real*>(u.data_ptr());
  const int64_t row = u.stride(0), column = u.stride(1);
  Real* to = at + 4 * p.padded;
  for (int64_t i = 0; i < p.inputs; ++i)
    for (int64_t d = 0; d < p.width; ++d) to[i * p.padded + d] = from[d * row + i * column];
  p.weight = to;
}

inline void check_tokens(const Bound& b) {
  const auto* tokens = static_cast<const int64_t*>(b.p.drive.data);
  for (int64_t t = 0; t < b.p.steps; ++t) {
    for (int64_t r = 0; r < b.p.batch; ++r) {
      const int64_t token = tokens[t * b.p.drive.step + r * b.p.drive.row];
      SYLVESTER_CHECK(token >= 0 && token < b.p.inputs, kOp, ": drive holds token ", token, ", weight has rows 0 to ",
                      b.p.inputs - 1);
    }
  }
}

inline void bind_drive(Bound& b, const Tensor& drive, const std::optional<Tensor>& weight) {
  Problem& p = b.p;
  const int64_t rank = b.axes == Axes::step ? 1 : 2;  // of a token drive; a float drive has its columns too
  if (is_float(drive.scalar_type())) {
    SYLVESTER_CHECK(drive.dim() == rank + 1, kOp, ": a float drive must have ", rank + 1, " dimensions, got shape ",
                    shape_text(sizes(drive)));
    b.drive = with_dense_rows(drive);
    b.io = drive.scalar_type();
    p.kind = weight ? DriveKind::fused : DriveKind::given;
    p.inputs = drive.size(-1);
    p.drive = sequence(*b.drive, b.axes, dtype_of(kOp, "drive", drive));
    if (!weight) {
      SYLVESTER_CHECK(p.inputs == p.width, kOp, ": drive must have ", p.width, " columns, as sign has, got ", p.inputs);
      return;
    }
    check_shape(kOp, "weight", *weight, {p.width, p.inputs});
    SYLVESTER_CHECK(weight->scalar_type() == b.io, kOp, ": weight must have the dtype of drive");
    return;
  }
  SYLVESTER_CHECK(drive.dim() == rank, kOp, ": a token drive must have ", rank, " dimensions, got shape ",
                  shape_text(sizes(drive)));
  SYLVESTER_CHECK(weight.has_value(), kOp, ": a token drive needs weight");
  b.drive =
      drive.scalar_type() == ScalarType::Long ? drive : torch::stable::to(drive, ScalarType::Long);  // int32 and such
  p.kind = DriveKind::token;
  SYLVESTER_CHECK(weight->dim() == 2 && weight->size(1) == p.width, kOp, ": weight must have shape (V, ", p.width,
                  "), got ", shape_text(sizes(*weight)));
  p.inputs = weight->size(0);
  b.table = packed(*weight);
  b.io = weight->scalar_type();
  p.weight = b.table->data_ptr();
  p.weight_dtype = dtype_of(kOp, "weight", *weight);
  p.drive = sequence(*b.drive, b.axes, Dtype::float64);
  check_cpu(kOp, "weight", *weight);
}

inline Bound bind(const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
                  const std::optional<Tensor>& bias, int64_t block, bool reverse, Axes axes) {
  Bound b{};
  b.axes = axes;
  Problem& p = b.p;
  check_cpu(kOp, "sign", sign);
  SYLVESTER_CHECK(sign.dim() == 1 && sign.size(0) > 0, kOp, ": sign must have shape (D,), got ",
                  shape_text(sizes(sign)));
  dtype_of(kOp, "sign", sign);
  p.width = sign.size(0);
  p.padded = (p.width + 15) / 16 * 16;
  check_block(kOp, p.width, block, kLargestBlock);
  p.block = block;
  p.reverse = reverse;
  if (bias) {
    check_cpu(kOp, "bias", *bias);
    check_shape(kOp, "bias", *bias, {p.width});
    dtype_of(kOp, "bias", *bias);
  }
  bind_drive(b, drive, weight);
  p.steps = axes == Axes::step ? 1 : drive.size(axes == Axes::batch_first ? 1 : 0);
  p.batch = drive.size(axes == Axes::time_first ? 1 : 0);
  if (p.kind == DriveKind::token) check_tokens(b);
  p.real = b.io == ScalarType::Double ? Dtype::float64 : Dtype::float32;
  p.scale = split_scale(std::nullopt, block, p.real);
  // Sums over rows run over this partition in order: it may depend on shapes, never on threads.
  p.tile_rows = std::clamp<int64_t>((p.batch + 15) / 16, 1, kMaxTileRows);
  p.real == Dtype::float64 ? fill_constants<double>(b, sign, bias, weight)
                           : fill_constants<float>(b, sign, bias, weight);
  return b;
}

inline int64_t tile_count(const Problem& p) { return (p.batch + p.tile_rows - 1) / p.tile_rows; }

// Vector element-operations of one tile, for the thread grain
inline int64_t tile_cost(const Problem& p) {
  const int64_t inputs = p.kind == DriveKind::fused ? p.inputs : 0;
  return p.tile_rows * p.steps * p.padded * (8 + inputs);
}

}  // namespace sylvester::hadamard_scan
