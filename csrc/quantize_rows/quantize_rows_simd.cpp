#include "quantize_rows/quantize_rows.h"

#include "common/quantize.h"

namespace {

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
  with_dtype(call.dtype, [&]<class V, class T>() { run_typed<V, T>(call); });
}

}  // namespace

namespace sylvester::quantize_rows::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{run};
}  // namespace sylvester::quantize_rows::SYLVESTER_LEVEL
