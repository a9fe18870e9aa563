// H_m across blocks of m·2^k (hadamard_across.h), for all rooms: unrolled for many orders, so compiled once a level.
#pragma once

#include "common/hadamard_factor.h"

namespace sylvester {

// I ⊗ S on blocks of this size; and the scale, unless it was applied
struct Left {
  int64_t block;
  bool scaled;
};

namespace hadamard_across::SYLVESTER_LEVEL {

// The factor's share of the blocks in [in, in + width); in may be out. Returns what is left.
Left across_blocks(const FactorSums& f, const float* in, float* out, int64_t width, int64_t block,
                   double scale) noexcept;
#if defined(SYLVESTER_LEVEL_scalar)
Left across_blocks(const FactorSums& f, const double* in, double* out, int64_t width, int64_t block,
                   double scale) noexcept;
#endif

}  // namespace hadamard_across::SYLVESTER_LEVEL
}  // namespace sylvester
