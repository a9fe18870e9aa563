// Long runs of blocks at the vector levels: the shuffles and multiplications of one block beside the additions of
// the block before it.
//
// A block's stages inside vectors keep the shuffle and multiply pipes busy, its stages between vectors the add pipes.
// One after the other each waits for the other (9 cycles for 16 elements at a block of 256, Zen 4; the window of a CPU
// is shorter than either); interleaved in program order, through work, they take 7.4 of at least 6.5.
#pragma once

#include "common/hadamard.h"

namespace {

// The first part of Radix/4 times four vectors from element i (lane stages; with Group 64 also between the four) beside
// the second part of one column: the vectors Group elements apart from element j on.
template <int Group, int Radix, bool kFirst, bool kSecond, class V, class Row, class Last>
SYLVESTER_INLINE void step(typename V::Real* work, Row& row, Last& last, int64_t i, int64_t j) {
  V column[Radix];
  const auto get = [&](int r) SYLVESTER_LAMBDA { return load<V>(work + j + r * Group); };
  const auto put = [&](int r, V a, int s, V b)
                       SYLVESTER_LAMBDA { store_pair(last, j + r * Group, a, j + s * Group, b); };
  // Slice n of Radix
  const auto second = [&]<int n>() SYLVESTER_LAMBDA {
    constexpr int kLog = kLog2<Radix>;
    if constexpr (kSecond) butterflies<n * kLog / 2, (n + 1) * kLog / 2, false>(column, get, put);
  };
  const auto four = [&]<int n>() SYLVESTER_LAMBDA {
    V v[4];
    const auto stage = [&]<int kStride>() SYLVESTER_LAMBDA {
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) v[r] = butterfly<kStride>(kStride == 1 ? row.load(i + n * 16 + r * kLanes) : v[r]);
    };
    if constexpr (kFirst) stage.template operator()<1>();
    second.template operator()<n>();
    if constexpr (kFirst) stage.template operator()<2>();
    second.template operator()<n + 1>();
    if constexpr (kFirst) stage.template operator()<4>();
    second.template operator()<n + 2>();
    if constexpr (kFirst) stage.template operator()<8>();
    second.template operator()<n + 3>();
    if constexpr (kFirst) {
      if constexpr (Group == 64) register_stages<2>(v);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) store(work + i + n * 16 + r * kLanes, v[r]);
    }
  };
  four.template operator()<0>();
  if constexpr (Radix >= 8) four.template operator()<4>();
  if constexpr (Radix >= 16) {
    four.template operator()<8>();
    four.template operator()<12>();
  }
}

// Blocks of Group · Radix in elements [i, i + count)
template <class V, int Group, int Radix, class Row, class Last>
__attribute__((noinline)) void stream(typename V::Real* work, Row row, Last last, int64_t i, int64_t count) {
  constexpr int64_t kBlock = Group * Radix, kSteps = Group / kLanes, kStep = kBlock / kSteps;
  const int64_t end = i + count;
  for (int64_t s = 0; s < kSteps; ++s) step<Group, Radix, true, false, V>(work, row, last, i + s * kStep, 0);
  for (i += kBlock; i < end; i += kBlock) {
    for (int64_t s = 0; s < kSteps; ++s) {
      step<Group, Radix, true, true, V>(work, row, last, i + s * kStep, i - kBlock + s * kLanes);
    }
  }
  const int64_t left = end - kBlock;
  for (int64_t s = 0; s < kSteps; ++s) step<Group, Radix, false, true, V>(work, row, last, 0, left + s * kLanes);
}

// Bases of a known size in elements [i, i + count)
template <class V, class Row, class Last>
SYLVESTER_INLINE void stream_bases(typename V::Real* work, const Row& row, const Last& last, int64_t i, int64_t count,
                                   int64_t base) {
  constexpr bool kRoomy = V::kRegisters >= 16;
  if (base == 256) return stream<V, kRoomy ? 16 : 64, kRoomy ? 16 : 4>(work, row, last, i, count);
  if (base == 512) return stream<V, 64, 8>(work, row, last, i, count);
  if constexpr (kRoomy) {
    stream<V, 64, 16>(work, row, last, i, count);
  } else {
    for (const int64_t end = i + count; i < end; i += 1024) {
      stream<V, 64, 4>(work, row, Work<V>{work}, i, 1024);
      join<V, 4>(work, last, i, 256);
    }
  }
}

// As hadamard_row, for rows that are worth the larger code. work holds width elements, touched when block > 32,
// and may be what row.load reads and row.store writes.
template <class V, class Row>
void hadamard_stream(typename V::Real* work, Row& row, int64_t width, int64_t block) {
  if constexpr (kVectorUnits<V>) {
    constexpr bool kRoomy = V::kRegisters >= 16;
    if (block < 64 || (block == 64 && !kRoomy)) return small_blocks<V>(row, width, block);
    if constexpr (kRoomy) {
      if (block == 64) return stream<V, 16, 4>(work, row, row, 0, width);
    }
    if (block == 128) return stream<V, 16, 8>(work, row, row, 0, width);
    const int64_t base = base_block<V>(block);
    const auto run = [&](const auto& to, int64_t i, int64_t n) { stream_bases<V>(work, row, to, i, n, base); };
    if (block == base) return run(row, 0, width);
    for (int64_t i = 0; i < width; i += block) joins<V>(work, row, i, block, base, run);
  } else {
    hadamard_row<V>(work, row, width, block);
  }
}

}  // namespace
