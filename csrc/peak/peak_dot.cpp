#include "peak/peak.h"

#include "common/dot.h"

namespace {

constexpr int kChains = 12;  // as many as registers hold beside two operands and a product

// The chains take turns and may share nothing: the compiler must take each register for one it cannot know.
template <class Register>
SYLVESTER_INLINE Register unknown(Register x) {
#if defined(SYLVESTER_LEVEL_avx512)
  asm volatile("" : "+v"(x));
#elif defined(SYLVESTER_LEVEL_avx2)
  asm volatile("" : "+x"(x));
#endif
  return x;
}

int32_t products(int64_t rounds) noexcept {
  Sums chain[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) chain[c] = Sums{};
  const Bytes u = all_bytes(1);
  Bytes x = all_bytes(1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < sylvester::peak::kDots / kChains; ++i) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) chain[c] = unknown(dot(chain[c], u, x = unknown(x)));
    }
  }
  Words sum = {};
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sum += widen(chain[c]);
  return static_cast<int32_t>(sum[0]);
}

}  // namespace

namespace sylvester::peak::SYLVESTER_LEVEL {
extern const Dots dots;
const Dots dots{kWidth, products};
}  // namespace sylvester::peak::SYLVESTER_LEVEL
