// y = scale · post ∘ ((I_q ⊗ H) (pre ∘ x)) on rows of width = q·block elements; H = S, or H_m ⊗ S with a factor.
//
//   in, out   rows × width elements of dtype, each row contiguous, rows follow each other; out may be in
//   pre, post width elements in the arithmetic type (float; double for float64), or null
//   work      work_size(block) floats when dtype is 16 bits wide, else may be null; of blocks that stream two at a
//             time pass through (two_blocks of common/hadamard_stream.h), or what is read from DRAM would push it out
//   factor    of a block that is no power of two: H_m across the parts first, in out or work (common/hadamard_across.h)
//
// The kernel owns every tail: width is any multiple of block. One thread, no allocation, noexcept.
//
// Count, an element: log2(block) additions, min(4, log2 block) shuffles (none at stride 8 with 8-lane registers), 1
// multiplication (2 when scale has a low part), 2·size bytes. In cache the four arithmetic pipes bind; where two of
// them add, that is (log2 n + 5) / 2 additions' time: 0.81 of n·log2 n ÷ add rate at n = 256, 0.75 at 1024, to which
// blocks over 1024 add stores of 64 bytes for every factor of 8. bf16 needs 4 more operations (common/even_odd.h; up to
// 1024, above it 4.5) and fp16 5.3 (2.7 each way), so in cache they stay behind fp32: bf16 at 13/17 = 0.76 of its rate
// at n = 256 by this count and at 15/19 = 0.79 at 1024 (Zen 5 at AVX-512: 0.73-0.77 and 0.78). From DRAM the 2·size
// bytes bind fp32 up to n = 4096 and no 16-bit row: its halved bytes take less time than it does.
#pragma once

#include <cstdint>

#include "common/hadamard_factor.h"
#include "common/half.h"
#include "common/scale.h"
#include "common/select.h"

namespace sylvester::hadamard_transform {

// Room for several blocks, which run beside each other; half of the smallest first-level cache
constexpr int64_t work_size(int64_t block) { return block > 4096 ? block : 4096 / block * block; }

struct Call {
  const void* in;
  void* out;
  const void* pre;
  const void* post;
  void* work;
  int64_t rows;
  int64_t width;
  int64_t block;
  const FactorSums* factor;  // of the block; null when it is a power of two
  Scale scale;
  Dtype dtype;
};

struct Kernels {
  void (*run)(const Call& call) noexcept;
};

SYLVESTER_LEVELS(Kernels)

}  // namespace sylvester::hadamard_transform
