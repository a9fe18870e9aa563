#include "peak/peak.h"

#include <chrono>
#include <cstring>

#include "common/binding.h"

namespace sylvester::peak {
namespace {

constexpr int64_t kRounds = 20000;  // about 1 ms

double adds_per_second() {
  const Kernels& kernels = levels.select(Dtype::float32);
  const auto begin = std::chrono::steady_clock::now();
  volatile float kept = kernels.adds(kRounds);
  (void)kept;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(kRounds) * 192 * 16 / seconds.count();
}

void touch(Tensor x) {
  SYLVESTER_CHECK(x.scalar_type() == ScalarType::Float && x.is_contiguous(), "_touch_: x must be contiguous float32");
  levels.select(Dtype::float32).touch(static_cast<float*>(x.data_ptr()), x.numel());
}

Tensor fresh_copy(const Tensor& x) {
  SYLVESTER_CHECK(x.is_contiguous(), "_fresh_copy: x must be contiguous");
  Tensor out = empty(sizes(x), x.scalar_type());
  std::memcpy(out.data_ptr(), x.data_ptr(), static_cast<size_t>(x.numel()) * x.element_size());
  return out;
}

}  // namespace
}  // namespace sylvester::peak

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def("_adds_per_second() -> float");
  m.def("_touch_(Tensor(a!) x) -> ()");
  m.def("_fresh_copy(Tensor x) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(sylvester, CompositeExplicitAutograd, m) {
  m.impl("_adds_per_second", TORCH_BOX(&sylvester::peak::adds_per_second));
}
STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("_touch_", TORCH_BOX(&sylvester::peak::touch));
  m.impl("_fresh_copy", TORCH_BOX(&sylvester::peak::fresh_copy));
}
