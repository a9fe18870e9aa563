// Rows of int8 codes to rows of storage and back.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "lowbit_matmul/encoding.h"
#include "lowbit_matmul/with_format.h"

namespace sylvester::lowbit_matmul {
constexpr int64_t kChunk = 2560;  // codes at a time: whole bytes of every format that stay in the first-level cache

// The fields of every byte as codes. A byte that is no five trits has codes that no alphabet has.
using Table = std::array<std::array<int8_t, 8>, 256>;
constexpr Table table_of(Format format) {
  Table table{};
  const Coding coding = coding_of(format);
  for (int byte = 0; byte < 256; ++byte) {
    for (int f = 0, rest = byte; f < coding.fields; ++f, rest /= coding.base) {
      const int u = format == Format::trits && byte >= 243 ? 3 : rest % coding.base;
      table[byte][f] = static_cast<int8_t>(coding.mult * u - coding.zero);
    }
  }
  return table;
}
template <Format format>
constexpr Table kTable = table_of(format);

// u of what fills up the last byte of a packed row: of code 0, or of -1 where there is no 0
constexpr uint8_t padding_of(Format format) {
  return format == Format::binary ? 0 : static_cast<uint8_t>(coding_of(format).zero);
}

inline bool inside(const Encoding& e, int8_t code) {
  return e.format == Format::binary ? code == 1 || code == -1 : code >= e.lowest && code <= e.highest;
}

inline bool all_inside(const Encoding& e, const int8_t* codes, int64_t count) {
  uint8_t bad = 0;
  const uint8_t lowest = static_cast<uint8_t>(e.lowest), span = static_cast<uint8_t>(e.highest - e.lowest);
  if (e.format == Format::binary) {
    for (int64_t k = 0; k < count; ++k) bad |= static_cast<uint8_t>(codes[k] + 1) & 0xFD;
  } else {
    for (int64_t k = 0; k < count; ++k) bad |= static_cast<uint8_t>(codes[k] - lowest) > span;
  }
  return bad == 0;
}

inline void to_fields(Format format, const int8_t* codes, int64_t count, uint8_t* u) {
  const Coding coding = coding_of(format);
  const int shift = coding.mult - 1;
  for (int64_t k = 0; k < count; ++k)
    u[k] = static_cast<uint8_t>(static_cast<uint8_t>(codes[k] + coding.zero) >> shift);
}

// A byte from its fields. A product moves bit 8f of the word to field f of the top byte; no two bits meet.
template <Format format>
uint8_t joined(const uint8_t* u) {
  if constexpr (format == Format::binary) {
    uint64_t word;
    std::memcpy(&word, u, 8);
    return static_cast<uint8_t>(word * 0x0102040810204080 >> 56);
  } else if constexpr (format == Format::trits) {
    return static_cast<uint8_t>(u[0] + 3 * u[1] + 9 * u[2] + 27 * u[3] + 81 * u[4]);
  } else if constexpr (format == Format::int4) {
    return static_cast<uint8_t>(u[0] | u[1] << 4);
  } else if constexpr (format == Format::int8) {
    return u[0];
  } else {
    uint32_t word;
    std::memcpy(&word, u, 4);
    return static_cast<uint8_t>(word * 0x01041040 >> 24);
  }
}

struct PackRow {
  const int8_t* codes;
  int64_t columns;
  uint8_t* to;

  template <Format format>
  void run() const {
    constexpr int kFields = coding_of(format).fields;
    if constexpr (kFields == 1) return to_fields(format, codes, columns, to);
    uint8_t u[kChunk + 8];
    for (int64_t k = 0; k < columns; k += kChunk) {
      const int64_t count = std::min(kChunk, columns - k), bytes = packed_bytes(format, count);
      to_fields(format, codes + k, count, u);
      std::fill(u + count, u + count + 8, padding_of(format));
      uint8_t* const out = to + k / kFields;
      for (int64_t i = 0; i < bytes; ++i) out[i] = joined<format>(u + i * kFields);
    }
  }
};

struct UnpackRow {
  const uint8_t* packed;
  int64_t columns;
  int8_t* to;
  bool& padded;  // whether what fills up the last byte is what pack() writes there

  template <Format format>
  void run() const {
    constexpr Coding kCoding = coding_of(format);
    constexpr int kFields = kCoding.fields;
    int64_t k = 0;
    if constexpr (kFields <= 2) {  // the compiler's vectors do better than a table's entries of one byte
      for (int64_t i = 0; i < columns / kFields; ++i) {
        for (int f = 0; f < kFields; ++f) {
          to[i * kFields + f] = static_cast<int8_t>((packed[i] >> 8 / kFields * f) % kCoding.base - kCoding.zero);
        }
      }
      k = columns / kFields * kFields;
    }
    for (; k + 8 <= columns; k += kFields) std::memcpy(to + k, kTable<format>[packed[k / kFields]].data(), 8);
    for (; k < columns; k += kFields) {
      const auto& codes = kTable<format>[packed[k / kFields]];
      for (int f = 0; f < kFields && k + f < columns; ++f) to[k + f] = codes[f];
    }
    constexpr int kPadding = kCoding.mult * padding_of(format) - kCoding.zero;
    for (int64_t f = columns - (k - kFields); f < kFields && columns > 0; ++f) {
      padded &= kTable<format>[packed[(columns - 1) / kFields]][f] == kPadding;
    }
  }
};

// False when a code, or what fills up the last byte, is not what pack() writes
inline bool unpack_row(const Encoding& e, const uint8_t* from, int64_t columns, int8_t* to) {
  bool padded = true;
  with_format(e.format, UnpackRow{from, columns, to, padded});
  return all_inside(e, to, columns) && padded;
}

}  // namespace sylvester::lowbit_matmul
