#include "quantize_rows/quantize_rows.h"

#include "common/quantize.h"

namespace {

using sylvester::Dtype;
using sylvester::quantize_rows::Call;

template <class V, class T>
void run_typed(const Call& call) {
  const T* in = static_cast<const T*>(call.in);
  auto* scales = static_cast<typename V::Real*>(call.scales);
  const int64_t abreast = rows_abreast<T>(call.rows, call.width);
  for (int64_t r = 0; r < call.rows; r += abreast) {
    const int64_t count = r + abreast < call.rows ? abreast : call.rows - r;
    quantize_rows<V>(in + r * call.width, count, call.width, call.limit, call.nibbles, call.codes + r * call.code_bytes,
                     call.code_bytes, scales + r);
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
