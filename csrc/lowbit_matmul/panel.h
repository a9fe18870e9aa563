// Products for many rows of x where registers are few: a block of a group's weights is unpacked to u once, in the
// first-level cache, and every row of x passes over it; sums in registers along the block, totals in memory between.
#pragma once

#include "lowbit_matmul/operands.h"

namespace {

using sylvester::lowbit_matmul::kPanelQuads;
using sylvester::lowbit_matmul::kUnitBytes;

template <Format format>
struct Panel {
  using Cut = Operands<format, 1>;
  static constexpr int64_t kColumns = sylvester::lowbit_matmul::unit_columns(format), kUnitQuads = kColumns / 4;
  static constexpr int64_t kUnits = kPanelQuads / kUnitQuads, kQuads = kUnits * kUnitQuads;
  static constexpr int64_t kMost = most_dots(Cut::largest(0)), kBlock = kMost < kQuads ? kMost : kQuads;
  // A tile's sums, two operands, the codes and a product: of 32 registers or of 16
  static constexpr int kRows = kParts == 1 ? 12 : 6;

  uint8_t* bytes;   // (classes, kPanelQuads, 64)
  int32_t* totals;  // (rows, 16)

  static SYLVESTER_INLINE uint8_t* at(uint8_t* bytes, int c, int64_t q) {
    return bytes + (c * kPanelQuads + q) * kUnitBytes;
  }
  void unpack(const uint8_t* weights, int64_t units) const {
    for (int64_t i = 0; i < units; ++i, weights += kUnitBytes) {
      __builtin_prefetch(weights + kUnits * kUnitBytes);  // the next panel: memory has the time of this one's products
#pragma GCC unroll 4
      for (int64_t p = 0; p < kUnitBytes; p += kWidth) {
        Cut cut;
        cut.cut(load_bytes(weights + p));
        for_constants<Cut::kCount>([&](auto f) SYLVESTER_LAMBDA {
          store_bytes(at(bytes, Cut::class_of(f), i * kUnitQuads + Cut::quad_of(f)) + p, cut.get(f));
        });
      }
    }
  }
  template <int kTile, int c>
  SYLVESTER_INLINE void block(const int8_t* x, int64_t stride, int32_t* total, int64_t begin, int64_t end) const {
    Sums sum[kTile][kParts];
#pragma GCC unroll 12
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) sum[r][p] = Sums{};
    const uint8_t* u = at(bytes, c, begin);
    for (int64_t q = begin; q < end; ++q, u += kUnitBytes) {
      Bytes weights[kParts];
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) weights[p] = load_bytes(u + p * kWidth);
#pragma GCC unroll 12
      for (int r = 0; r < kTile; ++r) {
        const Bytes codes = quad(x + r * stride + 4 * q);
#pragma GCC unroll 4
        for (int p = 0; p < kParts; ++p) sum[r][p] = dot(sum[r][p], weights[p], codes);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kTile; ++r)
#pragma GCC unroll 4
      for (int p = 0; p < kParts; ++p) {
        int32_t* t = total + r * kLanes + p * kLaneRows;
        store_words(t, load_words(t) + Cut::valued(Constant<c>(), widen(sum[r][p])));
      }
  }
  // kTile rows from m on times the unpacked quads, which begin at column k
  template <int kTile>
  __attribute__((noinline)) void tile(const int8_t* x, int64_t stride, int64_t m, int64_t quads) const {
    for (int64_t begin = 0; begin < quads; begin += kBlock) {
      const int64_t end = quads - begin < kBlock ? quads : begin + kBlock;
      for_constants<Cut::kClasses>(
          [&](auto c) SYLVESTER_LAMBDA { block<kTile, c>(x + m * stride, stride, totals + m * kLanes, begin, end); });
    }
  }
  // totals = Σ u x of `rows` rows of x and the 16 columns at weights
  void run(const int8_t* x, int64_t stride, int64_t rows, const uint8_t* weights, int64_t units) const {
    std::memset(totals, 0, static_cast<size_t>(rows * kLanes) * sizeof(int32_t));
    for (int64_t first = 0; first < units; first += kUnits) {
      const int64_t count = units - first < kUnits ? units - first : kUnits;
      unpack(weights + first * kUnitBytes, count);
      const int8_t* codes = x + first * kColumns;
      int64_t m = 0;
      // Eight rows are two tiles of four, not six and two
      for (; m + kRows <= rows && rows - m != 8; m += kRows) tile<kRows>(codes, stride, m, count * kUnitQuads);
      for (; m + 4 <= rows; m += 4) tile<4>(codes, stride, m, count * kUnitQuads);
      for (; m + 2 <= rows; m += 2) tile<2>(codes, stride, m, count * kUnitQuads);
      for (; m < rows; ++m) tile<1>(codes, stride, m, count * kUnitQuads);
    }
  }
};

}  // namespace
