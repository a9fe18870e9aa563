#include "peak/peak.h"

#include "common/simd.h"

namespace {

// Twelve chains at two registers each (avx2) cover three adds' latency on two pipes without spilling.
constexpr int kChains = Vector::kRegisters == 16 ? 12 : 6;
constexpr int kPerRound = 192;

float adds(int64_t rounds) noexcept {
  Vector chain[kChains];
  for (int c = 0; c < kChains; ++c) chain[c] = broadcast<Vector>(static_cast<float>(c));
  const Vector step = broadcast<Vector>(1.0f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kPerRound / kChains; ++i) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) chain[c] = add(chain[c], step);
    }
  }
  float lanes[kLanes], sum = 0;
  for (int c = 0; c < kChains; ++c) {
    store(lanes, chain[c]);
    for (float lane : lanes) sum += lane;
  }
  return sum;
}

void touch(float* data, int64_t count) noexcept {
  const Vector minus = broadcast<Vector>(-0.0f);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(data + i, flip(load<Vector>(data + i), minus));
  for (; i < count; ++i) data[i] = -data[i];
}

float read(const float* data, int64_t count) noexcept {
  constexpr int kStreams = 4;  // vectors, so that no addition waits for another
  Vector seen[kStreams];
  for (int s = 0; s < kStreams; ++s) seen[s] = zero<Vector>();
  int64_t i = 0;
  for (; i + kStreams * kLanes <= count; i += kStreams * kLanes) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) seen[s] = flip(seen[s], load<Vector>(data + i + s * kLanes));
  }
  float lanes[kLanes], sum = 0;
  for (; i < count; ++i) sum += data[i];
  for (int s = 0; s < kStreams; ++s) {
    store(lanes, seen[s]);
    for (float lane : lanes) sum += lane;
  }
  return sum;
}

}  // namespace

namespace sylvester::peak::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{adds, touch, read};
}  // namespace sylvester::peak::SYLVESTER_LEVEL
