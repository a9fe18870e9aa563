// y = scale · post ∘ ((I_q ⊗ S) (pre ∘ x)) on rows of width = q·block elements.
//
//   in, out   rows × width elements of dtype, each row contiguous, rows follow each other; out may be in
//   pre, post width elements in the arithmetic type (float; double for float64), or null
//   work      work_size(block) floats when dtype is 16 bits wide, else may be null
//
// The kernel owns every tail: width is any multiple of block. One thread, no allocation, noexcept.
//
// Count, an element: log2(block) additions, min(4, log2 block) shuffles, 1 multiplication (2 when scale has a low
// part), 2·size bytes. In cache the two multiply and two add pipes bind, (log2 n + 5) / 2 vector operations at full
// width a cycle: 0.8 of n·log2 n ÷ add rate at n = 1024. From DRAM the 2·size bytes bind up to n = 1024.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/scale.h"
#include "common/select.h"

namespace sylvester::hadamard_transform {

// Room for several blocks, which run beside each other; half of the smallest first-level cache
constexpr int64_t work_size(int64_t block) { return block > 4096 ? block : 4096; }

struct Call {
  const void* in;
  void* out;
  const void* pre;
  const void* post;
  void* work;
  int64_t rows;
  int64_t width;
  int64_t block;
  Scale scale;
  Dtype dtype;
};

struct Kernels {
  void (*run)(const Call& call) noexcept;
};

SYLVESTER_LEVELS(Kernels)

}  // namespace sylvester::hadamard_transform
