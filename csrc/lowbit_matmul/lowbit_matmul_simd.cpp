#include "lowbit_matmul/lowbit_matmul.h"

#include "lowbit_matmul/codes.h"
#include "lowbit_matmul/epilogue.h"
#include "lowbit_matmul/weights.h"
#include "lowbit_matmul/with_format.h"

namespace {

using sylvester::size_of;
using sylvester::lowbit_matmul::Input;
using sylvester::lowbit_matmul::kPanel;
using sylvester::lowbit_matmul::kPanelRows;
using sylvester::lowbit_matmul::Reals;

SYLVESTER_INLINE void* at(void* y, int64_t element, Dtype dtype) {
  return static_cast<char*>(y) + element * size_of(dtype);
}

constexpr int64_t kTerms = 16;  // of a sum from +0

// Rows side by side, and vectors of columns of dx: enough chains to hide the latency of a fused multiply-add
template <class V>
constexpr bool kWide = V::kRegisters >= 16;

template <class V>
struct RealBody {
  using Real = typename V::Real;
  static constexpr int kTile = kWide<V> ? 8 : 6;
  const Reals& call;

  // kRows rows, a chain each: count columns of x, from column `first` of row m on, into their totals
  template <int kRows>
  void add(const Real* weights, int64_t m, int64_t first, int64_t count, Real* totals) const {
    V total[kRows];
    const Real* x = static_cast<const Real*>(call.x) + m * call.columns + first;
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) total[i] = zero<V>();
    for (int64_t begin = 0; begin < count; begin += kTerms) {
      V sum[kRows];
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) sum[i] = zero<V>();
      const int64_t end = begin + kTerms < count ? begin + kTerms : count;
      for (int64_t k = begin; k < end; ++k) {
        const V w = load<V>(weights + k * kGroup);
#pragma GCC unroll 12
        for (int i = 0; i < kRows; ++i) sum[i] = fma(broadcast<V>(x[i * call.columns + k]), w, sum[i]);
      }
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) total[i] = ::add(total[i], sum[i]);
    }
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      Real* to = totals + (m + i) * kGroup;
      store(to, ::add(load<V>(to), total[i]));
    }
  }
  template <Format format>
  void run() const {
    constexpr int64_t kColumns = unit_columns(format);
    Real* weights = static_cast<Real*>(call.work);
    Real* totals = weights + kPanel * kGroup;
    for (int64_t group = call.group_begin; group < call.group_end; ++group) {
      for (int64_t i = 0; i < call.rows * kGroup; ++i) totals[i] = 0;
      for (int64_t first = 0; first < call.columns; first += kPanel) {
        const int64_t left = call.columns - first, count = left < kPanel ? left : kPanel;
        weights_by_column<format>(call.w.layout + (group * call.w.units + first / kColumns) * kUnitBytes,
                                  (count + kColumns - 1) / kColumns, weights);
        int64_t m = 0;
        for (; m + kTile <= call.rows; m += kTile) add<kTile>(weights, m, first, count, totals);
        for (; m + 4 <= call.rows; m += 4) add<4>(weights, m, first, count, totals);
        for (; m < call.rows; ++m) add<1>(weights, m, first, count, totals);
      }
      const Columns<V> columns(call.w, group);
      for (int64_t m = 0; m < call.rows; ++m) {
        store_columns(at(call.y, m * call.y_stride + group * kGroup, call.dtype), call.dtype,
                      fma(load<V>(totals + m * kGroup), columns.scale, columns.bias), columns_of(call.w, group));
      }
    }
  }
};

template <class V>
struct InputBody {
  using Real = typename V::Real;
  static constexpr int kTile = kWide<V> ? 4 : 6, kVectors = kWide<V> ? 4 : 1;
  static constexpr int64_t kAtOnce = kVectors * kLanes;  // columns whose sums stay in registers
  const Input& call;

  // kRows rows times 16 rows of weights
  template <int kRows>
  void add(const Real* weights, const Real* grad, Real* totals) const {
    for (int64_t k = 0; k < kPanel; k += kAtOnce) {
      V sum[kRows][kVectors];
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[i][v] = zero<V>();
      for (int r = 0; r < kTerms; ++r) {
        V w[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) w[v] = load<V>(weights + r * kPanel + k + v * kLanes);
#pragma GCC unroll 6
        for (int i = 0; i < kRows; ++i) {
          const V g = broadcast<V>(grad[i * call.grad_stride + r]);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) sum[i][v] = fma(g, w[v], sum[i][v]);
        }
      }
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          Real* total = totals + i * kPanel + k + v * kLanes;
          store(total, ::add(load<V>(total), sum[i][v]));
        }
    }
  }
  template <Format format>
  void run() const {
    constexpr int64_t kColumns = unit_columns(format), kUnits = kPanel / kColumns;
    static_assert(kPanel % kColumns == 0 && kPanel % kAtOnce == 0 && kTerms == kGroup);
    Real* weights = static_cast<Real*>(call.work);
    Real* sums = weights + kGroup * kPanel;
    Real* totals = sums + kPanelRows * kPanel;
    for (int64_t i = 0; i < call.rows * kPanel; ++i) sums[i] = totals[i] = 0;
    const int64_t first = call.panel * kUnits, left = call.units - first, units = left < kUnits ? left : kUnits;
    for (int64_t group = 0; group < call.grad_stride / kGroup; ++group) {
      weights_by_row<format>(call.layout + (group * call.units + first) * kUnitBytes, units, weights);
      const Real* grad = static_cast<const Real*>(call.grad) + group * kGroup;
      int64_t m = 0;
      for (; m + kTile <= call.rows; m += kTile) add<kTile>(weights, grad + m * call.grad_stride, sums + m * kPanel);
      for (; m < call.rows; ++m) add<1>(weights, grad + m * call.grad_stride, sums + m * kPanel);
      if ((group + 1) % (kPanel / kGroup) != 0 && (group + 1) * kGroup != call.grad_stride) continue;
      for (int64_t i = 0; i < call.rows * kPanel; i += kLanes) {
        store(totals + i, ::add(load<V>(totals + i), load<V>(sums + i)));
        store(sums + i, zero<V>());
      }
    }
    const int64_t begin = call.panel * kPanel, end = begin + kPanel < call.columns ? begin + kPanel : call.columns;
    for (int64_t m = 0; m < call.rows; ++m) {
      for (int64_t k = begin; k < end; k += kLanes) {
        store_columns(at(call.dx, m * call.columns + k, call.dtype), call.dtype,
                      load<V>(totals + m * kPanel + k - begin), end - k < kLanes ? end - k : kLanes);
      }
    }
  }
};

void real(const Reals& call, [[maybe_unused]] bool wide) noexcept {
#if defined(SYLVESTER_LEVEL_scalar)
  if (wide) return with_format(call.w.format, RealBody<lanes16<double>>{call});
#endif
  with_format(call.w.format, RealBody<Vector>{call});
}

void input(const Input& call, [[maybe_unused]] bool wide) noexcept {
#if defined(SYLVESTER_LEVEL_scalar)
  if (wide) return with_format(call.format, InputBody<lanes16<double>>{call});
#endif
  with_format(call.format, InputBody<Vector>{call});
}

}  // namespace

namespace sylvester::lowbit_matmul::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{real, input, quantize};
}  // namespace sylvester::lowbit_matmul::SYLVESTER_LEVEL
