#include "lowbit_matmul/direct.h"
#include "lowbit_matmul/epilogue.h"
#include "lowbit_matmul/panel.h"
#include "lowbit_matmul/with_format.h"

namespace {

using sylvester::lowbit_matmul::Coding;
using sylvester::lowbit_matmul::Integer;
using sylvester::lowbit_matmul::kIntegerRows;
using sylvester::lowbit_matmul::kTotals;

// Tiles of products that decode as they go. With 32 registers decoding is free, or nearly, for any number of rows; else
// a panel is unpacked for more than 8 rows, for as many where decoding is slow, and for none where nothing is decoded.
#if defined(SYLVESTER_LEVEL_avx512vnni)
constexpr int kTileRows = 8, kTogether = 2;
constexpr int alone(Format format) { return format == Format::trits ? 2 : 3; }  // groups at a time for one row
constexpr bool with_panels(Format, int64_t) { return false; }
#elif defined(SYLVESTER_LEVEL_scalar)
constexpr int kTileRows = 4, kTogether = 1;
constexpr int alone(Format) { return 1; }
constexpr bool with_panels(Format, int64_t) { return false; }
#else
constexpr int kTileRows = kHalfSums ? 8 : 4, kTogether = 1;
constexpr int alone(Format format) {
  if (format == Format::trits) return 1;
  return kParts == 1 || format == Format::int8 || (!kHalfSums && format == Format::binary) ? 3 : 2;
}
constexpr bool with_panels(Format format, int64_t rows) {
  if (format == Format::trits) return rows >= 8;
  if (format == Format::int8) return kParts == 2 && kHalfSums && rows >= 8;
  return kParts == 2 && rows >= 9;
}
#endif
constexpr int tile_rows(Format format) { return kTileRows > 4 && with_panels(format, 8) ? 4 : kTileRows; }
// Registers of a group at a time: the sums of 8 rows by two would fill all 16
constexpr int turn_of(int rows) { return kParts == 2 && rows == 8 ? 1 : kParts; }
// Rows at a time: an unpacked panel serves many, else x and the weights of a tile share the first-level cache
constexpr int64_t block_rows(Format format) { return with_panels(format, kIntegerRows) ? kIntegerRows : 8; }
// Groups that all blocks of rows pass over while the second-level cache holds them
constexpr int64_t groups_abreast(int64_t units) {
  constexpr int64_t kBytes = int64_t{1} << 18;
  const int64_t groups = kBytes / (kUnitBytes * (units + 1)) / kTogether * kTogether;
  return groups < kTogether ? kTogether : groups;
}

// Fields that one row reads between two shifts, each with sums of its own
constexpr int places_of(Format format, int rows) {
  const int fields = format == Format::trits ? 4 : coding_of(format).fields;
  if (rows > (kHalfSums ? 1 : 2) || kParts > 2 || fields == 1) return 1;
  if (kHalfSums) return fields > 2 ? 2 : 1;
  const int most = kParts == 1 || fields * rows > 8 ? 4 : 2;  // of 16 registers sums leave some for operands
  return fields < most ? fields : most;
}

// Totals of rows [m, m + rows) and of every apart-th group from `begin` on
template <Format format>
struct Block {
  const Integer& call;
  int32_t* totals;
  int64_t m, rows, begin, apart;

  int64_t group(int64_t g) const { return begin + g * apart; }
  const uint8_t* weights(int64_t g) const { return call.w.layout + group(g) * call.w.units * kUnitBytes; }
  const int8_t* x(int64_t r) const { return call.x.x + (m + r) * call.x.stride; }
  int32_t* total(int64_t g, int64_t r) const { return totals + (g * rows + r) * kLanes; }

  // Rows from r on, kRows at a time; returns the row behind
  template <int kRows, int kGroups>
  __attribute__((noinline)) int64_t direct(int64_t r, int64_t first, int64_t step) const {
    constexpr int kTurn = turn_of(kRows);
    const int64_t groups_step = step * rows * kLanes;
    for (int32_t* to = total(first, r); r + kRows <= rows; r += kRows, to += kRows * kLanes) {
      for (int part = 0; part < kParts; part += kTurn) {
        const uint8_t* from[kGroups];
        for (int g = 0; g < kGroups; ++g) from[g] = weights(first + g * step) + part * kWidth;
        Direct<format, places_of(format, kRows), kRows, kGroups, kTurn> product;
        product.run(x(r), call.x.stride, from, call.w.units);
        product.for_sums([&](int i, int g, int p) SYLVESTER_LAMBDA {
          store_words(to + g * groups_step + i * kLanes + (part + p) * kLaneRows, product.total[i][g][p]);
        });
      }
    }
    return r;
  }
  // At most kRows rows at a time
  template <int kRows, int kGroups>
  SYLVESTER_INLINE void all_rows(int64_t first, int64_t step) const {
    int64_t r = 0;
    if constexpr (kRows >= 8) r = direct<8, kGroups>(r, first, step);
    if (r == rows) return;
    if constexpr (kRows >= 4) r = direct<4, kGroups>(r, first, step);
    if constexpr (kRows >= 2) r = direct<2, kGroups>(r, first, step);
    direct<1, kGroups>(r, first, step);
  }
  // kGroups groups at a time, far apart: each is a stream of its own along all of them, which prefetchers can follow
  template <int kRows, int kGroups>
  void streams(int64_t groups) const {
    const int64_t step = groups / kGroups;
    for (int64_t g = 0; g < step; ++g) all_rows<kRows, kGroups>(g, step);
    for (int64_t g = kGroups * step; g < groups; ++g) all_rows<kRows, 1>(g, 0);
  }
  // Σ w x from Σ u x, scaled
  template <class T>
  void write(int64_t groups) const {
    constexpr Coding kCoding = coding_of(format);
    const int64_t stride = call.y_stride;
    const int32_t *sum = totals, *sums = call.x.sums + m;
    const float* scales = call.x.scale + m;
    for (int64_t g = 0; g < groups; ++g) {
      const Columns<Vector> columns(call.w, group(g));
      const int64_t count = columns_of(call.w, group(g));
      T* y = static_cast<T*>(call.y) + m * stride + group(g) * kGroup;
      for (int64_t r = 0; r < rows; ++r, y += stride, sum += kLanes) {
        Words acc[kParts];
        const Words shift = all_words(sums[r]) * uint32_t{kCoding.zero};
        for (int p = 0; p < kParts; ++p) acc[p] = load_words(sum + p * kLaneRows) * uint32_t{kCoding.mult} - shift;
        const Vector scale = mul(broadcast<Vector>(scales[r]), columns.scale);
        store_columns<Vector, T>(y, fma(to_vector(acc), scale, columns.bias), count);
      }
    }
  }
  void run(int64_t groups) const {
    sum(groups);
    switch (call.dtype) {
      case Dtype::float32: return write<float>(groups);
      case Dtype::bfloat16: return write<bfloat16>(groups);
      case Dtype::float16: return write<float16>(groups);
      case Dtype::float64: return;  // codes are never multiplied in float64
    }
  }
  void sum(int64_t groups) const {
    if (with_panels(format, rows)) {
      auto* panel = static_cast<uint8_t*>(call.work) + kTotals * kGroup * sizeof(int32_t);
      for (int64_t g = 0; g < groups; ++g)
        Panel<format>{panel, total(g, 0)}.run(x(0), call.x.stride, rows, weights(g), call.w.units);
    } else {
      rows == 1 ? streams<1, alone(format)>(groups) : streams<tile_rows(format), kTogether>(groups);
    }
  }
};

struct Body {
  const Integer& call;

  template <Format format>
  void run() const {
    constexpr int64_t kRows = block_rows(format);
    const int64_t all = call.group_end - call.group_begin;
    const int64_t abreast = call.x.rows <= kRows ? all : groups_abreast(call.w.units);
    for (int64_t begin = call.group_begin; begin < call.group_end; begin += abreast) {
      const int64_t left = call.group_end - begin, end = begin + (left < abreast ? left : abreast);
      for (int64_t m = 0; m < call.x.rows; m += kRows) {
        block<format>(m, call.x.rows - m < kRows ? call.x.rows - m : kRows, begin, end);
      }
    }
  }
  template <Format format>
  void block(int64_t m, int64_t rows, int64_t begin, int64_t end) const {
    const int64_t all = end - begin, together = rows < 4 ? kTotals / rows : kTogether;
    // Long streams for few rows. More have few totals, scaled while they are in the first-level cache.
    const int64_t apart = rows < 4 ? 1 : all / kTogether, tiled = rows < 4 ? 0 : apart * kTogether;
    for (int64_t done = 0, groups; done < all; done += groups) {
      groups = done < tiled ? kTogether : rows < 4 && all - done > together ? together : rows < 4 ? all - done : 1;
      const int64_t first = begin + (done < tiled ? done / kTogether : done);
      Block<format>{call, static_cast<int32_t*>(call.work), m, rows, first, apart}.run(groups);
    }
  }
};

void integer(const Integer& call) noexcept { with_format(call.w.format, Body{call}); }

}  // namespace

namespace sylvester::lowbit_matmul::SYLVESTER_LEVEL {
extern const Dots dots;
const Dots dots{integer};
}  // namespace sylvester::lowbit_matmul::SYLVESTER_LEVEL
