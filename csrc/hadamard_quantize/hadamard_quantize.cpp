#include "hadamard_quantize/hadamard_quantize.h"

#include <cmath>
#include <optional>
#include <tuple>

#include "common/coded.h"
#include "common/scale.h"
#include "common/thread.h"

namespace sylvester::hadamard_quantize {
namespace {

constexpr const char* kOp = "hadamard_quantize";

template <class Real>
void run(const Call& call, const Kernels& kernels, int64_t row_size) {
  parallel_with_scratch<Real>(call.rows, call.width * 8, work_size(call.width),
                              [&](int64_t begin, int64_t end, Real* scratch) {
                                Call range = call;
                                range.in = static_cast<const char*>(call.in) + begin * row_size;
                                range.codes = call.codes + begin * call.code_bytes;
                                range.scales = static_cast<Real*>(call.scales) + begin;
                                range.rows = end - begin;
                                range.work = scratch;
                                kernels.run(range);
                              });
}

std::tuple<Tensor, Tensor> quantize(const Tensor& x, int64_t block, std::optional<double> scale,
                                    const std::optional<Tensor>& pre, int64_t bits, bool nibbles) {
  const Coded c = coded(kOp, x, bits, nibbles);
  const Dtype dtype = dtype_of(kOp, "x", x);
  check_block(kOp, c.width, block, kLargestBlock);
  const auto before = row_vector(kOp, "pre", pre, c.width, dtype);
  const Scale split = split_scale(scale, block, dtype);
  SYLVESTER_CHECK(std::isfinite(split.hi), kOp, ": scale must be finite in the arithmetic type, got ",
                  scale.value_or(0));
  const Tensor rows = packed(x);
  const Call call{rows.data_ptr(),
                  before ? before->data_ptr() : nullptr,
                  static_cast<uint8_t*>(c.codes.data_ptr()),
                  c.scales.data_ptr(),
                  nullptr,
                  c.rows,
                  c.width,
                  block,
                  c.code_bytes,
                  c.limit,
                  nibbles,
                  split,
                  dtype};
  const Kernels& kernels = levels.select(dtype);
  const int64_t row_size = c.width * size_of(dtype);
  dtype == Dtype::float64 ? run<double>(call, kernels, row_size) : run<float>(call, kernels, row_size);
  return {c.codes, c.scales};
}

}  // namespace
}  // namespace sylvester::hadamard_quantize

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def(
      "hadamard_quantize(Tensor x, int block_size, float? scale, Tensor? pre, int bits, bool nibbles) -> (Tensor, "
      "Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("hadamard_quantize", TORCH_BOX(&sylvester::hadamard_quantize::quantize));
}
