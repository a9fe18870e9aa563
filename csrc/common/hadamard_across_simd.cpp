#include "common/across_blocks.h"
#include "common/hadamard_across.h"

namespace sylvester::hadamard_across::SYLVESTER_LEVEL {

Left across_blocks(const FactorSums& f, const float* in, float* out, int64_t width, int64_t block,
                   double scale) noexcept {
  return ::across_blocks<Vector>(f, in, out, width, block, scale);
}

#if defined(SYLVESTER_LEVEL_scalar)
Left across_blocks(const FactorSums& f, const double* in, double* out, int64_t width, int64_t block,
                   double scale) noexcept {
  return ::across_blocks<lanes16<double>>(f, in, out, width, block, scale);
}
#endif

}  // namespace sylvester::hadamard_across::SYLVESTER_LEVEL
