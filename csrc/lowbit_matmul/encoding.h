// The encodings of the operators: a kernel format and the codes that may stand in it.
#pragma once

#include "common/binding.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace sylvester::lowbit_matmul {

// 0 binary · 1 ternary, 2 bits · 2 to 8 int-n of that many bits, stored in 2, 4 or 8 · 9 ternary, five trits a byte
struct Encoding {
  const char* name;
  Format format;
  int lowest, highest;  // codes; binary has no 0
};

inline Encoding encoding_of(const char* op, int64_t code) {
  SYLVESTER_CHECK(code >= 0 && code <= 9, op,
                  ": encoding must be 0 (binary), 1 (ternary), 2 to 8 (int-n) or 9 (trits), ", "got ", code);
  if (code == 0) return {"binary", Format::binary, -1, 1};
  if (code == 1) return {"ternary", Format::ternary, -1, 1};
  if (code == 9) return {"trits", Format::trits, -1, 1};
  constexpr const char* kNames[] = {"", "", "int2", "int3", "int4", "int5", "int6", "int7", "int8"};
  const int half = 1 << (code - 1);
  return {kNames[code], code == 2 ? Format::int2 : code <= 4 ? Format::int4 : Format::int8, -half, half - 1};
}

// Bytes of a row of K codes in storage
constexpr int64_t packed_bytes(Format format, int64_t columns) {
  return (columns + coding_of(format).fields - 1) / coding_of(format).fields;
}

}  // namespace sylvester::lowbit_matmul
