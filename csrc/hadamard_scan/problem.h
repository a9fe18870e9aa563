// From tensors to a Problem: the checks.
#pragma once

#include <utility>

#include "hadamard_scan/bound.h"

namespace sylvester::hadamard_scan {

constexpr int64_t kPartialFloor = int64_t{1} << 22;  // elements of all partials together that are always allowed
constexpr int64_t kMostPartials = 64;
constexpr int64_t kActivatedTile = 1024;  // elements

// Those after the end of a row are never read.
inline void check_tokens(const Bound& b) {
  const auto* tokens = static_cast<const int64_t*>(b.p.drive.data);
  for (int64_t t = 0; t < b.p.steps; ++t) {
    for (int64_t r = 0; r < b.p.batch; ++r) {
      if (t >= steps_of(b.p, r)) continue;
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

inline void bind_lengths(Bound& b, const Tensor& lengths) {
  check_cpu(kOp, "lengths", lengths);
  check_shape(kOp, "lengths", lengths, {b.p.batch});
  const ScalarType type = lengths.scalar_type();
  SYLVESTER_CHECK(type == ScalarType::Long || type == ScalarType::Int, kOp, ": lengths must be int64 or int32");
  b.lengths = packed(type == ScalarType::Long ? lengths : torch::stable::to(lengths, ScalarType::Long));
  b.p.lengths = static_cast<const int64_t*>(b.lengths->data_ptr());
  for (int64_t r = 0; r < b.p.batch; ++r) {
    SYLVESTER_CHECK(b.p.lengths[r] >= 0 && b.p.lengths[r] <= b.p.steps, kOp,
                    ": lengths must be from 0 to T = ", b.p.steps, ", got ", b.p.lengths[r], " at index ", r);
  }
}

// The arguments that a step has too
struct Recurrence {
  const std::optional<Tensor>& weight;
  const Tensor& sign;
  const std::optional<Tensor>& bias;
  const std::optional<Tensor>& act_bias;
  int64_t block, activation;
};

inline void bind_vectors(Bound& b, const Recurrence& r) {
  Problem& p = b.p;
  SYLVESTER_CHECK(r.activation >= 0 && r.activation <= 2, kOp, ": activation must be 0, 1 or 2, got ", r.activation);
  p.activation = static_cast<Activation>(r.activation);
  SYLVESTER_CHECK(r.act_bias.has_value() == (p.activation == Activation::modrelu), kOp,
                  ": act_bias must be given with modrelu, and only with it");
  for (const auto& [name, vector] : {std::pair("bias", &r.bias), std::pair("act_bias", &r.act_bias)}) {
    if (!*vector) continue;
    check_cpu(kOp, name, **vector);
    check_shape(kOp, name, **vector, {p.width});
    dtype_of(kOp, name, **vector);
  }
}

inline Bound bind(const Tensor& drive, const Recurrence& r, const std::optional<Tensor>& lengths, bool reverse,
                  Axes axes) {
  Bound b{};
  b.axes = axes;
  Problem& p = b.p;
  const Tensor& sign = r.sign;
  check_cpu(kOp, "sign", sign);
  SYLVESTER_CHECK(sign.dim() == 1 && sign.size(0) > 0, kOp, ": sign must have shape (D,), got ",
                  shape_text(sizes(sign)));
  dtype_of(kOp, "sign", sign);
  p.width = sign.size(0);
  p.padded = (p.width + 15) / 16 * 16;
  check_block(kOp, p.width, r.block, kLargestBlock);
  p.block = r.block;
  p.reverse = reverse;
  bind_vectors(b, r);
  bind_drive(b, drive, r.weight);
  p.steps = axes == Axes::step ? 1 : drive.size(axes == Axes::batch_first ? 1 : 0);
  p.batch = drive.size(axes == Axes::time_first ? 1 : 0);
  if (lengths) bind_lengths(b, *lengths);
  if (p.kind == DriveKind::token) check_tokens(b);
  p.real = b.io == ScalarType::Double ? Dtype::float64 : Dtype::float32;
  p.scale = split_scale(std::nullopt, p.block, p.real);
  // Sums over rows run over this partition in order: it may depend on shapes, never on threads.
  p.tile_rows = std::clamp<int64_t>((p.batch + 15) / 16, 1, kMaxTileRows);
  // An activated backward keeps 64 states of every row of its tile, which should fit a second-level cache.
  if (p.activation != Activation::identity) {
    p.tile_rows = std::clamp<int64_t>(kActivatedTile / p.padded, 1, p.tile_rows);
  }
  p.real == Dtype::float64 ? fill_constants<double>(b, sign, r.bias, r.act_bias, r.weight)
                           : fill_constants<float>(b, sign, r.bias, r.act_bias, r.weight);
  return b;
}

inline void bind_readout(Bound& b, const Tensor& weight, const std::optional<Tensor>& bias) {
  check_cpu(kOp, "readout", weight);
  dtype_of(kOp, "readout", weight);
  SYLVESTER_CHECK(
      weight.dim() == 2 && weight.size(1) == b.p.width && weight.size(0) >= 1 && weight.size(0) <= kMostOutputs, kOp,
      ": readout must have shape (O, ", b.p.width, "), O from 1 to ", kMostOutputs, ", got ",
      shape_text(sizes(weight)));
  if (bias) {
    check_cpu(kOp, "readout_bias", *bias);
    check_shape(kOp, "readout_bias", *bias, {weight.size(0)});
    dtype_of(kOp, "readout_bias", *bias);
  }
  b.p.real == Dtype::float64 ? fill_readout<double>(b, weight, bias) : fill_readout<float>(b, weight, bias);
}

inline void check_state(const char* name, const Tensor& t, const Problem& p) {
  check_cpu(kOp, name, t);
  check_shape(kOp, name, t, {p.batch, p.width});
  SYLVESTER_CHECK(t.scalar_type() == scalar_type(p.real), kOp, ": ", name,
                  p.real == Dtype::float64 ? " must be float64, as drive is" : " must be float32");
}

// A checked (B,D) array, with the tensor it points into
inline std::optional<Tensor> bind_rows(const Problem& p, const char* name, const std::optional<Tensor>& t,
                                       const void*& to) {
  if (!t) return std::nullopt;
  check_state(name, *t, p);
  const Tensor dense = packed(*t);
  to = dense.data_ptr();
  return dense;
}

inline int64_t tile_count(const Problem& p) { return (p.batch + p.tile_rows - 1) / p.tile_rows; }

// Vector element-operations of one tile, for the thread grain
inline int64_t tile_cost(const Problem& p) {
  const int64_t inputs = p.kind == DriveKind::fused ? p.inputs : 0;
  return p.tile_rows * p.steps * p.padded * (8 + inputs + p.readout.outputs);
}

}  // namespace sylvester::hadamard_scan
