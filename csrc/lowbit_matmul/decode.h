// Weights of a unit of the layout as numbers.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/lanes.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::lowbit_matmul::coding_of;
using sylvester::lowbit_matmul::Format;
using sylvester::lowbit_matmul::kGroup;
using sylvester::lowbit_matmul::kUnitBytes;
using sylvester::lowbit_matmul::unit_columns;

// Where column l of a unit, k = 4f + j, is in the 4 bytes that a row has there
template <Format format>
struct Places {
  uint32_t shift[unit_columns(format)];    // of byte j; without trits, of field f in it
  uint32_t inverse[unit_columns(format)];  // of trits: b · inverse >> 16 is b / 3^f for every b < 243
};
template <Format format>
constexpr Places<format> places_of() {
  Places<format> places{};
  constexpr int kFields = coding_of(format).fields;
  uint32_t power = 1;
  for (int f = 0; f < kFields; ++f, power *= 3) {
    for (int j = 0; j < 4; ++j) {
      places.shift[4 * f + j] = static_cast<uint32_t>(8 * j + (format == Format::trits ? 0 : f * (8 / kFields)));
      places.inverse[4 * f + j] = power == 1 ? 65536 : 65536 / power + 1;
    }
  }
  return places;
}
template <Format format>
constexpr Places<format> kPlaces = places_of<format>();

// The weight of column l of a word of the layout. No branches and no division: loops of it become vectors.
template <Format format>
SYLVESTER_INLINE int32_t weight(uint32_t word, uint32_t shift, [[maybe_unused]] uint32_t inverse) {
  constexpr auto kCoding = coding_of(format);
  if constexpr (format == Format::trits) {
    const uint32_t byte = word >> shift & 255, size = byte & 127, last = size * 1599 >> 16;  // size / 41
    const uint32_t rest = size - 41 * last, b = 81 * last + 40 + (byte >> 7 ? 0 - rest : rest);
    const uint32_t high = b * inverse >> 16;
    return static_cast<int32_t>(high - 3 * (high * 21846 >> 16)) - 1;
  } else {
    return kCoding.mult * static_cast<int32_t>(word >> shift & (kCoding.base - 1)) - kCoding.zero;
  }
}

// w[16 l + r]: columns of 16 rows
template <Format format, class Real>
SYLVESTER_INLINE void decode_columns(const uint8_t* unit, Real* w) {
  uint32_t words[kGroup];
  std::memcpy(words, unit, kUnitBytes);
  for (int64_t l = 0; l < unit_columns(format); ++l) {
    const uint32_t shift = kPlaces<format>.shift[l], inverse = kPlaces<format>.inverse[l];
    for (int64_t r = 0; r < kGroup; ++r)
      w[l * kGroup + r] = static_cast<Real>(weight<format>(words[r], shift, inverse));
  }
}

// w[r · stride + l]: rows of 4F columns
template <Format format, class Real>
SYLVESTER_INLINE void decode_rows(const uint8_t* unit, Real* w, int64_t stride) {
  uint32_t words[kGroup];
  std::memcpy(words, unit, kUnitBytes);
  for (int64_t r = 0; r < kGroup; ++r) {
    for (int64_t l = 0; l < unit_columns(format); ++l) {
      w[r * stride + l] =
          static_cast<Real>(weight<format>(words[r], kPlaces<format>.shift[l], kPlaces<format>.inverse[l]));
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
