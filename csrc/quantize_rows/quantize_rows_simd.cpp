#include "quantize_rows/quantize_rows.h"

#include "common/quantize.h"

namespace {

using sylvester::Dtype;
using sylvester::quantize_rows::Call;

template <class V, class T>
void run_typed(const Call& call) {
  const T* in = static_cast<const T*>(call.in);
  auto* scales = static_cast<typename V::Real*>(call.scales);
  for (int64_t r = 0; r < call.rows; ++r) {
    const T* row = in + r * call.width;
    uint8_t* codes = call.codes + r * call.code_bytes;
    if (call.nibbles) {
      quantize_row<V, true>(row, call.width, call.limit, codes, scales + r);
    } else {
      quantize_row<V, false>(row, call.width, call.limit, codes, scales + r);
    }
  }
}

void run(const Call& call) noexcept {
  switch (call.dtype) {
    case Dtype::float32: return run_typed<Vector, float>(call);
    case Dtype::bfloat16: return run_typed<Vector, bfloat16>(call);
    case Dtype::float16: return run_typed<Vector, float16>(call);
    case Dtype::float64:
#if defined(SYLVESTER_LEVEL_scalar)
      return run_typed<lanes16<double>, double>(call);
#else
      return;  // the caller sends float64 to the scalar level
#endif
  }
}

}  // namespace

namespace sylvester::quantize_rows::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{run};
}  // namespace sylvester::quantize_rows::SYLVESTER_LEVEL
