// Register butterflies that every Hadamard operator uses: I_q ⊗ S on a row, in ascending stride at every level.
//
// A row is a policy object, small and copied freely (state goes behind pointers), with
//     V    load(i)                  elements [i, i + 16)
//     void store(i, v)              the transformed elements [i, i + 16)
//     V    load_part(i, count), void store_part(i, v, count)      the last count < 16 elements (blocks under 16 only)
// so an operator's prologue and epilogue run in registers beside the first and the last stage. Optional:
//     void store_pair(i, a, j, b)   instead of store(i, a), store(j, b)
//     load_even_odd(i), store_even_odd(i, even, odd)   instead of two loads, two stores (blocks of 32 and more)
//
// Blocks up to kRegisters·16 elements (256 at avx512, 64 below), and 128 at avx2, take one trip through registers.
// Larger ones are base · kJoin^k: the base (256, 512 or 1024; 64 or 128 at the scalar level) takes two trips, 64
// elements at a time and then across them, and each join of kJoin (8; 4) parts one more. Depth first: parts are joined
// while the nearest cache holds them. Joins of 8 are the most that an 8-way cache keeps when the stride is a multiple
// of its way.
#pragma once

#include "common/hadamard_blocks.h"

namespace {

// Butterflies From .. To - 1 of the Radix/2 a stage between Radix registers, in ascending stride, the first Done stages
// left out; get(r) fills a register before its first butterfly, put(r, a, s, b) takes two after their last, neighbours
// if asked for. Fused: half the operations go to the multiply pipes.
template <int Done, int From, int To, bool kFused, bool kNeighbours, int Radix, class V, class Get, class Put>
SYLVESTER_INLINE void butterflies(V (&v)[Radix], const Get& get, const Put& put) {
  constexpr int kHalf = Radix / 2, kFirst = 1 << Done;
#pragma GCC unroll 32
  for (int n = From; n < To; ++n) {
    const int stride = kFirst << n / kHalf, p = n % kHalf, r = p / stride * 2 * stride + p % stride, s = r + stride;
    if (stride == kFirst) {
      v[r] = get(r);
      v[s] = get(s);
    }
    const V a = v[r], b = v[s];
    v[r] = add(a, b);
    v[s] = kFused ? sub_fused(a, b) : sub(a, b);
    if (stride < kHalf) continue;
    if (!kNeighbours) {
      put(r, v[r], s, v[s]);
    } else if (p % 2 == 1) {
      put(r - 1, v[r - 1], r, v[r]);
      put(s - 1, v[s - 1], s, v[s]);
    }
  }
}

template <int Radix>
constexpr int kLog2 = Radix == 1 ? 0 : 1 + kLog2<Radix / 2>;
template <>
constexpr int kLog2<1> = 0;

// Joins Radix transformed parts, stride elements apart, that start at element i of work
template <class V, int Radix, class Row>
__attribute__((noinline)) void join(typename V::Real* work, Row row, int64_t i, int64_t stride) {
  for (int64_t j = i; j < i + stride; j += kLanes) {
    V v[Radix];
    butterflies<0, 0, Radix / 2 * kLog2<Radix>, true, false>(
        v, [&](int r) SYLVESTER_LAMBDA { return load<V>(work + j + r * stride); },
        [&](int r, V a, int s, V b) SYLVESTER_LAMBDA { store_pair(row, j + r * stride, a, j + s * stride, b); });
  }
}

// What every stage but the last stores to
template <class V>
struct Work {
  typename V::Real* work;
  SYLVESTER_INLINE void store(int64_t i, V v) { ::store(work + i, v); }
};
// ... and the first stage loads from: the row
template <class V, class Row>
struct RowIntoWork {
  Row row;
  typename V::Real* work;
  SYLVESTER_INLINE V load(int64_t i) { return row.load(i); }
  SYLVESTER_INLINE void store(int64_t i, V v) { ::store(work + i, v); }
};

template <class V>
constexpr int kJoin = kVectorUnits<V> ? 8 : 4;

// n = base · kJoin^k
template <class V>
SYLVESTER_INLINE int64_t base_block(int64_t n) {
  while (n >= (kVectorUnits<V> ? 256 : 64) * kJoin<V>) n /= kJoin<V>;
  return n;
}

// Bases in elements [i, i + count): row's own loads, 64 elements at a time into work, from there to last's stores
template <class V, class Row, class Last>
void bases(typename V::Real* work, const Row& row, const Last& last, int64_t i, int64_t count, int64_t base) {
  RowIntoWork<V, Row> into{row, work};
  for (const int64_t end = i + count; i < end; i += base) {
    for (int64_t j = i; j < i + base; j += 64) register_block<V, 6, 4>(into, j);
    switch (base) {
      case 64: break;
      case 128: join<V, 2>(work, last, i, 64); break;
      default:
        if constexpr (kVectorUnits<V>) {
          if (base == 256) join<V, 4>(work, last, i, 64);
          if (base == 512) join<V, 8>(work, last, i, 64);
          if (base == 1024) join<V, 16>(work, last, i, 64);
        }
    }
  }
}

// Elements [i, i + n) to last's stores, n = base · kJoin^k with k > 0. run(to, i, count) does bases, row to `to`.
template <class V, class Last, class Run>
void joins(typename V::Real* work, const Last& last, int64_t i, int64_t n, int64_t base, const Run& run) {
  const int64_t part = n / kJoin<V>;
  if (part == base) {
    run(Work<V>{work}, i, n);
  } else {
    for (int64_t j = i; j < i + n; j += part) joins<V>(work, Work<V>{work}, j, part, base, run);
  }
  join<V, kJoin<V>>(work, last, i, part);
}

// The whole row: width = q·block. work holds width elements and is touched only when block > kRegisterBlock; it may
// be what row.load reads and row.store writes.
template <class V, class Row>
void hadamard_row(typename V::Real* work, Row& row, int64_t width, int64_t block) {
  if (block <= 64) return small_blocks<V>(row, width, block);
  if constexpr (kVectorUnits<V>) {
    if (block == 128) return register_blocks<V, 7>(row, width);
    if constexpr (V::kRegisters >= 16) {
      if (block == 256) return register_blocks<V, 8>(row, width);
    }
  }
  const int64_t base = base_block<V>(block);
  const auto run = [&](const auto& last, int64_t i, int64_t n) { bases<V>(work, row, last, i, n, base); };
  if (block == base) return run(row, 0, width);
  for (int64_t i = 0; i < width; i += block) joins<V>(work, row, i, block, base, run);
}

}  // namespace
