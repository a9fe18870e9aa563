// Register butterflies that every Hadamard operator uses: I_q ⊗ S on a row, in ascending stride at every level.
//
// A row is a policy object with
//     V    load(i)                  elements [i, i + 16)
//     void store(i, v)              the transformed elements [i, i + 16)
//     V    load_part(i, count), void store_part(i, v, count)      the last count < 16 elements (blocks under 16 only)
// so an operator's prologue and epilogue run in registers beside the first and the last stage.
//
// Blocks up to kRegisters·16 elements (256 at avx512, 64 below) take one trip through registers. Larger ones recurse
// depth first: sub-blocks are finished while they are in the nearest cache, then joined by a radix-2..kRegisters pass,
// so a block of n makes ceil(log(n/256)/log 16) further trips, each through the smallest cache that holds it.
// Bottleneck: the add and shuffle pipes; log2(n) additions and min(4, log2 n) shuffles an element.
#pragma once

#include "common/simd.h"

namespace {

template <class V>
constexpr int64_t kRegisterBlock = V::kRegisters * kLanes;

// Butterflies at strides 1 .. 2^(Stages-1) inside one vector
template <int Stages, class V>
SYLVESTER_INLINE V lane_stages(V v) {
  if constexpr (Stages >= 1) v = butterfly<1>(v);
  if constexpr (Stages >= 2) v = butterfly<2>(v);
  if constexpr (Stages >= 3) v = butterfly<4>(v);
  if constexpr (Stages >= 4) v = butterfly<8>(v);
  return v;
}

// Butterflies between registers at register strides 1 .. 2^(Stages-1)
template <int Stages, int Count, class V>
SYLVESTER_INLINE void register_stages(V (&v)[Count]) {
#pragma GCC unroll 4
  for (int stage = 0; stage < Stages; ++stage) {
    const int stride = 1 << stage;
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r) {
      if (r & stride) continue;
      const V a = v[r], b = v[r + stride];
      v[r] = add(a, b);
      v[r + stride] = sub(a, b);
    }
  }
}

// Count vectors from element i on, each 2^Log2Block-element block among them transformed in registers
template <class V, int Log2Block, int Count, class Row>
SYLVESTER_INLINE void register_block(Row& row, int64_t i) {
  constexpr int kLaneStages = Log2Block < 4 ? Log2Block : 4;
  V v[Count];
#pragma GCC unroll 16
  for (int r = 0; r < Count; ++r) v[r] = lane_stages<kLaneStages>(row.load(i + r * kLanes));
  register_stages<Log2Block - kLaneStages>(v);
#pragma GCC unroll 16
  for (int r = 0; r < Count; ++r) row.store(i + r * kLanes, v[r]);
}

// A row of blocks that fit registers; width is a multiple of the block
template <class V, int Log2Block, class Row>
void register_blocks(Row& row, int64_t width) {
  constexpr int kCount = Log2Block <= 4 ? 1 : 1 << (Log2Block - 4);
  int64_t i = 0;
  for (; i + kRegisterBlock<V> <= width; i += kRegisterBlock<V>) register_block<V, Log2Block, V::kRegisters>(row, i);
  for (; i + kCount * kLanes <= width; i += kCount * kLanes) register_block<V, Log2Block, kCount>(row, i);
  if constexpr (Log2Block < 4) {
    if (i < width) row.store_part(i, lane_stages<Log2Block>(row.load_part(i, width - i)), width - i);
  }
}

// Joins Radix transformed sub-blocks, stride elements apart, that start at element i of work
template <class V, int Radix, class Row>
void join(typename V::Real* work, Row& row, int64_t i, int64_t stride) {
  constexpr int kStages = Radix == 2 ? 1 : Radix == 4 ? 2 : Radix == 8 ? 3 : 4;
  for (int64_t j = i; j < i + stride; j += kLanes) {
    V v[Radix];
#pragma GCC unroll 16
    for (int r = 0; r < Radix; ++r) v[r] = load<V>(work + j + r * stride);
    register_stages<kStages>(v);
#pragma GCC unroll 16
    for (int r = 0; r < Radix; ++r) row.store(j + r * stride, v[r]);
  }
}

template <class V, class Row>
void join(typename V::Real* work, Row& row, int64_t i, int64_t stride, int64_t radix) {
  switch (radix) {
    case 2: return join<V, 2>(work, row, i, stride);
    case 4: return join<V, 4>(work, row, i, stride);
    default:
      if constexpr (V::kRegisters >= 16) return radix == 8 ? join<V, 8>(work, row, i, stride) : join<V, 16>(work, row, i, stride);
  }
}

// The row's own loads, stores to work: what every stage but the last needs
template <class V, class Row>
struct IntoWork {
  Row& row;
  typename V::Real* work;
  SYLVESTER_INLINE V load(int64_t i) { return row.load(i); }
  SYLVESTER_INLINE void store(int64_t i, V v) { ::store(work + i, v); }
};

// How a block of n > kRegisterBlock splits: the last radix fills the registers unless little is left to join
template <class V>
SYLVESTER_INLINE int64_t last_radix(int64_t n) {
  const int64_t blocks = n / kRegisterBlock<V>;
  return blocks < V::kRegisters ? blocks : V::kRegisters;
}

// Elements [i, i + n) into work; n >= kRegisterBlock
template <class V, class Row>
void block_into_work(typename V::Real* work, Row& row, int64_t i, int64_t n) {
  IntoWork<V, Row> into{row, work};
  if (n == kRegisterBlock<V>) {
    register_block<V, V::kRegisters == 16 ? 8 : 6, V::kRegisters>(into, i);
    return;
  }
  const int64_t radix = last_radix<V>(n), part = n / radix;
  for (int64_t r = 0; r < radix; ++r) block_into_work<V>(work, row, i + r * part, part);
  join<V>(work, into, i, part, radix);
}

// The whole row: width = q·block. work holds width elements and is touched only when block > kRegisterBlock; it may
// be what row.load reads and row.store writes.
template <class V, class Row>
void hadamard_row(typename V::Real* work, Row& row, int64_t width, int64_t block) {
  switch (block) {
    case 1: return register_blocks<V, 0>(row, width);
    case 2: return register_blocks<V, 1>(row, width);
    case 4: return register_blocks<V, 2>(row, width);
    case 8: return register_blocks<V, 3>(row, width);
    case 16: return register_blocks<V, 4>(row, width);
    case 32: return register_blocks<V, 5>(row, width);
    case 64: return register_blocks<V, 6>(row, width);
    default: break;
  }
  if constexpr (V::kRegisters >= 16) {
    if (block == 128) return register_blocks<V, 7>(row, width);
    if (block == 256) return register_blocks<V, 8>(row, width);
  }
  const int64_t radix = last_radix<V>(block), part = block / radix;
  for (int64_t i = 0; i < width; i += block) {
    for (int64_t r = 0; r < radix; ++r) block_into_work<V>(work, row, i + r * part, part);
    join<V>(work, row, i, part, radix);
  }
}

}  // namespace
