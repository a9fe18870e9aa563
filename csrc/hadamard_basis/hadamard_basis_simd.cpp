#include "hadamard_basis/hadamard_basis.h"

#include "common/convert.h"

namespace {

using sylvester::Dtype;
using sylvester::hadamard_basis::Axis;
using sylvester::hadamard_basis::kColumnBlock;
using sylvester::hadamard_basis::kRowBlock;
using sylvester::hadamard_basis::Lookup;
using sylvester::hadamard_basis::Pack;
using sylvester::hadamard_basis::Product;
using sylvester::hadamard_basis::Unpack;

// Rows of a group, and the vectors it takes at once: all accumulators stay in registers, and a lone row has enough of
// them to hide the latency of a fused multiply-add.
template <class V>
constexpr bool kWide = V::kRegisters >= 16;
template <class V>
constexpr int kMostRows = kWide<V> ? 12 : 6;
template <class V>
constexpr int columns_of(int rows) {
  return kWide<V> || rows <= 2 ? 2 : 1;
}

// visit(rows as a constant, m) for the groups of rows [first, last), greatest first
template <class V, class Visit>
SYLVESTER_INLINE void for_groups(int64_t first, int64_t last, const Visit& visit) {
  int64_t m = first;
  for (; m + kMostRows<V> <= last; m += kMostRows<V>) visit(std::integral_constant<int, kMostRows<V>>(), m);
  if constexpr (kWide<V>) {
    for (; m + 8 <= last; m += 8) visit(std::integral_constant<int, 8>(), m);
  }
  for (; m + 4 <= last; m += 4) visit(std::integral_constant<int, 4>(), m);
  for (; m + 2 <= last; m += 2) visit(std::integral_constant<int, 2>(), m);
  for (; m < last; ++m) visit(std::integral_constant<int, 1>(), m);
}

// Steps outside rows: a step's rows lie side by side, steps may be pages apart
template <class V, class T>
void pack_rows(const Pack& p, int64_t first, int64_t last) {
  using Real = typename V::Real;
  const Axis depth = p.depth;
  const bool dense = p.rows.inner == p.rows.count && p.rows.inner_step == 1;
  for_groups<V>(first, last, [&](auto group, int64_t m) SYLVESTER_LAMBDA {
    constexpr int kRows = decltype(group)::value;
    int64_t offset[kRows];
    for (int r = 0; r < kRows; ++r) offset[r] = p.rows.at(m + r);
    Real* to = static_cast<Real*>(p.to) + m * depth.count;
    const T* outer = static_cast<const T*>(p.from);
    for (int64_t done = 0; done < depth.count; done += depth.inner, outer += depth.outer_step) {
      for (int64_t k = 0; dense && k < depth.inner; ++k)
        for (int r = 0; r < kRows; ++r) to[k * kRows + r] = to_float(outer[offset[0] + k * depth.inner_step + r]);
      for (int r = 0; !dense && r < kRows; ++r)
        for (int64_t k = 0; k < depth.inner; ++k) to[k * kRows + r] = to_float(outer[offset[r] + k * depth.inner_step]);
      to += depth.inner * kRows;
    }
  });
}

template <class V>
void pack(const Pack& p, int64_t first, int64_t last) {
  if constexpr (sizeof(typename V::Real) == 8) return pack_rows<V, double>(p, first, last);
  if (p.dtype == Dtype::bfloat16) return pack_rows<V, sylvester::bfloat16>(p, first, last);
  if (p.dtype == Dtype::float16) return pack_rows<V, sylvester::float16>(p, first, last);
  pack_rows<V, float>(p, first, last);
}

// Rows [m, m + Rows), which lie at c + offset[·], by Columns vectors from column n on
template <class V, int Rows, int Columns>
SYLVESTER_INLINE void product_block(const Product& p, const int64_t* offset, int64_t m, int64_t n) {
  using Real = typename V::Real;
  const Real* a = static_cast<const Real*>(p.a) + m * p.b_rows.count;
  const Real* outer = static_cast<const Real*>(p.b) + n;
  Real* const c = static_cast<Real*>(p.c) + n;
  V sum[Rows][Columns];
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Columns; ++j) sum[i][j] = p.add ? load<V>(c + offset[i] + j * kLanes) : zero<V>();
  for (int64_t done = 0; done < p.b_rows.count; done += p.b_rows.inner, outer += p.b_rows.outer_step) {
    const Real* b = outer;
    for (int64_t r = 0; r < p.b_rows.inner; ++r, b += p.b_rows.inner_step, a += Rows) {
      V row[Columns];
#pragma GCC unroll 4
      for (int j = 0; j < Columns; ++j) row[j] = load<V>(b + j * kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < Rows; ++i) {
        const V x = broadcast<V>(a[i]);
#pragma GCC unroll 4
        for (int j = 0; j < Columns; ++j) sum[i][j] = fma(x, row[j], sum[i][j]);
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Columns; ++j) store(c + offset[i] + j * kLanes, sum[i][j]);
}

template <class V>
void multiply(const Product& p, int64_t item) {
  const int64_t row_blocks = (p.c_rows.count + kRowBlock - 1) / kRowBlock;
  const int64_t first = item % row_blocks * kRowBlock, begin = item / row_blocks * kColumnBlock;
  const int64_t last = first + kRowBlock < p.c_rows.count ? first + kRowBlock : p.c_rows.count;
  const int64_t end = begin + kColumnBlock < p.columns ? begin + kColumnBlock : p.columns;
  for_groups<V>(first, last, [&](auto group, int64_t m) SYLVESTER_LAMBDA {
    constexpr int kRows = decltype(group)::value, kColumns = columns_of<V>(kRows);
    int64_t offset[kRows], n = begin;
    for (int i = 0; i < kRows; ++i) offset[i] = p.c_rows.at(m + i);
    for (; n + kColumns * kLanes <= end; n += kColumns * kLanes) product_block<V, kRows, kColumns>(p, offset, m, n);
    for (; n < end; n += kLanes) product_block<V, kRows, 1>(p, offset, m, n);
  });
}

template <class T, class Real>
T rounded(Real x) {
  if constexpr (sizeof(T) == 2) {
    return from_float<T>(x);
  } else {
    return static_cast<T>(x);
  }
}

template <class Real, class T>
void unpack_rows(const Unpack& p, int64_t first, int64_t last) {
  for (int64_t m = first; m < last; ++m) {
    const Real* from = static_cast<const Real*>(p.from) + m * p.row;
    T* to = static_cast<T*>(p.to) + p.rows.at(m);
    for (int64_t n = 0; n < p.columns.count; ++n) to[n * p.columns.inner_step] = rounded<T>(from[n]);
  }
}

template <class V>
void unpack(const Unpack& p, int64_t first, int64_t last) {
  using Real = typename V::Real;
  if constexpr (sizeof(Real) == 8) return unpack_rows<Real, double>(p, first, last);
  if constexpr (sizeof(Real) == 4) {
    if (p.dtype == Dtype::bfloat16) return unpack_rows<Real, sylvester::bfloat16>(p, first, last);
    if (p.dtype == Dtype::float16) return unpack_rows<Real, sylvester::float16>(p, first, last);
    unpack_rows<Real, float>(p, first, last);
  }
}

// Rows that are summed side by side: each is a chain of additions
constexpr int kChains = 4;

template <class V, int Rows>
SYLVESTER_INLINE void gather_block(const Lookup& p, int64_t b, int64_t n) {
  using Real = typename V::Real;
  Real* const sums = static_cast<Real*>(p.sums) + b * p.sums_row + n;
  const Real* basis = static_cast<const Real*>(p.basis) + n;
  V sum[Rows];
  for (int i = 0; i < Rows; ++i) sum[i] = load<V>(sums + i * p.sums_row);
  for (int64_t j = 0; j < p.steps; ++j, basis += p.basis_step) {
    const int64_t* token = p.tokens + j * p.step + b * p.row;
    for (int i = 0; i < Rows; ++i) sum[i] = add(sum[i], load<V>(basis + token[i * p.row] * p.basis_row));
  }
  for (int i = 0; i < Rows; ++i) store(sums + i * p.sums_row, sum[i]);
}

template <class V>
void gather(const Lookup& p, int64_t first, int64_t last) {
  int64_t b = 0;
  for (; b + kChains <= p.batch; b += kChains)
    for (int64_t n = first; n < last; n += kLanes) gather_block<V, kChains>(p, b, n);
  for (; b < p.batch; ++b)
    for (int64_t n = first; n < last; n += kLanes) gather_block<V, 1>(p, b, n);
}

template <class V>
void scatter(const Lookup& p, int64_t first, int64_t last) {
  using Real = typename V::Real;
  for (int64_t j = 0; j < p.steps; ++j) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const Real* from = static_cast<const Real*>(p.sums) + b * p.sums_row;
      const int64_t token = p.tokens[j * p.step + b * p.row];
      Real* to = static_cast<Real*>(p.basis) + j * p.basis_step + token * p.basis_row;
      for (int64_t n = first; n < last; n += kLanes) store(to + n, add(load<V>(to + n), load<V>(from + n)));
    }
  }
}

#if defined(SYLVESTER_LEVEL_scalar)
using Wide = lanes16<double>;
#else
using Wide = Vector;  // the caller sends float64 to the scalar level
#endif

void pack_any(const Pack& p, int64_t first, int64_t last) noexcept {
  p.real == Dtype::float64 ? pack<Wide>(p, first, last) : pack<Vector>(p, first, last);
}
void multiply_any(const Product& p, int64_t item) noexcept {
  p.real == Dtype::float64 ? multiply<Wide>(p, item) : multiply<Vector>(p, item);
}
void unpack_any(const Unpack& p, int64_t first, int64_t last) noexcept {
  p.real == Dtype::float64 ? unpack<Wide>(p, first, last) : unpack<Vector>(p, first, last);
}
void gather_any(const Lookup& p, int64_t first, int64_t last) noexcept {
  p.real == Dtype::float64 ? gather<Wide>(p, first, last) : gather<Vector>(p, first, last);
}
void scatter_any(const Lookup& p, int64_t first, int64_t last) noexcept {
  p.real == Dtype::float64 ? scatter<Wide>(p, first, last) : scatter<Vector>(p, first, last);
}

}  // namespace

namespace sylvester::hadamard_basis::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{pack_any, multiply_any, unpack_any, gather_any, scatter_any};
}  // namespace sylvester::hadamard_basis::SYLVESTER_LEVEL
