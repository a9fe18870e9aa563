// Codes and scales (common/quantize.h) of scale · (I_q ⊗ S) (pre ∘ x), on rows of width = q·block elements.
//
//   in      rows × width elements of dtype, each row contiguous, rows follow each other
//   pre     width elements in the arithmetic type (float; double for float64), or null
//   codes   rows × code_bytes: width int8, or ceil(width / 2) bytes of nibbles
//   scales  rows numbers in the arithmetic type
//   work    work_size(width) numbers in the arithmetic type: the transformed rows, which go nowhere else
//
// The kernel owns every tail: width is any multiple of block. One thread, no allocation, noexcept. What is quantised
// has the bits that hadamard_transform writes in the arithmetic type with scale 1; scale multiplies the row's scale.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/scale.h"
#include "common/select.h"

namespace sylvester::hadamard_quantize {

// Room for several short rows, which run beside each other (kShort of quantize.h)
constexpr int64_t work_size(int64_t width) { return width > 4096 ? width : 4096; }

struct Call {
  const void* in;
  const void* pre;
  uint8_t* codes;
  void* scales;
  void* work;
  int64_t rows;
  int64_t width;
  int64_t block;
  int64_t code_bytes;
  int limit;
  bool nibbles;
  Scale scale;
  Dtype dtype;
};

struct Kernels {
  void (*run)(const Call& call) noexcept;
};

SYLVESTER_LEVELS(Kernels)

}  // namespace sylvester::hadamard_quantize
