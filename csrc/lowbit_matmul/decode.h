// Weights of a unit of the layout as numbers.
#pragma once

#include <cstdint>

#include "common/lanes.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::lowbit_matmul::coding_of;
using sylvester::lowbit_matmul::Format;
using sylvester::lowbit_matmul::kGroup;
using sylvester::lowbit_matmul::kUnitBytes;

// Field f of a byte of the layout
template <Format format>
SYLVESTER_INLINE int field(uint8_t byte, int f) {
  constexpr int kPowers[] = {1, 3, 9, 27, 81};
  if constexpr (format == Format::trits) return sylvester::lowbit_matmul::trits_of_layout(byte) / kPowers[f] % 3;
  constexpr int kBits = 8 / coding_of(format).fields;
  return byte >> (f * kBits) & (coding_of(format).base - 1);
}

// w[k · k_step + r · r_step] of the unit's 4F columns and 16 rows
template <Format format, class Real>
SYLVESTER_INLINE void decode_unit(const uint8_t* unit, Real* w, int64_t k_step, int64_t r_step) {
  constexpr auto kCoding = coding_of(format);
  for (int f = 0; f < kCoding.fields; ++f) {
    for (int64_t i = 0; i < kUnitBytes; ++i) {
      const int value = kCoding.mult * field<format>(unit[i], f) - kCoding.zero;
      w[(4 * f + i % 4) * k_step + i / 4 * r_step] = static_cast<Real>(value);
    }
  }
}

// body.template run<format>() of the format at hand
template <class Body>
SYLVESTER_INLINE void with_format(Format format, const Body& body) {
  switch (format) {
    case Format::binary: return body.template run<Format::binary>();
    case Format::ternary: return body.template run<Format::ternary>();
    case Format::trits: return body.template run<Format::trits>();
    case Format::int2: return body.template run<Format::int2>();
    case Format::int4: return body.template run<Format::int4>();
    case Format::int8: return body.template run<Format::int8>();
  }
}

}  // namespace
