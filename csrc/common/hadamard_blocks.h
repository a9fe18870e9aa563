// Blocks that are transformed in registers: one load and one store an element. A row is that of hadamard.h.
//
// Count, a vector: log2(n) additions, min(4, log2 n) shuffles (avx2: 3, its vector is two registers). Additions beside
// a shuffle go to the multiply pipes as fma, the others to the add pipes. A block of 64 at avx2 takes 8 multiplications
// with its scale, 6 additions and 6 shuffles a vector, which is two registers: 5 cycles at four a cycle, 7.7 as
// shuffles find one of their two pipes taken (Zen 3; 8.6 when half of the other additions are fused too).
#pragma once

#include "common/simd.h"

namespace {

// Has shuffle, multiply and add pipes to fill (the scalar level is there to be right, and small)
template <class V>
constexpr bool kVectorUnits = true;
template <class R>
constexpr bool kVectorUnits<lanes16<R>> = false;

template <class V>
constexpr int64_t kRegisterBlock = V::kRegisters * kLanes;

// Rows that load and store 32 elements as even and odd ones (even_odd.h): stride 1 is then between vectors, strides
// 2 .. 16 inside them.
template <class Row>
constexpr bool kEvenOdd = requires(Row& row) { row.load_even_odd(int64_t{}); };

// Butterflies at strides 1 .. 2^(Stages-1) inside one vector
template <int Stages, class V>
SYLVESTER_INLINE V lane_stages(V v) {
  if constexpr (Stages >= 1) v = butterfly<1>(v);
  if constexpr (Stages >= 2) v = butterfly<2>(v);
  if constexpr (Stages >= 3) v = butterfly<4>(v);
  if constexpr (Stages >= 4) v = butterfly<8>(v);
  return v;
}

// The same for four vectors abreast, whose chains cover each other's latency
template <int Stages, class V>
SYLVESTER_INLINE void lane_stages(V* v, int count) {
  const auto stage = [&]<int kStride>() SYLVESTER_LAMBDA {
#pragma GCC unroll 4
    for (int r = 0; r < count; ++r) v[r] = butterfly<kStride>(v[r]);
  };
  if constexpr (Stages >= 1) stage.template operator()<1>();
  if constexpr (Stages >= 2) stage.template operator()<2>();
  if constexpr (Stages >= 3) stage.template operator()<4>();
  if constexpr (Stages >= 4) stage.template operator()<8>();
}

// Butterflies between registers at register strides 2^From .. 2^(To-1). Fused: half of them on the multiply pipes.
template <int From, int To, int Count, bool kFused, class V>
SYLVESTER_INLINE void register_stages(V* v) {
#pragma GCC unroll 4
  for (int stage = From; stage < To; ++stage) {
    const int stride = 1 << stage;
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r) {
      if (r & stride) continue;
      const V a = v[r], b = v[r + stride];
      v[r] = add(a, b);
      v[r + stride] = kFused ? sub_fused(a, b) : sub(a, b);
    }
  }
}

template <class V, class Row>
SYLVESTER_INLINE void store_pair(Row& row, int64_t i, V a, int64_t j, V b) {
  if constexpr (requires { row.store_pair(i, a, j, b); }) {
    row.store_pair(i, a, j, b);
  } else {
    row.store(i, a);
    row.store(j, b);
  }
}

// Count vectors from element i on, each 2^Log2Block-element block among them transformed. The stages inside vectors
// fill the multiply pipes, so none of those between them goes there.
template <class V, int Log2Block, int Count, class Row>
SYLVESTER_INLINE void block_stages(V* v, Row& row, int64_t i) {
  constexpr int kLaneStages = Log2Block < 4 ? Log2Block : 4;
  constexpr bool kSplit = Log2Block > 4 && kEvenOdd<Row>;
#pragma GCC unroll 16
  for (int r = 0; r < Count; r += kSplit ? 2 : 1) {
    if constexpr (kSplit) {
      const auto [even, odd] = row.load_even_odd(i + r * kLanes);
      v[r] = add(even, odd);
      v[r + 1] = sub(even, odd);
    } else {
      v[r] = row.load(i + r * kLanes);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Count; r += 4) lane_stages<kLaneStages>(v + r, Count < 4 ? Count : 4);
  register_stages<kSplit ? 1 : 0, Log2Block - kLaneStages, Count, false>(v);
}

// The same from row to row. A block of twice the registers is two that are then joined: of the first the compiler
// spills what it must, which takes less time than a second trip.
template <class V, int Log2Block, int Count, class Row>
SYLVESTER_INLINE void register_block(Row&& row, int64_t i) {
  constexpr bool kJoined = Count > V::kRegisters;
  constexpr int kPart = kJoined ? Count / 2 : Count;
  const auto put = [&](int r, V a, V b) SYLVESTER_LAMBDA {
    if constexpr (Log2Block > 4 && kEvenOdd<std::remove_reference_t<Row>>) {
      row.store_even_odd(i + r * kLanes, a, b);
    } else {
      store_pair(row, i + r * kLanes, a, i + (r + 1) * kLanes, b);
    }
  };
  V v[Count];
  for (int part = 0; part < Count; part += kPart) {
    block_stages<V, kJoined ? Log2Block - 1 : Log2Block, kPart>(v + part, row, i + part * kLanes);
  }
#pragma GCC unroll 16
  for (int r = 0; r + 1 < kPart; r += 2) {
    if constexpr (kJoined) {
      const V a = v[r], b = v[r + 1], c = v[r + kPart], d = v[r + kPart + 1];
      put(r, add(a, c), add(b, d));
      put(r + kPart, sub(a, c), sub(b, d));
    } else {
      put(r, v[r], v[r + 1]);
    }
  }
  if constexpr (Count == 1) row.store(i, v[0]);
}

// A row of blocks that fit registers; width is a multiple of the block
template <class V, int Log2Block, class Row>
void register_blocks(Row row, int64_t width) {  // a copy: behind a reference every store would make it load again
  constexpr int kCount = Log2Block <= 4 ? 1 : 1 << (Log2Block - 4), kAbreast = kCount < 4 ? 4 : kCount;
  int64_t i = 0;
  for (; i + kAbreast * kLanes <= width; i += kAbreast * kLanes) register_block<V, Log2Block, kAbreast>(row, i);
  for (; i + kCount * kLanes <= width; i += kCount * kLanes) register_block<V, Log2Block, kCount>(row, i);
  if constexpr (Log2Block < 4) {
    if (i < width) row.store_part(i, lane_stages<Log2Block>(row.load_part(i, width - i)), width - i);
  }
}

// A row of blocks of at most 64, width = q·block
template <class V, class Row>
void small_blocks(Row& row, int64_t width, int64_t block) {
  switch (block) {
    case 1: return register_blocks<V, 0>(row, width);
    case 2: return register_blocks<V, 1>(row, width);
    case 4: return register_blocks<V, 2>(row, width);
    case 8: return register_blocks<V, 3>(row, width);
    case 16: return register_blocks<V, 4>(row, width);
    case 32: return register_blocks<V, 5>(row, width);
    default: return register_blocks<V, 6>(row, width);
  }
}

}  // namespace
