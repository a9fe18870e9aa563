// The floors that benchmarks compare with, measured by the same library at the same level in the same run.
#pragma once

#include <cstdint>

#include "common/select.h"

namespace sylvester::peak {

struct Kernels {
  // rounds × 192 independent additions of 16 floats in registers; returns a value that depends on all of them
  float (*adds)(int64_t rounds) noexcept;
  // Reads and writes count floats once, in place, changing their signs: the least that any in-place transform moves
  void (*touch)(float* data, int64_t count) noexcept;
  // Reads count floats once; returns a value that depends on all of them
  float (*read)(const float* data, int64_t count) noexcept;
};

constexpr int64_t kDots = 192;

// rounds × kDots independent dot products of `width` pairs of bytes in registers, as the level makes them (dot.h)
struct Dots {
  int64_t width;
  int32_t (*products)(int64_t rounds) noexcept;
};

SYLVESTER_LEVELS(Kernels)
SYLVESTER_DOT_LEVELS(Dots)

}  // namespace sylvester::peak
