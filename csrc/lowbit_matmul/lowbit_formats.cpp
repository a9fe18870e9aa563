// The operators of the storage formats, and of the layout that is derived from them once.
#include <atomic>
#include <vector>

#include "common/binding.h"
#include "common/thread.h"
#include "lowbit_matmul/storage.h"

namespace sylvester::lowbit_matmul {
namespace {

// The first row that something is wrong with, found by several threads
struct FirstBad {
  std::atomic<int64_t> row{INT64_MAX};
  void report(int64_t found) {
    int64_t before = row.load();
    while (found < before && !row.compare_exchange_weak(before, found)) {
    }
  }
  bool any() const { return row.load() != INT64_MAX; }
};

[[noreturn]] void refuse(const char* op, const char* name, const Encoding& e, const int8_t* codes, int64_t columns,
                         int64_t row) {
  for (int64_t k = 0; k < columns; ++k) {
    if (inside(e, codes[k])) continue;
    if (e.format == Format::binary) {
      fail(op, ": ", name, " must hold -1 and 1, got ", int{codes[k]}, " in row ", row, " at ", k);
    }
    fail(op, ": ", name, " must hold ", e.name, " codes from ", e.lowest, " to ", e.highest, ", got ", int{codes[k]},
         " in row ", row, " at ", k);
  }
  fail(op, ": ", name, " ends row ", row, " with other bits than the padding of ", e.name);
}

struct Rows {
  std::vector<int64_t> shape;  // of the codes
  int64_t rows, columns;
};
Rows rows_of(const char* op, const char* name, const Tensor& t, ScalarType type, const char* type_name) {
  SYLVESTER_CHECK(t.scalar_type() == type, op, ": ", name, " must be ", type_name);
  SYLVESTER_CHECK(t.dim() >= 1, op, ": ", name, " must have at least one dimension");
  Rows r{{sizes(t).begin(), sizes(t).end()}, 1, t.size(-1)};
  for (size_t i = 0; i + 1 < r.shape.size(); ++i) r.rows *= r.shape[i];
  return r;
}

void check_bytes(const char* op, const Encoding& e, int64_t bytes, int64_t columns) {
  SYLVESTER_CHECK(columns >= 0, op, ": in_features must not be negative, got ", columns);
  SYLVESTER_CHECK(bytes == packed_bytes(e.format, columns), op, ": packed must have ", packed_bytes(e.format, columns),
                  " bytes a row for ", columns, " ", e.name, " codes, got ", bytes);
}

Tensor pack(const Tensor& codes, int64_t encoding) {
  constexpr const char* kOp = "lowbit_pack";
  const Encoding e = encoding_of(kOp, encoding);
  Rows r = rows_of(kOp, "codes", codes, ScalarType::Char, "int8");
  const int64_t bytes = packed_bytes(e.format, r.columns);
  r.shape.back() = bytes;
  const Tensor dense = packed(codes), out = empty(r.shape, ScalarType::Byte);
  const auto* from = static_cast<const int8_t*>(dense.data_ptr());
  auto* to = static_cast<uint8_t*>(out.data_ptr());
  FirstBad bad;
  parallel(r.rows, r.columns / 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!all_inside(e, from + i * r.columns, r.columns)) bad.report(i);
      with_format(e.format, PackRow{from + i * r.columns, r.columns, to + i * bytes});
    }
  });
  if (bad.any()) refuse(kOp, "codes", e, from + bad.row * r.columns, r.columns, bad.row);
  return out;
}

Tensor unpack(const Tensor& from, int64_t encoding, int64_t columns) {
  constexpr const char* kOp = "lowbit_unpack";
  const Encoding e = encoding_of(kOp, encoding);
  Rows r = rows_of(kOp, "packed", from, ScalarType::Byte, "uint8");
  const int64_t bytes = r.columns;
  check_bytes(kOp, e, bytes, columns);
  r.shape.back() = columns;
  const Tensor dense = packed(from), out = empty(r.shape, ScalarType::Char);
  const auto* data = static_cast<const uint8_t*>(dense.data_ptr());
  auto* to = static_cast<int8_t*>(out.data_ptr());
  FirstBad bad;
  parallel(r.rows, columns / 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!unpack_row(e, data + i * bytes, columns, to + i * columns)) bad.report(i);
    }
  });
  if (bad.any()) refuse(kOp, "packed", e, to + bad.row * columns, columns, bad.row);
  return out;
}

// Fields of 16 rows, padded to whole units, to one group of the layout
struct LayGroup {
  const uint8_t* u;
  int64_t units;
  uint8_t* to;

  template <Format format>
  void run() const {
    constexpr Coding kCoding = coding_of(format);
    constexpr int64_t kColumns = unit_columns(format);
    for (int64_t i = 0; i < units; ++i) {
      for (int64_t r = 0; r < kGroup; ++r) {
        const uint8_t* from = u + r * units * kColumns + i * kColumns;
        uint32_t quad = 0, place = 1;
#pragma GCC unroll 8
        for (int f = 0; f < kCoding.fields; ++f, place *= kCoding.base) {
          uint32_t fields;
          std::memcpy(&fields, from + 4 * f, 4);
          quad += fields * place;  // no byte passes 255
        }
        if constexpr (format == Format::trits) {
          uint8_t bytes[4];
          std::memcpy(bytes, &quad, 4);
          for (uint8_t& byte : bytes) byte = trits_to_layout(byte);
          std::memcpy(&quad, bytes, 4);
        }
        std::memcpy(to + i * kUnitBytes + 4 * r, &quad, 4);
      }
    }
  }
};

struct Layout {
  Encoding encoding;
  int64_t rows, columns, units;
  Tensor tensor;

  Layout(const Encoding& e, int64_t n, int64_t k)
      : encoding(e),
        rows(n),
        columns(k),
        units(unit_count(e.format, k)),
        tensor(empty({group_count(n), units, kUnitBytes}, ScalarType::Byte)) {}

  // row(n, to) writes the codes of row n and says whether they are right. Returns the first row that is not, or N.
  template <class Row>
  int64_t fill(const Row& row) const {
    const int64_t stride = units * unit_columns(encoding.format);
    FirstBad bad;
    auto* to = static_cast<uint8_t*>(tensor.data_ptr());
    const int64_t bytes = (kGroup + 1) * stride;
    parallel_with_scratch<uint8_t>(
        group_count(rows), kGroup * columns / 8, bytes, [&](int64_t begin, int64_t end, uint8_t* u) {
          int8_t* codes = reinterpret_cast<int8_t*>(u + kGroup * stride);
          for (int64_t group = begin; group < end; ++group) {
            std::fill(u, u + kGroup * stride, uint8_t{0});
            for (int64_t r = 0; r < kGroup && group * kGroup + r < rows; ++r) {
              if (!row(group * kGroup + r, codes)) bad.report(group * kGroup + r);
              to_fields(encoding.format, codes, columns, u + r * stride);
            }
            with_format(encoding.format, LayGroup{u, units, to + group * units * kUnitBytes});
          }
        });
    return bad.any() ? bad.row.load() : rows;
  }
};

Tensor layout(const Tensor& from, int64_t encoding, int64_t columns) {
  constexpr const char* kOp = "lowbit_layout";
  const Encoding e = encoding_of(kOp, encoding);
  const Rows r = rows_of(kOp, "packed", from, ScalarType::Byte, "uint8");
  SYLVESTER_CHECK(from.dim() == 2, kOp, ": packed must have shape (N, bytes), got ", shape_text(sizes(from)));
  check_bytes(kOp, e, r.columns, columns);
  const Tensor dense = packed(from);
  const auto* data = static_cast<const uint8_t*>(dense.data_ptr());
  const Layout out(e, r.rows, columns);
  const int64_t bad =
      out.fill([&](int64_t n, int8_t* codes) { return unpack_row(e, data + n * r.columns, columns, codes); });
  if (bad < r.rows) {
    std::vector<int8_t> codes(static_cast<size_t>(columns));
    unpack_row(e, data + bad * r.columns, columns, codes.data());
    refuse(kOp, "packed", e, codes.data(), columns, bad);
  }
  return out.tensor;
}

Tensor layout_codes(const Tensor& codes, int64_t encoding) {
  constexpr const char* kOp = "lowbit_layout_codes";
  const Encoding e = encoding_of(kOp, encoding);
  const Rows r = rows_of(kOp, "codes", codes, ScalarType::Char, "int8");
  SYLVESTER_CHECK(codes.dim() == 2, kOp, ": codes must have shape (N, K), got ", shape_text(sizes(codes)));
  const Tensor dense = packed(codes);
  const auto* from = static_cast<const int8_t*>(dense.data_ptr());
  const Layout out(e, r.rows, r.columns);
  const int64_t bad = out.fill([&](int64_t n, int8_t* to) {
    std::copy_n(from + n * r.columns, r.columns, to);
    return all_inside(e, to, r.columns);
  });
  if (bad < r.rows) refuse(kOp, "codes", e, from + bad * r.columns, r.columns, bad);
  return out.tensor;
}

}  // namespace
}  // namespace sylvester::lowbit_matmul

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def("lowbit_pack(Tensor codes, int encoding) -> Tensor");
  m.def("lowbit_unpack(Tensor packed, int encoding, SymInt in_features) -> Tensor");
  m.def("lowbit_layout(Tensor packed, int encoding, SymInt in_features) -> Tensor");
  m.def("lowbit_layout_codes(Tensor codes, int encoding) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("lowbit_pack", TORCH_BOX(&sylvester::lowbit_matmul::pack));
  m.impl("lowbit_unpack", TORCH_BOX(&sylvester::lowbit_matmul::unpack));
  m.impl("lowbit_layout", TORCH_BOX(&sylvester::lowbit_matmul::layout));
  m.impl("lowbit_layout_codes", TORCH_BOX(&sylvester::lowbit_matmul::layout_codes));
}
