// Rows of x to int8 codes, their sums and scales.
#pragma once

#include <cstring>

#include "common/quantize.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::lowbit_matmul::Quantize;
using sylvester::lowbit_matmul::Source;

constexpr int kLimit = 127;  // of the codes that floats become

inline void unpack_row(const uint8_t* x, int64_t columns, int8_t* codes) {
  for (int64_t k = 0; k < columns; ++k) codes[k] = static_cast<int8_t>((x[k / 2] >> (k % 2 * 4) & 15) - 8);
}

template <class T>
void quantize_floats(const Quantize& call) {
  const T* x = static_cast<const T*>(call.x);
  for (int64_t m = 0; m < call.rows; ++m) {
    call.sums[m] = quantize_padded_row<Vector>(x + m * call.columns, call.columns, kLimit, call.codes + m * call.stride,
                                               call.stride, call.scale + m);
  }
}

void pad_codes(const Quantize& call) {
  const auto* x = static_cast<const uint8_t*>(call.x);
  for (int64_t m = 0; m < call.rows; ++m) {
    int8_t* row = call.codes + m * call.stride;
    if (call.source == Source::int4) {
      unpack_row(x + m * (call.columns / 2), call.columns, row);
    } else {
      std::memcpy(row, x + m * call.columns, static_cast<size_t>(call.columns));
    }
    std::memset(row + call.columns, 0, static_cast<size_t>(call.stride - call.columns));
    call.sums[m] = sum_of_codes<Vector>(row, call.stride);
  }
}

void quantize(const Quantize& call) noexcept {
  switch (call.source) {
    case Source::float32: return quantize_floats<float>(call);
    case Source::bfloat16: return quantize_floats<bfloat16>(call);
    case Source::float16: return quantize_floats<float16>(call);
    case Source::int8:
    case Source::int4: return pad_codes(call);
  }
}

}  // namespace
