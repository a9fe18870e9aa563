// Long runs of blocks at the vector levels: the shuffles and multiplications of one block beside the additions of
// the block before it.
//
// A block's stages inside vectors keep the shuffle and multiply pipes busy, its stages between vectors the add pipes.
// One after the other each waits for the other (9 cycles for 16 elements at a block of 256, Zen 4; the window of a CPU
// is shorter than either); interleaved in program order, through work, they take 7.4 of at least 6.5.
#pragma once

#include "common/hadamard.h"

namespace {

// Rows may ask for what they load kAhead bytes later: stores out of order upset the hardware's own fetching. Group 16
// stores in order; when that goes to memory (kToMemory) asking only costs.
constexpr int64_t kAhead = 8192;
template <int Group, class Row, class Last>
constexpr bool kFetches =
    requires(Row& row) { row.fetch(int64_t{}); } && !(Group == 16 && requires { requires Last::kToMemory; });

// Vector r of v from element i on; of even and odd two at a time, their butterflies done
template <bool kAsEvenOdd, bool kFetch, class Row, class V>
SYLVESTER_INLINE void load_vector(Row& row, int64_t i, V* v, int r) {
  if (kAsEvenOdd && r % 2 == 1) return;
  if constexpr (kFetch) row.fetch(i);
  if constexpr (!kAsEvenOdd) {
    v[r] = row.load(i);
  } else {
    const auto [even, odd] = row.load_even_odd(i);
    v[r] = add(even, odd);
    v[r + 1] = sub(even, odd);
  }
}

// The first part of Radix vectors from element i (lane stages; with Group 64 also between each four), which go to `to`,
// beside the second part of one column: the vectors Group elements apart from `from` on, the row's from element j on.
// What goes out of even and odd needs registers of its own, so it waits in work until the block after next takes its
// place: a third part, the vectors that `to` held, which go to the row from element k on.
template <int Group, int Radix, bool kFirst, bool kSecond, class V, class Row, class Last>
SYLVESTER_INLINE void step(typename V::Real* to, typename V::Real* from, Row& row, Last& last, int64_t i, int64_t j,
                           int64_t k) {
  using Real = typename V::Real;
  constexpr bool kRoomy = V::kRegisters >= 16;
  constexpr int kAbreast = kRoomy && Radix >= 8 ? 8 : 4, kSlices = 4 * Radix / kAbreast;
  // With Group 16 the stage between even and odd is the column's first.
  constexpr int kDone = kEvenOdd<Last> && Group == 16 ? 1 : 0, kEach = Radix / 2 * (kLog2<Radix> - kDone);
  V column[Radix];
  const auto get = [&](int r) SYLVESTER_LAMBDA { return load<V>(from + r * Group); };
  const auto put = [&](int r, V a, int s, V b) SYLVESTER_LAMBDA {
    if constexpr (kEvenOdd<Last>) {
      store(from + r * Group, a);
      store(from + s * Group, b);
    } else {
      store_pair(last, j + r * Group, a, j + s * Group, b);
    }
  };
  // Slice n of the stages over all vectors
  const auto second = [&]<int n>() SYLVESTER_LAMBDA {
    if constexpr (kSecond) {
      constexpr int kFrom = n * kEach / kSlices, kTo = (n + 1) * kEach / kSlices;
      butterflies<kDone, kFrom, kTo, false, kRoomy && Group == 16>(column, get, put);
    }
    if constexpr (kFirst && kSecond && kEvenOdd<Last>) {
      constexpr int kPair = n * Radix / 2 / kSlices;
      if constexpr (kPair < (n + 1) * Radix / 2 / kSlices) {
        const Real* done = to + kPair * 2 * kLanes;
        last.store_even_odd(k + kPair * 2 * kLanes, load<V>(done), load<V>(done + kLanes));
      }
    }
  };
  const auto some = [&]<int n>() SYLVESTER_LAMBDA {
    V v[kAbreast];
    const auto stage = [&]<int kStride>() SYLVESTER_LAMBDA {
#pragma GCC unroll 8
      for (int r = 0; kFirst && r < kAbreast; ++r) {
        if constexpr (kStride == 1) {
          load_vector<kEvenOdd<Last>, kFetches<Group, Row, Last>>(row, i + (n * kAbreast + r) * kLanes, v, r);
        }
        v[r] = butterfly<kStride>(v[r]);
      }
    };
    stage.template operator()<1>();
    second.template operator()<4 * n>();
    stage.template operator()<2>();
    second.template operator()<4 * n + 1>();
    stage.template operator()<4>();
    second.template operator()<4 * n + 2>();
    stage.template operator()<8>();
    second.template operator()<4 * n + 3>();
    if constexpr (kFirst) {
      if constexpr (Group == 64) register_stages<kEvenOdd<Last> ? 1 : 0, 2, kAbreast, true>(v);
#pragma GCC unroll 8
      for (int r = 0; r < kAbreast; ++r) store(to + (n * kAbreast + r) * kLanes, v[r]);
    }
  };
  some.template operator()<0>();
  if constexpr (Radix > kAbreast) some.template operator()<1>();
  if constexpr (Radix > 2 * kAbreast) {
    some.template operator()<2>();
    some.template operator()<3>();
  }
}

// Rows that look their places up once a block
template <class Row>
SYLVESTER_INLINE void enter(Row& row, int64_t i) {
  if constexpr (requires { row.enter(i); }) row.enter(i);
}

// Blocks of Group · Radix in elements [i, i + count); element i of work is i & mask. What a block loads is stored at
// the latest by the block two before it.
template <class V, int Group, int Radix, class Row, class Last>
__attribute__((noinline)) void stream(typename V::Real* work, Row row, Last last, int64_t i, int64_t count,
                                      int64_t mask) {
  using Real = typename V::Real;
  constexpr int64_t kBlock = Group * Radix, kSteps = Group / kLanes, kStep = kBlock / kSteps;
  const auto finish = [&](const Real* from, int64_t begin) SYLVESTER_LAMBDA {
    if constexpr (kEvenOdd<Last>) {
      for (int64_t k = 0; k < kBlock; k += 2 * kLanes) {
        last.store_even_odd(begin + k, load<V>(from + k), load<V>(from + k + kLanes));
      }
    }
  };
  const int64_t begin = i, end = i + count;
  Real *to = work + (i & mask), *from = to;
  enter(row, i);
  for (int64_t s = 0; s < kSteps; ++s) {
    step<Group, Radix, true, false, V>(to + s * kStep, to, row, last, i + s * kStep, 0, 0);
  }
  for (i += kBlock; i < end; i += kBlock) {
    from = to;
    to = work + (i & mask);
    // What the second block finds in its place goes where the first one will.
    enter(row, i);
    enter(last, i - kBlock);
    const int64_t before = i - kBlock, done = before > begin ? before - kBlock : begin;
    for (int64_t s = 0; s < kSteps; ++s) {
      step<Group, Radix, true, true, V>(to + s * kStep, from + s * kLanes, row, last, i + s * kStep,
                                        before + s * kLanes, done + s * kStep);
    }
  }
  if (count > kBlock) finish(from, end - 2 * kBlock);
  enter(last, end - kBlock);
  for (int64_t s = 0; s < kSteps; ++s) {
    step<Group, Radix, false, true, V>(to, to + s * kLanes, row, last, 0, end - kBlock + s * kLanes, 0);
  }
  finish(to, end - kBlock);
}

// Bases of a known size in elements [i, i + count)
template <class V, class Row, class Last>
SYLVESTER_INLINE void stream_bases(typename V::Real* work, const Row& row, const Last& last, int64_t i, int64_t count,
                                   int64_t base, int64_t mask) {
  constexpr bool kRoomy = V::kRegisters >= 16;
  if (base == 256) return stream<V, kRoomy ? 16 : 64, kRoomy ? 16 : 4>(work, row, last, i, count, mask);
  if (base == 512) return stream<V, 64, 8>(work, row, last, i, count, mask);
  if constexpr (kRoomy) {
    stream<V, 64, 16>(work, row, last, i, count, mask);
  } else {
    for (const int64_t end = i + count; i < end; i += 1024) {
      stream<V, 64, 4>(work, row, Work<V>{work}, i, 1024, mask);
      join<V, 4>(work, last, i, 256);
    }
  }
}

// The mask of a work of two blocks for rows of blocks as long as this, or kWhole if work must be as long as the row
constexpr int64_t kWhole = -1;
template <class V>
constexpr int64_t two_blocks(int64_t block) {
  return kVectorUnits<V> && block <= (V::kRegisters >= 16 ? 1024 : 512) ? 2 * block - 1 : kWhole;
}

// As hadamard_row, for rows that are worth the larger code. work holds width elements, or mask + 1; it is touched when
// block > 32, and one of width may be what row.load reads and row.store writes.
template <class V, class Row>
void hadamard_stream(typename V::Real* work, Row& row, int64_t width, int64_t block, int64_t mask = kWhole) {
  if constexpr (kVectorUnits<V>) {
    constexpr bool kRoomy = V::kRegisters >= 16;
    if (block < 64 || (block == 64 && !kRoomy)) return small_blocks<V>(row, width, block);
    if constexpr (kRoomy) {
      if (block == 64) return stream<V, 16, 4>(work, row, row, 0, width, mask);
    }
    if (block == 128) {
      if constexpr (!kRoomy) return register_blocks<V, 7>(row, width);
      return stream<V, 16, 8>(work, row, row, 0, width, mask);
    }
    const int64_t base = base_block<V>(block);
    const auto run = [&](const auto& to, int64_t i, int64_t n) { stream_bases<V>(work, row, to, i, n, base, mask); };
    if (block == base) return run(row, 0, width);
    for (int64_t i = 0; i < width; i += block) joins<V>(work, row, i, block, base, run);
  } else {
    hadamard_row<V>(work, row, width, block);
  }
}

}  // namespace
