#include "hadamard_scan/hadamard_scan.h"

#include <tuple>

#include "common/thread.h"
#include "hadamard_scan/problem.h"

namespace sylvester::hadamard_scan {
namespace {

void run_forward(const Problem& p, const Forward& io) {
  const Kernels& kernels = levels.select(p.real);
  const int64_t elements = kernels.scratch(p) * size_of(p.real) / static_cast<int64_t>(sizeof(float));
  parallel_with_scratch<float>(tile_count(p), tile_cost(p), elements, [&](int64_t begin, int64_t end, float* scratch) {
    for (int64_t tile = begin; tile < end; ++tile) kernels.forward(p, io, tile, scratch);
  });
}

std::tuple<Tensor, Tensor, Tensor> scan(const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
                                        const std::optional<Tensor>& bias, const std::optional<Tensor>& h0,
                                        const std::optional<Tensor>& lengths, const std::optional<Tensor>& readout,
                                        const std::optional<Tensor>& readout_bias,
                                        const std::optional<Tensor>& act_bias, int64_t block, int64_t activation,
                                        bool last_only, bool reverse, bool batch_first, bool keep) {
  const Axes axes = batch_first ? Axes::batch_first : Axes::time_first;
  Bound b = bind(drive, {weight, sign, bias, act_bias, block, activation}, lengths, reverse, axes);
  const Problem& p = b.p;
  if (readout) bind_readout(b, *readout, readout_bias);
  Forward io{};
  const auto initial = bind_rows(p, "h0", h0, io.h0);
  const ScalarType real = scalar_type(p.real);
  const int64_t columns = readout ? p.readout.outputs : p.width;
  Tensor output = !last_only ? empty(b.sequence_shape(columns), b.io)
                  : readout  ? empty({p.batch, columns}, b.io)
                             : empty({0}, b.io);
  Tensor last = empty({p.batch, p.width}, real);
  const int64_t marks = keep && p.steps > 0 ? (p.steps - 1) / kCheckpointSteps : 0;
  Tensor checkpoints = empty({marks, p.batch, p.width}, real);
  const Dtype io_dtype = dtype_of(kOp, "output", output);
  if (!last_only) (readout ? io.outputs : io.states) = sequence(output, axes, io_dtype);
  if (last_only && readout) io.last_outputs = sequence(output, Axes::step, io_dtype);
  io.last = last.data_ptr();
  io.checkpoints = marks > 0 ? checkpoints.data_ptr() : nullptr;
  run_forward(p, io);
  return {output, last, checkpoints};
}

Tensor step(const Tensor& drive, const std::optional<Tensor>& weight, const Tensor& sign,
            const std::optional<Tensor>& bias, const Tensor& h, const std::optional<Tensor>& act_bias, int64_t block,
            int64_t activation) {
  const Bound b = bind(drive, {weight, sign, bias, act_bias, block, activation}, std::nullopt, false, Axes::step);
  check_state("h", h, b.p);
  const Tensor before = packed(h);
  Tensor after = empty({b.p.batch, b.p.width}, scalar_type(b.p.real));
  Forward io{};
  io.h0 = before.data_ptr();
  io.last = after.data_ptr();
  run_forward(b.p, io);
  return after;
}

}  // namespace
}  // namespace sylvester::hadamard_scan

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def(
      "hadamard_scan(Tensor drive, Tensor? weight, Tensor sign, Tensor? bias, Tensor? h0, Tensor? lengths, "
      "Tensor? readout, Tensor? readout_bias, Tensor? act_bias, int block_size, int activation, bool last_only, "
      "bool reverse, bool batch_first, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def(
      "hadamard_step(Tensor drive, Tensor? weight, Tensor sign, Tensor? bias, Tensor h, Tensor? act_bias, "
      "int block_size, int activation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("hadamard_scan", TORCH_BOX(&sylvester::hadamard_scan::scan));
  m.impl("hadamard_step", TORCH_BOX(&sylvester::hadamard_scan::step));
}
