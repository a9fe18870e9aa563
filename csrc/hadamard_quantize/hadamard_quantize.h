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
//
// Count, 16 floats: what hadamard_transform takes without its scale and its stores to memory, then 2 loads from the
// nearest cache and 6 vector operations (quantize.h). Measured on Zen 4 at AVX-512 in the second-level cache, cycles
// for 16 floats: 11.5, 12.6, 15.0 at n = 256, 1024, 4096, where the transform out of place takes 9.5, 10.5, 12.8; codes
// take 1.6 of them, the largest 1.1, and a row 30 of its own, which only rows of 64 feel (13.8; 9.0). From DRAM the
// codes cost a pause in reading: 2.7 of 12 cycles for rows as long as 4096.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/scale.h"
#include "common/select.h"

namespace sylvester::hadamard_quantize {

// Room for several short rows, which run beside each other (rows_abreast of quantize.h)
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
