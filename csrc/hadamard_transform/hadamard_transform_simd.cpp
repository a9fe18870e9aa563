#include "common/across_blocks.h"
#include "common/even_odd.h"
#include "common/hadamard_stream.h"
#include "common/parts.h"
#include "hadamard_transform/hadamard_transform.h"

namespace {

using sylvester::hadamard_across::SYLVESTER_LEVEL::across_blocks;
using sylvester::hadamard_transform::Call;

// Without pre and post: y·hi, or y·hi + y·lo. vectors: anything, two terms.
enum class Epilogue { one_term, two_terms, vectors };

// One row's loads and stores: conversion, pre and post in registers.
template <class V, class T, Epilogue kind>
struct Row {
  using Real = typename V::Real;
  static constexpr bool kToMemory = true;
  const T* in;
  T* out;
  const Real* pre;
  const Real* post;
  Real hi, lo;

  SYLVESTER_INLINE V scaled(V v) const {
    if constexpr (kind == Epilogue::one_term) return mul(v, broadcast<V>(hi));
    if (!kVectorUnits<V> && lo == 0) return mul(v, broadcast<V>(hi));
    return fma(v, broadcast<V>(hi), mul(v, broadcast<V>(lo)));
  }
  SYLVESTER_INLINE void fetch(int64_t i) const { __builtin_prefetch(reinterpret_cast<const char*>(in + i) + kAhead); }
  SYLVESTER_INLINE V load(int64_t i) const {
    const V v = load_as<V>(in + i);
    if constexpr (kind == Epilogue::vectors) {
      if (pre != nullptr) return mul(v, ::load<V>(pre + i));
    }
    return v;
  }
  SYLVESTER_INLINE void store(int64_t i, V v) const {
    v = scaled(v);
    if constexpr (kind == Epilogue::vectors) {
      if (post != nullptr) v = mul(v, ::load<V>(post + i));
    }
    store_as(out + i, v);
  }
  // pre and post may hold any NaN, which only the careful store rounds
  SYLVESTER_INLINE void store_pair(int64_t i, V a, int64_t j, V b) const
    requires(kind != Epilogue::vectors)
  {
    store_pair_as(out + i, scaled(a), out + j, scaled(b));
  }
  SYLVESTER_INLINE EvenOdd<V> load_even_odd(int64_t i) const
    requires(std::is_same_v<T, bfloat16> && kind != Epilogue::vectors)
  {
    return ::load_even_odd<V>(in + i);
  }
  SYLVESTER_INLINE void store_even_odd(int64_t i, V even, V odd) const {
    ::store_even_odd(out + i, scaled(even), scaled(odd));
  }
  SYLVESTER_INLINE V load_part(int64_t i, int64_t count) const {
    const V v = load_part_as<V>(in + i, count);
    if constexpr (kind == Epilogue::vectors) {
      if (pre != nullptr) return mul(v, load_part_as<V>(pre + i, count));
    }
    return v;
  }
  SYLVESTER_INLINE void store_part(int64_t i, V v, int64_t count) const {
    v = scaled(v);
    if constexpr (kind == Epilogue::vectors) {
      if (post != nullptr) v = mul(v, load_part_as<V>(post + i, count));
    }
    store_part_as(out + i, v, count);
  }
};

// Elements [0, count) of a row of blocks of m·2^k: across the m parts into work, then inside them to the row. 16-bit
// rows pass through work at either end.
template <class V, class T, Epilogue kind>
void run_factor(const Call& call, const Row<V, T, kind>& row, int64_t count) {
  using Real = typename V::Real;
  constexpr bool kWide = sizeof(T) == sizeof(Real);
  Real* work = static_cast<Real*>(call.work);
  const Real* from = work;
  if constexpr (kWide) from = work = row.out;
  if (kWide && row.pre == nullptr) {
    from = reinterpret_cast<const Real*>(row.in);
  } else {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(work + i, row.load(i));
    if (i < count) store_part_as(work + i, row.load_part(i, count - i), count - i);
  }
  const sylvester::Left left = across_blocks(*call.factor, from, work, count, call.block, double{row.hi} + row.lo);
  if (left.scaled && row.post == nullptr) {
    constexpr Epilogue kOnce = kVectorUnits<V> ? Epilogue::one_term : kind;
    Row<V, Real, kOnce> inside{work, work, nullptr, nullptr, 1, 0};
    if (left.block > 1) hadamard_stream<V>(work, inside, count, left.block);
  } else {
    const Real half = 0.5;  // halves for one: as in run_typed
    Row<V, Real, kind> inside{work, work, nullptr, row.post, left.scaled ? half : row.hi, left.scaled ? half : row.lo};
    hadamard_stream<V>(work, inside, count, left.block);
  }
  if constexpr (!kWide) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store_as(row.out + i, load<V>(work + i));
    if (i < count) store_part_as(row.out + i, load_part_as<V>(work + i, count - i), count - i);
  }
}

template <class V, class T, Epilogue kind>
void run_rows(const Call& call) {
  using Real = typename V::Real;
  const T* in = static_cast<const T*>(call.in);
  T* out = static_cast<T*>(call.out);
  const Real* pre = static_cast<const Real*>(call.pre);
  const Real* post = static_cast<const Real*>(call.post);
  // Without vectors nothing depends on the place in the row: all rows are one long row, and tails come once.
  const bool joined = pre == nullptr && post == nullptr;
  const int64_t rows = joined ? 1 : call.rows, width = joined ? call.rows * call.width : call.width;
  const Real hi = static_cast<Real>(call.scale.hi), lo = static_cast<Real>(call.scale.lo);
  for (int64_t r = 0; r < rows; ++r) {
    Row<V, T, kind> row{in + r * width, out + r * width, pre, post, hi, lo};
    if constexpr (sizeof(T) == sizeof(Real)) {
      if (call.factor == nullptr) {
        hadamard_stream<V>(reinterpret_cast<Real*>(row.out), row, width, call.block);
        continue;
      }
    }
    const int64_t mask = call.factor == nullptr ? two_blocks<V>(call.block) : kWhole;
    const int64_t chunk = mask == kWhole ? sylvester::hadamard_transform::work_size(call.block) : width;
    for (int64_t i = 0; i < width; i += chunk) {
      Row<V, T, kind> part{row.in + i, row.out + i, pre ? pre + i : pre, post ? post + i : post, hi, lo};
      const int64_t count = i + chunk < width ? chunk : width - i;
      if (call.factor != nullptr) {
        run_factor(call, part, count);
      } else if constexpr (sizeof(T) != sizeof(Real)) {
        hadamard_stream<V>(static_cast<Real*>(call.work), part, count, call.block, mask);
      }
    }
  }
}

template <class V, class T>
void run_typed(const Call& call) {
  if (call.pre == nullptr && call.post == nullptr) {
    if constexpr (!kVectorUnits<V>) return run_rows<V, T, Epilogue::vectors>(call);  // one kind: small before fast
    return call.scale.lo == 0 ? run_rows<V, T, Epilogue::one_term>(call) : run_rows<V, T, Epilogue::two_terms>(call);
  }
  if (call.scale.lo != 0) return run_rows<V, T, Epilogue::vectors>(call);
  // Two exact halves: y·c/2 + y·c/2 rounds once, as y·c does, and infinity stays infinity.
  Call halves = call;
  halves.scale = {call.scale.hi / 2, call.scale.hi / 2};
  run_rows<V, T, Epilogue::vectors>(halves);
}

void run(const Call& call) noexcept {
  with_dtype(call.dtype, [&]<class V, class T>() { run_typed<V, T>(call); });
}

}  // namespace

namespace sylvester::hadamard_transform::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{run};
}  // namespace sylvester::hadamard_transform::SYLVESTER_LEVEL
