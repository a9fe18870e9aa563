// Weights of the layout as numbers, a register at a time, for the float products.
#pragma once

#include "lowbit_matmul/operands.h"

namespace {

using sylvester::lowbit_matmul::kGroup;
using sylvester::lowbit_matmul::kUnitBytes;
using sylvester::lowbit_matmul::unit_columns;

// visit(f, p, u): field f of the rows of register p, a byte each
template <Format format, class Visit>
SYLVESTER_INLINE void for_fields(const uint8_t* unit, const Visit& visit) {
#pragma GCC unroll 4
  for (int p = 0; p < kParts; ++p) {
    const Bytes v = load_bytes(unit + p * kWidth);
    if constexpr (format == Format::int8) {
      visit(0, p, v);
    } else {
      Operands<format, 1> cut;
      cut.cut(v);
      for_constants<coding_of(format).fields>([&](auto f) SYLVESTER_LAMBDA { visit(f, p, cut.get(f)); });
    }
  }
}

// w[k][16 rows] of `units` units
template <Format format, class Real>
void weights_by_column(const uint8_t* unit, int64_t units, Real* w) {
  constexpr auto kCoding = coding_of(format);
  using Signed [[gnu::vector_size(kWidth)]] = int32_t;
  using Reals [[gnu::vector_size(kLaneRows * sizeof(Real))]] = Real;
  for (int64_t i = 0; i < units; ++i, unit += kUnitBytes, w += unit_columns(format) * kGroup) {
    for_fields<format>(unit, [&](int f, int p, Bytes u) SYLVESTER_LAMBDA {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const Words value = ((Words)u >> 8 * j & 255) * uint32_t{kCoding.mult} - uint32_t{kCoding.zero};
        const Reals reals = __builtin_convertvector((Signed)value, Reals);
        std::memcpy(w + (4 * f + j) * kGroup + p * kLaneRows, &reals, sizeof reals);
      }
    });
  }
}

// w[16 rows][kPanel] of `units` units, zeros behind
template <Format format, class Real>
void weights_by_row(const uint8_t* unit, int64_t units, Real* w) {
  using sylvester::lowbit_matmul::kPanel;
  constexpr auto kCoding = coding_of(format);
  const int64_t columns = units * unit_columns(format);
  uint8_t rows[kGroup][kPanel];
  for (int64_t k = 0; k < columns; k += unit_columns(format), unit += kUnitBytes) {
    for_fields<format>(unit, [&](int f, int p, Bytes u) SYLVESTER_LAMBDA {
      uint32_t quads[kLaneRows];
      std::memcpy(quads, &u, sizeof u);
      for (int64_t r = 0; r < kLaneRows; ++r) std::memcpy(rows[p * kLaneRows + r] + k + 4 * f, quads + r, 4);
    });
  }
  for (int64_t r = 0; r < kGroup; ++r, w += kPanel) {
    for (int64_t k = 0; k < columns; ++k) w[k] = static_cast<Real>(kCoding.mult * rows[r][k] - kCoding.zero);
    for (int64_t k = columns; k < kPanel; ++k) w[k] = 0;
  }
}

}  // namespace
