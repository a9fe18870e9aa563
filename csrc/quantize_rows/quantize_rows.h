// Codes and scales of rows (common/quantize.h says which).
//
//   in      rows × width elements of dtype, contiguous
//   codes   rows × code_bytes: width int8, or ceil(width / 2) bytes of nibbles
//   scales  rows numbers in the arithmetic type (float; double for float64)
//
// The kernel owns every tail. One thread, no allocation, noexcept.
//
// Count, 16 floats: 2 loads, 5 vector operations and a quarter of a store; the first of the loads is from where the row
// is, the second from the nearest cache that holds a row.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/select.h"

namespace sylvester::quantize_rows {

struct Call {
  const void* in;
  uint8_t* codes;
  void* scales;
  int64_t rows;
  int64_t width;
  int64_t code_bytes;
  int limit;
  bool nibbles;
  Dtype dtype;
};

struct Kernels {
  void (*run)(const Call& call) noexcept;
};

SYLVESTER_LEVELS(Kernels)

}  // namespace sylvester::quantize_rows
