#include "hadamard_transform/hadamard_transform.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/binding.h"
#include "common/scale.h"
#include "common/thread.h"

namespace sylvester::hadamard_transform {
namespace {

constexpr const char* kOp = "hadamard_transform";

// in and out contiguous, of one shape and dtype; out may be in
void run(const Tensor& in, const Tensor& out, int64_t block, std::optional<double> scale,
         const std::optional<Tensor>& pre, const std::optional<Tensor>& post) {
  const Dtype dtype = dtype_of(kOp, "x", in);
  const int64_t width = in.size(-1);
  check_block(kOp, width, block, kLargestBlock);
  const auto before = row_vector(kOp, "pre", pre, width, dtype);
  const auto after = row_vector(kOp, "post", post, width, dtype);
  const int64_t count = in.numel();
  if (count == 0) return;

  const Kernels& kernels = levels.select(dtype);
  const bool vectors = before || after;
  const int64_t unit = vectors ? width : block, size = size_of(dtype);
  const char* from = static_cast<const char*>(in.data_ptr());
  char* to = static_cast<char*>(out.data_ptr());
  const void* first = before ? before->data_ptr() : nullptr;
  const void* second = after ? after->data_ptr() : nullptr;
  const Call call{nullptr, nullptr, first, second, nullptr, 0, unit, block, split_scale(scale, block, dtype), dtype};
  SYLVESTER_CHECK(std::isfinite(call.scale.hi), kOp, ": scale must be finite in the arithmetic type, got ",
                  scale.value_or(0));
  const int64_t work = size == 2 ? work_size(block) : 0;
  parallel_with_scratch<float>(count / unit, unit * 8, work, [&](int64_t begin, int64_t end, float* scratch) {
    Call range = call;
    range.in = from + begin * unit * size;
    range.out = to + begin * unit * size;
    range.rows = end - begin;
    range.work = scratch;
    kernels.run(range);
  });
}

Tensor forward(const Tensor& x, int64_t block, std::optional<double> scale, const std::optional<Tensor>& pre,
               const std::optional<Tensor>& post) {
  SYLVESTER_CHECK(x.dim() >= 1, kOp, ": x must have at least one dimension");
  Tensor out = empty(sizes(x), x.scalar_type());
  run(packed(x), out, block, scale, pre, post);
  return out;
}

void forward_out(const Tensor& x, int64_t block, std::optional<double> scale, const std::optional<Tensor>& pre,
                 const std::optional<Tensor>& post, Tensor out) {
  SYLVESTER_CHECK(x.dim() >= 1, kOp, ": x must have at least one dimension");
  check_cpu(kOp, "out", out);
  const Shape got = sizes(out), want = sizes(x);
  SYLVESTER_CHECK(std::equal(got.begin(), got.end(), want.begin(), want.end()), kOp, ": out must have the shape of x ",
                  shape_text(want), ", got ", shape_text(got));
  SYLVESTER_CHECK(out.scalar_type() == x.scalar_type(), kOp, ": out must have the dtype of x");
  if (out.is_contiguous()) return run(packed(x), out, block, scale, pre, post);
  const Tensor dense = empty(want, x.scalar_type());
  run(packed(x), dense, block, scale, pre, post);
  torch::stable::copy_(out, dense);
}

void in_place(Tensor x, int64_t block, std::optional<double> scale, const std::optional<Tensor>& pre,
              const std::optional<Tensor>& post) {
  forward_out(x, block, scale, pre, post, x);
}

}  // namespace
}  // namespace sylvester::hadamard_transform

#define ARGUMENTS "int block_size, float? scale, Tensor? pre, Tensor? post"
STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def("hadamard_transform(Tensor x, " ARGUMENTS ") -> Tensor");
  m.def("hadamard_transform_(Tensor(a!) x, " ARGUMENTS ") -> ()");
  m.def("hadamard_transform_out(Tensor x, " ARGUMENTS ", Tensor(a!) out) -> ()");
}
#undef ARGUMENTS

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("hadamard_transform", TORCH_BOX(&sylvester::hadamard_transform::forward));
  m.impl("hadamard_transform_", TORCH_BOX(&sylvester::hadamard_transform::in_place));
  m.impl("hadamard_transform_out", TORCH_BOX(&sylvester::hadamard_transform::forward_out));
}
