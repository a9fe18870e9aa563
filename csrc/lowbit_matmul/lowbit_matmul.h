// y = x Wᵀ for weights of few bits: W (N,K) = scale · codes, N rows of W are the columns of y, x is (M,K).
//
//   integer   x in int8 codes, a scale a row: acc = Σ_k w x, exact in int32; y = fma(float(acc), x_scale · scale, bias)
//   real      x in Real: sums of 16 k by fma, of 320 by these, of all by those, each from +0, k ascending;
//             y = fma(acc, scale, bias)
//   input     dx = (grad · scale) W: the same sums over n
//   quantize  rows of floats, of int8 codes or of packed int4 codes to what integer takes
//
// A bias that is null is -0, which leaves the product as it is. Real is float, or at the scalar level double when
// everything is float64. Levels return the same bits: each output is one sum in one order. (In one chain 11008 float
// products would err six times as much as in torch's product, so they err two thirds as much.)
//
// Layout of W, derived from the storage format once: rows in groups of 16, K in units of 64 bytes, F fields a byte.
//
//   layout[group][unit][64]: byte 4r + j, field f is row 16·group + r, k = unit·4F + 4f + j
//
//                  0     1     2     3     4    ...   63         W = mult · u - zero, F:
//     field 0    r0 k0   k1    k2    k3  r1 k0  ... r15 k3       binary 2u - 1, 8    int2 u - 2, 4
//     field 1    r0 k4   k5    k6    k7  r1 k4  ... r15 k7       ternary u - 1, 4    int4 u - 8, 2
//     ...                                                        trits u - 1, 5      int8 u - 128, 1
//
// Field f is the bits f · 8/F and up of its byte; of trits see trits_to_layout(). A zmm of bytes, shifted and masked,
// is the unsigned operand of vpdpbusd for 16 rows and 4 k; the signed one is 4 codes of x broadcast. Rows from N on and
// k from K on hold u = 0: there x is padded with zeros, scale and bias are not read and y is not written.
//
// Bounds: |x| <= 128 and |w| <= largest, so |acc| <= 128 · largest · K, which most_columns() keeps below 2^31. On the
// way Σ u x, mult · Σ u x and zero · Σ x may pass 2^31: they wrap modulo 2^32 (unsigned in C++; vpdpbusd, paddd by
// themselves), and their difference is exact again.
//
// Count, 64·F weights and a row of x: F dot products, F broadcasts from memory, F masks and at most F - 1 shifts, 64
// bytes of layout. M = 1 is bound by these operations in cache and by the bytes from DRAM; from M = 8 on, with weights
// decoded once for 8 rows or, as a panel, for all, by the dot products. A dot product into int16 sums is two
// operations: at 2 bits AVX2 has 13 for one row where the peak has 8, all for the same four pipes, and cannot reach
// much more than 8 / 13 of it (Zen 5: 7.0 cycles for 64 bytes, 3.7 operations a cycle; 0.63). One thread, no
// allocation, noexcept. The kernels own all tails of N and K.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/select.h"

namespace sylvester::lowbit_matmul {

enum class Format : int { binary, ternary, trits, int2, int4, int8 };

constexpr int64_t kGroup = 16;      // rows of W
constexpr int64_t kUnitBytes = 64;  // of one group
constexpr int64_t kRowBytes = 64;   // rows of codes are padded to a multiple

// How a byte is read: w = mult · u − zero of each of its fields
struct Coding {
  int fields, base, mult, zero, largest;  // largest: |w|
};
constexpr Coding coding_of(Format format) {
  switch (format) {
    case Format::binary: return {8, 2, 2, 1, 1};
    case Format::ternary: return {4, 4, 1, 1, 1};
    case Format::trits: return {5, 3, 1, 1, 1};
    case Format::int2: return {4, 4, 1, 2, 2};
    case Format::int4: return {2, 16, 1, 8, 8};
    case Format::int8: break;
  }
  return {1, 256, 1, 128, 128};
}

constexpr int64_t unit_columns(Format format) { return 4 * coding_of(format).fields; }
constexpr int64_t unit_count(Format format, int64_t columns) {
  return (columns + unit_columns(format) - 1) / unit_columns(format);
}
constexpr int64_t group_count(int64_t rows) { return (rows + kGroup - 1) / kGroup; }
// The largest K whose sums fit int32
constexpr int64_t most_columns(Format format) { return INT32_MAX / (128 * int64_t{coding_of(format).largest}); }
// Bytes of a row of codes: whole units in an odd number of cache lines, so that rows are spread over a cache's sets
constexpr int64_t code_stride(Format format, int64_t columns) {
  return ((unit_count(format, columns) * unit_columns(format) + kRowBytes - 1) / kRowBytes | 1) * kRowBytes;
}

// A byte of five trits, b = Σ_f u_f 3^f, in the layout and back. With v = Σ_f w_f 3^f, f < 4: bits 0 to 5 hold
// 21 u_4 + |v| mod 21, bit 6 |v| >= 21, bit 7 v < 0, so that tables of 64 and 128 entries decode it.
constexpr uint8_t trits_to_layout(int b) {
  const int v = b % 81 - 40, size = v < 0 ? -v : v;
  return static_cast<uint8_t>(21 * (b / 81) + size % 21 + 64 * (size / 21) + (v < 0 ? 128 : 0));
}
constexpr int trits_of_layout(uint8_t byte) {
  const int last = byte % 64 / 21, size = byte % 64 % 21 + 21 * (byte / 64 % 2);
  return 81 * last + 40 + (byte < 128 ? size : -size);
}

struct Weights {
  const uint8_t* layout;  // (groups, units, 64)
  Format format;
  int64_t units;
  int64_t rows;       // N
  const void* scale;  // Real: N values, or one
  bool scale_per_row;
  const void* bias;  // Real: N values, or null
};

struct Codes {
  const int8_t* x;      // rows × stride, zeros from K on
  int64_t stride;       // code_stride(format, K)
  const int32_t* sums;  // Σ_k x of each row
  const float* scale;   // of each row
  int64_t rows;
};

struct Integer {
  Codes x;
  Weights w;
  void* y;  // x.rows × y_stride elements of dtype
  int64_t y_stride;
  Dtype dtype;
  int64_t group_begin, group_end;  // the columns of y to write: 16 · group_begin up to min(16 · group_end, N)
  void* work;                      // kIntegerWork bytes
};
constexpr int64_t kPanelQuads = 120;           // unpacked at a time, 4 columns each: whole units of every format
constexpr int64_t kIntegerRows = 256;          // of x at a time
constexpr int64_t kTotals = 3 * kIntegerRows;  // sums of 16 columns kept until they are scaled
// Totals, and a panel for each half of a code
constexpr int64_t kIntegerWork = kTotals * kGroup * 4 + 2 * kPanelQuads * kUnitBytes;

constexpr int64_t kPanel = 320;  // columns decoded at a time: whole units of every format, whole sums of 16
constexpr int64_t kRealRows = 256;

struct Reals {
  const void* x;  // rows × columns Real, contiguous
  int64_t rows;   // at most kRealRows
  int64_t columns;
  Weights w;
  void* y;  // rows × y_stride elements of dtype
  int64_t y_stride;
  Dtype dtype;
  int64_t group_begin, group_end;
  void* work;  // kRealWork elements of Real
};
constexpr int64_t kRealWork = (kRealRows + kPanel) * kGroup;

constexpr int64_t kPanelRows = 96;  // of dx, for which a panel is decoded once

struct Input {
  const void* grad;     // rows × grad_stride Real: grad · scale, zeros from N on
  int64_t rows;         // at most kPanelRows
  int64_t grad_stride;  // 16 · groups
  const uint8_t* layout;
  Format format;
  int64_t units;
  void* dx;  // rows × columns elements of dtype, contiguous
  int64_t columns;
  Dtype dtype;
  int64_t panel;  // the columns to write: kPanel · panel and up
  void* work;     // kInputWork elements of Real
};
constexpr int64_t kInputWork = (kGroup + 2 * kPanelRows) * kPanel;

enum class Source : int { float32, bfloat16, float16, int8, int4 };

struct Quantize {
  const void* x;  // rows × columns of source, each row contiguous; int4: two codes a byte, the first low, u = code + 8
  Source source;
  int64_t rows, columns;
  int8_t* codes;  // rows × stride; padding is written too
  int64_t stride;
  int32_t* sums;
  float* scale;  // written for floats only: codes come with theirs
};

struct Kernels {
  void (*real)(const Reals& call, bool wide) noexcept;   // wide: Real is double
  void (*input)(const Input& call, bool wide) noexcept;  // of the scalar level only
  void (*quantize)(const Quantize& call) noexcept;
};

// Compiled at every level: integer dot products
struct Dots {
  void (*integer)(const Integer& call) noexcept;
};

SYLVESTER_LEVELS(Kernels)
SYLVESTER_DOT_LEVELS(Dots)

}  // namespace sylvester::lowbit_matmul
