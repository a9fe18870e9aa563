// Rows of x to int8 codes, their sums and scales.
#pragma once

#include <cstring>

#include "common/convert.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::lowbit_matmul::Quantize;

constexpr float kLargestCode = 127.0f;
constexpr float kLeastRow = 0x1p-100f;  // below, a row is zero: 127 / max|x| would overflow

SYLVESTER_INLINE uint32_t magnitude(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}

// Half to even, for |x| < 2^22: the sum has no bits after the point.
SYLVESTER_INLINE float round_even(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

// codes = round(x · (127 / max|x|)), scale = max|x| / 127; a row that is not finite: codes 0, scale NaN
template <class T>
float quantize_row(const T* x, int64_t columns, int8_t* codes) {
  uint32_t top = 0;
  for (int64_t k = 0; k < columns; ++k) {
    const uint32_t bits = magnitude(to_float(x[k]));
    top = bits > top ? bits : top;
  }
  float largest;
  std::memcpy(&largest, &top, 4);
  const bool finite = top < 0x7f800000;
  if (!finite || largest < kLeastRow) {
    std::memset(codes, 0, static_cast<size_t>(columns));
    return finite ? 0.0f : __builtin_nanf("");
  }
  const float inverse = kLargestCode / largest;
  for (int64_t k = 0; k < columns; ++k) codes[k] = static_cast<int8_t>(round_even(to_float(x[k]) * inverse));
  return largest / kLargestCode;
}

inline void unpack_row(const uint8_t* x, int64_t columns, int8_t* codes) {
  for (int64_t k = 0; k < columns; ++k) codes[k] = static_cast<int8_t>((x[k / 2] >> (k % 2 * 4) & 15) - 8);
}

template <class T>
void quantize_rows(const Quantize& call) {
  const T* x = static_cast<const T*>(call.x);
  for (int64_t m = 0; m < call.rows; ++m) {
    call.scale[m] = quantize_row(x + m * call.columns, call.columns, call.codes + m * call.stride);
  }
}

void quantize(const Quantize& call) noexcept {
  using sylvester::lowbit_matmul::Source;
  const auto* bytes = static_cast<const uint8_t*>(call.x);
  switch (call.source) {
    case Source::float32: quantize_rows<float>(call); break;
    case Source::bfloat16: quantize_rows<bfloat16>(call); break;
    case Source::float16: quantize_rows<float16>(call); break;
    case Source::int8:
      for (int64_t m = 0; m < call.rows; ++m) {
        std::memcpy(call.codes + m * call.stride, bytes + m * call.columns, static_cast<size_t>(call.columns));
      }
      break;
    case Source::int4:
      for (int64_t m = 0; m < call.rows; ++m) {
        unpack_row(bytes + m * (call.columns / 2), call.columns, call.codes + m * call.stride);
      }
      break;
  }
  for (int64_t m = 0; m < call.rows; ++m) {
    int8_t* row = call.codes + m * call.stride;
    int32_t sum = 0;
    for (int64_t k = 0; k < call.columns; ++k) sum += row[k];
    call.sums[m] = sum;
    std::memset(row + call.columns, 0, static_cast<size_t>(call.stride - call.columns));
  }
}

}  // namespace
