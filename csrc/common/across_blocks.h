// H_m across blocks of m·2^k (hadamard_across.h), for all rooms: unrolled for many orders, so compiled once a level.
#pragma once

#include "common/hadamard_factor.h"

namespace sylvester::hadamard_across::SYLVESTER_LEVEL {

// The factor's share of the blocks in [in, in + width); in may be out. What is left is I ⊗ S on blocks of block / m.
void across_blocks(const FactorSums& f, const float* in, float* out, int64_t width, int64_t block) noexcept;
#if defined(SYLVESTER_LEVEL_scalar)
void across_blocks(const FactorSums& f, const double* in, double* out, int64_t width, int64_t block) noexcept;
#endif

}  // namespace sylvester::hadamard_across::SYLVESTER_LEVEL
