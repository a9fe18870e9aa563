#include "peak/peak.h"

#include <chrono>
#include <cstring>

#include "common/binding.h"

namespace sylvester::peak {
namespace {

constexpr int64_t kRounds = 20000;  // about 1 ms

// Seconds of one call, whose result is kept so that it is made
template <class Call>
double seconds_of(const Call& call) {
  const auto begin = std::chrono::steady_clock::now();
  [[maybe_unused]] volatile auto kept = call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double adds_per_second() {
  const Kernels& kernels = levels.select(Dtype::float32);
  return static_cast<double>(kRounds) * 192 * 16 / seconds_of([&] { return kernels.adds(kRounds); });
}

double products_per_second() {
  const Dots& dots = dot_levels.select(Dtype::float32);
  return static_cast<double>(kRounds * kDots * dots.width) / seconds_of([&] { return dots.products(kRounds); });
}

void read(const Tensor& x) {
  SYLVESTER_CHECK(x.scalar_type() == ScalarType::Float && x.is_contiguous(), "_read: x must be contiguous float32");
  [[maybe_unused]] volatile float kept =
      levels.select(Dtype::float32).read(static_cast<const float*>(x.data_ptr()), x.numel());
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
  m.def("_products_per_second() -> float");
  m.def("_read(Tensor x) -> ()");
  m.def("_touch_(Tensor(a!) x) -> ()");
  m.def("_fresh_copy(Tensor x) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(sylvester, CompositeExplicitAutograd, m) {
  m.impl("_adds_per_second", TORCH_BOX(&sylvester::peak::adds_per_second));
  m.impl("_products_per_second", TORCH_BOX(&sylvester::peak::products_per_second));
}
STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("_read", TORCH_BOX(&sylvester::peak::read));
  m.impl("_touch_", TORCH_BOX(&sylvester::peak::touch));
  m.impl("_fresh_copy", TORCH_BOX(&sylvester::peak::fresh_copy));
}
