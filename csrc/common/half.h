// The 16-bit formats as plain bits, for code that only stores and moves them.
#pragma once

#include <cstdint>

namespace sylvester {

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

// Element types of rows; the codes are private to the library.
enum class Dtype : int { float32, bfloat16, float16, float64 };

constexpr int64_t size_of(Dtype dtype) { return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2; }

}  // namespace sylvester
