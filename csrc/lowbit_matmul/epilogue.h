// From the sums of 16 columns to y.
#pragma once

#include "common/parts.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::Dtype;
using sylvester::lowbit_matmul::kGroup;
using sylvester::lowbit_matmul::Weights;

SYLVESTER_INLINE int64_t columns_of(const Weights& w, int64_t group) {
  const int64_t left = w.rows - group * kGroup;
  return left < kGroup ? left : kGroup;
}

// The factor and the summand of the 16 columns of a group; zeros beyond N
template <class V>
struct Columns {
  V scale, bias;

  Columns(const Weights& w, int64_t group) {
    using Real = typename V::Real;
    const Real* factors = static_cast<const Real*>(w.scale);
    const Real* summands = static_cast<const Real*>(w.bias);
    const int64_t first = group * kGroup, count = columns_of(w, group);
    scale = w.scale_per_row ? read(factors + first, count) : broadcast<V>(factors[0]);
    bias = summands != nullptr ? read(summands + first, count) : broadcast<V>(Real{-0.0});
  }

 private:
  static V read(const typename V::Real* from, int64_t count) {
    return count == kGroup ? load<V>(from) : load_part_as<V>(from, count);
  }
};

template <class V, class T>
SYLVESTER_INLINE void store_columns(void* to, V y, int64_t count) {
  T* y_row = static_cast<T*>(to);
  count == kGroup ? store_as(y_row, y) : store_part_as(y_row, y, count);
}

// y[i], i < count, of dtype; `to` points at the first
template <class V>
SYLVESTER_INLINE void store_columns(void* to, Dtype dtype, V y, int64_t count) {
  if constexpr (sizeof(typename V::Real) == 8) {
    store_columns<V, double>(to, y, count);
  } else {
    switch (dtype) {
      case Dtype::float32: return store_columns<V, float>(to, y, count);
      case Dtype::bfloat16: return store_columns<V, bfloat16>(to, y, count);
      case Dtype::float16: return store_columns<V, float16>(to, y, count);
      case Dtype::float64: return;  // Real is double then
    }
  }
}

}  // namespace
