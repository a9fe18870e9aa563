#include "quantize_rows/quantize_rows.h"

#include <tuple>

#include "common/coded.h"
#include "common/thread.h"

namespace sylvester::quantize_rows {
namespace {

constexpr const char* kOp = "quantize_rows";

std::tuple<Tensor, Tensor> quantize(const Tensor& x, int64_t bits, bool nibbles) {
  const Coded c = coded(kOp, x, bits, nibbles);
  const Tensor rows = packed(x);
  const Dtype dtype = dtype_of(kOp, "x", x);
  const Kernels& kernels = levels.select(dtype);
  const char* from = static_cast<const char*>(rows.data_ptr());
  uint8_t* codes = static_cast<uint8_t*>(c.codes.data_ptr());
  char* scales = static_cast<char*>(c.scales.data_ptr());
  const int64_t row_size = c.width * size_of(dtype), scale_size = dtype == Dtype::float64 ? 8 : 4;
  parallel(c.rows, c.width, [&](int64_t begin, int64_t end) {
    kernels.run({from + begin * row_size, codes + begin * c.code_bytes, scales + begin * scale_size, end - begin,
                 c.width, c.code_bytes, c.limit, c.nibbles, dtype});
  });
  return {c.codes, c.scales};
}

}  // namespace
}  // namespace sylvester::quantize_rows

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def("quantize_rows(Tensor x, int bits, bool nibbles) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("quantize_rows", TORCH_BOX(&sylvester::quantize_rows::quantize));
}
