// A row of reals as small integers and one scale: the one definition behind every int8 and int4 activation.
//
//   limit = 2^(bits-1) - 1, a = max|x| over the row, in the arithmetic type
//     some x not finite   codes 0, scale NaN: what is computed from them is NaN
//     a < 2^-100          codes 0, scale 0
//     else                codes = x · (limit / a), rounded half to even, in [-limit, limit]; scale = a / limit
//
// Rows may stand for s times themselves: codes of the sign of s, scale = s·a / limit, and s·a is held to the same.
//
//   bytes      a code a byte, int8
//   nibbles    two codes a byte, the first in the low half, as code + 8; the spare half of an odd row holds 8
//
// Count, 16 floats: a load, 1 and, 1 max for a; a load, 1 multiplication, 1 conversion and 1 shuffle (with nibbles 1.75
// operations more) for codes, which leave 64 at a time. Zen 4 at AVX-512 takes 1.1 and 1.6 cycles of at least 1
// and 1.5.
#pragma once

#include "common/codes.h"
#include "common/parts.h"
#include "common/scale.h"

namespace {

// max|x|, NaN where one is
template <class V, class T>
typename V::Real largest_of(const T* x, int64_t width) {
  Largest<V> even, odd;
  int64_t i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    even.take(load_as<V>(x + i));
    odd.take(load_as<V>(x + i + kLanes));
    even.take(load_as<V>(x + i + 2 * kLanes));
    odd.take(load_as<V>(x + i + 3 * kLanes));
  }
  for (; i + kLanes <= width; i += kLanes) even.take(load_as<V>(x + i));
  if (i < width) odd.take(load_part_as<V>(x + i, width - i));
  even.take(odd);
  return even.value();
}

// What a row is multiplied with: inverse gives codes, or all are 0 where it is 0
template <class R>
struct Steps {
  R inverse, scale;
};

// For a row, times scale, whose largest |x| is a
template <class R>
SYLVESTER_INLINE Steps<R> steps_of(R a, int limit, sylvester::Scale scale) {
  const R hi = static_cast<R>(scale.hi), lo = static_cast<R>(scale.lo), top = static_cast<R>(limit);
  const R scaled = lo == 0 ? a * hi : fused(a, hi, a * lo), largest = scaled < 0 ? -scaled : scaled;
  if (!(largest - largest == 0)) return {0, static_cast<R>(__builtin_nanf(""))};
  if (a < R{0x1p-100f} || largest < R{0x1p-100f}) return {0, 0};
  return {(hi < 0 ? -top : top) / a, largest / top};
}

// The codes of a row in bytes or nibbles
template <class V, bool kNibbles, class T>
void write_codes(const T* x, int64_t width, typename V::Real inverse, uint8_t* codes) {
  constexpr int64_t kPerByte = kNibbles ? 2 : 1;
  if (inverse == 0) [[unlikely]] {
    std::memset(codes, kNibbles ? 0x88 : 0, static_cast<size_t>((width + kPerByte - 1) / kPerByte));
    return;
  }
  const auto put = [&](uint8_t* to, const V(&v)[4]) SYLVESTER_LAMBDA {
    if constexpr (kNibbles) {
      store_nibbles(to, codes_of(v, inverse));
    } else {
      store(reinterpret_cast<int8_t*>(to), codes_of(v, inverse));
    }
  };
  V v[4];
  int64_t i = 0;
  for (; i + kCodes <= width; i += kCodes) {
    for (int r = 0; r < 4; ++r) v[r] = load_as<V>(x + i + r * kLanes);
    put(codes + i / kPerByte, v);
  }
  if (i < width) {
    for (int r = 0; r < 4; ++r) {
      const int64_t left = width - i - r * kLanes;
      v[r] = left >= kLanes ? load_as<V>(x + i + r * kLanes)
             : left > 0     ? load_part_as<V>(x + i + r * kLanes, left)
                            : zero<V>();
    }
    uint8_t rest[kCodes];
    put(rest, v);
    std::memcpy(codes + i / kPerByte, rest, static_cast<size_t>((width - i + kPerByte - 1) / kPerByte));
  }
}

// How many of `rows` are quantised together. Long runs are best in cache: half of the smallest first level. From memory
// short ones are: while codes are written nothing is read, and the fetch ahead must not come to its end.
template <class T>
SYLVESTER_INLINE int64_t rows_abreast(int64_t rows, int64_t width) {
  constexpr int64_t kSecondLevel = int64_t{1} << 20;  // bytes
  const int64_t elements = rows * width * static_cast<int64_t>(sizeof(T)) > kSecondLevel ? 1024 : 4096;
  return width > 0 && width < elements ? elements / width : 1;
}

// Codes, code_bytes a row, and scales of rows, times scale, that a near cache holds together. First the largest of
// each: a row's codes wait for its own.
template <class V, class T>
void quantize_rows(const T* x, int64_t rows, int64_t width, int limit, bool nibbles, uint8_t* codes, int64_t code_bytes,
                   typename V::Real* scales, sylvester::Scale scale = {1.0, 0.0}) {
  for (int64_t r = 0; r < rows; ++r) scales[r] = largest_of<V>(x + r * width, width);
  for (int64_t r = 0; r < rows; ++r) {
    const auto steps = steps_of(scales[r], limit, scale);
    const auto write = nibbles ? write_codes<V, true, T> : write_codes<V, false, T>;
    write(x + r * width, width, steps.inverse, codes + r * code_bytes);
    scales[r] = steps.scale;
  }
}

// A row as the integer products take it: codes in bytes, zeros from width to stride (a multiple of kCodes); returns
// the sum of the codes
template <class V, class T>
int32_t quantize_padded_row(const T* x, int64_t width, int limit, int8_t* codes, int64_t stride,
                            typename V::Real* scale) {
  quantize_rows<V>(x, 1, width, limit, false, reinterpret_cast<uint8_t*>(codes), stride, scale);
  std::memset(codes + width, 0, static_cast<size_t>(stride - width));
  return sum_of_codes<V>(codes, stride);
}

}  // namespace
