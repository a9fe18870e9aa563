#include "common/across_blocks.h"
#include "common/hadamard_across.h"

namespace sylvester::hadamard_across::SYLVESTER_LEVEL {

void across_blocks(const FactorSums& f, const float* in, float* out, int64_t width, int64_t block) noexcept {
  ::across_blocks<Vector>(f, in, out, width, block);
}

#if defined(SYLVESTER_LEVEL_scalar)
void across_blocks(const FactorSums& f, const double* in, double* out, int64_t width, int64_t block) noexcept {
  ::across_blocks<lanes16<double>>(f, in, out, width, block);
}
#endif

}  // namespace sylvester::hadamard_across::SYLVESTER_LEVEL
