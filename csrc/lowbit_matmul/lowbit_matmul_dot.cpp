#include "lowbit_matmul/decode.h"
#include "lowbit_matmul/direct.h"
#include "lowbit_matmul/epilogue.h"
#include "lowbit_matmul/panel.h"

namespace {

using sylvester::size_of;
using sylvester::lowbit_matmul::Integer;
using sylvester::lowbit_matmul::kBlockRows;
using sylvester::lowbit_matmul::unit_columns;

// Tiles of products that decode as they go. With 32 registers and a dot product on half of the pipes, decoding is free
// for any number of rows; else a panel is unpacked for 8 and more.
#if defined(SYLVESTER_LEVEL_avx512vnni)
constexpr bool kPanels = false;
constexpr int kTileRows = 8, kAlone = 3, kTogether = 2;  // groups for one row and for more
#elif defined(SYLVESTER_LEVEL_scalar)
constexpr bool kPanels = false;
constexpr int kTileRows = 4, kAlone = 1, kTogether = 1;
#else
constexpr bool kPanels = true;
constexpr int kTileRows = 4, kAlone = kHalfSums ? 3 : 1, kTogether = 1;
#endif
constexpr int64_t kLeastPanelRows = 8;

// Fields that one row reads between two shifts, each with sums of its own
constexpr int places_of(Format format, int rows) {
  const int fields = format == Format::trits ? 4 : coding_of(format).fields;
  if (rows > (kHalfSums ? 1 : 2) || kParts > 2 || fields == 1) return 1;
  if (kHalfSums) return fields > 2 ? 2 : 1;
  return fields < 4 ? fields : 4;
}

template <Format format>
struct Multiply {
  static constexpr auto kCoding = coding_of(format);
  const Integer& call;

  // Σ w x from Σ u x, scaled, to row m and the columns of a group
  SYLVESTER_INLINE void write(int64_t m, int64_t group, const Columns<Vector>& columns, const Words* sums) const {
    const Words shift = all_words(static_cast<int32_t>(kCoding.zero * static_cast<uint32_t>(call.x.sums[m])));
    Words acc[kParts];
    for (int p = 0; p < kParts; ++p) acc[p] = sums[p] * kCoding.mult - shift;
    const Vector scale = mul(broadcast<Vector>(call.x.scale[m]), columns.scale);
    char* y = static_cast<char*>(call.y) + (m * call.y_stride + group * kGroup) * size_of(call.dtype);
    store_columns(y, call.dtype, fma(to_vector(acc), scale, columns.bias), columns_of(call.w, group));
  }

  template <int kRows, int kGroups>
  __attribute__((noinline)) void direct(int64_t m, int64_t group, int64_t step) const {
    constexpr int kPlaces = places_of(format, kRows);
    Direct<Operands<format, kPlaces>, kRows, kGroups> product;
    const uint8_t* weights[kGroups];
    for (int g = 0; g < kGroups; ++g) weights[g] = call.w.layout + (group + g * step) * call.w.units * kUnitBytes;
    product.run(call.x.x + m * call.x.stride, call.x.stride, weights, call.w.units, unit_columns(format));
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      const Columns<Vector> columns(call.w, group + g * step);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) write(m + r, group + g * step, columns, product.total[r][g]);
    }
  }
  // All rows of x by groups at a distance of step: each is a stream of its own for the whole call, which is what the
  // hardware's prefetchers follow
  template <int kGroups>
  SYLVESTER_INLINE void rows(int64_t group, int64_t step) const {
    int64_t m = 0;
    if constexpr (kTileRows >= 8) {
      for (; m + 8 <= call.x.rows; m += 8) direct<8, kGroups>(m, group, step);
    }
    for (; m + 4 <= call.x.rows; m += 4) direct<4, kGroups>(m, group, step);
    for (; m + 2 <= call.x.rows; m += 2) direct<2, kGroups>(m, group, step);
    for (; m < call.x.rows; ++m) direct<1, kGroups>(m, group, step);
  }
  template <int kGroups>
  void streams() const {
    const int64_t step = (call.group_end - call.group_begin) / kGroups;
    for (int64_t i = 0; i < step; ++i) rows<kGroups>(call.group_begin + i, step);
    for (int64_t group = call.group_begin + kGroups * step; group < call.group_end; ++group) rows<1>(group, 0);
  }
  void panels() const {
    auto* totals = static_cast<int32_t*>(call.work);
    const Panel<format> panel{reinterpret_cast<uint8_t*>(totals + kBlockRows * kLanes), totals};
    for (int64_t first = 0; first < call.x.rows; first += kBlockRows) {
      const int64_t count = call.x.rows - first < kBlockRows ? call.x.rows - first : kBlockRows;
      for (int64_t group = call.group_begin; group < call.group_end; ++group) {
        panel.run(call.x.x + first * call.x.stride, call.x.stride, count,
                  call.w.layout + group * call.w.units * kUnitBytes, call.w.units);
        const Columns<Vector> columns(call.w, group);
        for (int64_t m = 0; m < count; ++m) {
          Words sums[kParts];
          for (int p = 0; p < kParts; ++p) sums[p] = load_words(totals + m * kLanes + p * kLaneRows);
          write(first + m, group, columns, sums);
        }
      }
    }
  }
};

struct Body {
  const Integer& call;
  template <Format format>
  void run() const {
    const Multiply<format> multiply{call};
    if (kPanels && call.x.rows >= kLeastPanelRows) return multiply.panels();
    call.x.rows == 1 ? multiply.template streams<kAlone>() : multiply.template streams<kTogether>();
  }
};

void integer(const Integer& call) noexcept { with_format(call.w.format, Body{call}); }

}  // namespace

namespace sylvester::lowbit_matmul::SYLVESTER_LEVEL {
extern const Dots dots;
const Dots dots{integer};
}  // namespace sylvester::lowbit_matmul::SYLVESTER_LEVEL
