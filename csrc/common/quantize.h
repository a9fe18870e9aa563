// A row of reals as small integers and one scale: the one definition behind every int8 and int4 activation.
//
//   limit = 2^(bits-1) - 1, a = max|x| over the row, in the arithmetic type
//     some x not finite   codes 0, scale NaN: what is computed from them is NaN
//     a < 2^-100          codes 0, scale 0
//     else                codes = x · (limit / a), rounded half to even, in [-limit, limit]; scale = a / limit
//
//   bytes      a code a byte, int8
//   nibbles    two codes a byte, the first in the low half, as code + 8; the spare half of an odd row holds 8
//
// Count, a vector of 16 floats: 1 and, 1 max and a load for a; a load, 1 multiplication, 1 conversion and 1 shuffle for
// codes, which leave 64 at a time. The row is read twice and is meant to lie in a near cache the second time.
#pragma once

#include "common/codes.h"
#include "common/convert.h"

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
  const auto a = even.value(), b = odd.value();
  return a > b || a != a ? a : b;
}

// The row's codes, in bytes or nibbles, and its scale
template <class V, bool kNibbles, class T>
void quantize_row(const T* x, int64_t width, int limit, uint8_t* codes, typename V::Real* scale) {
  using Real = typename V::Real;
  const Real a = largest_of<V>(x, width), top = static_cast<Real>(limit);
  const bool finite = a - a == 0;
  if (!finite || a < Real{0x1p-100f}) {
    std::memset(codes, kNibbles ? 0x88 : 0, static_cast<size_t>(kNibbles ? (width + 1) / 2 : width));
    *scale = finite ? Real{0} : static_cast<Real>(__builtin_nanf(""));
    return;
  }
  const Real inverse = top / a;
  *scale = a / top;
  const auto put = [&](uint8_t* to, const V(&v)[4]) SYLVESTER_LAMBDA {
    if constexpr (kNibbles) {
      store_nibbles(to, codes_of(v, inverse));
    } else {
      store(reinterpret_cast<int8_t*>(to), codes_of(v, inverse));
    }
  };
  constexpr int64_t kPerByte = kNibbles ? 2 : 1;
  V v[4];
  int64_t i = 0;
  for (; i + kCodes <= width; i += kCodes) {
    for (int r = 0; r < 4; ++r) v[r] = load_as<V>(x + i + r * kLanes);
    put(codes + i / kPerByte, v);
  }
  if (i == width) return;
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

// A row as the integer products take it: codes in bytes, zeros from width to stride (a multiple of kCodes); returns
// the sum of the codes
template <class V, class T>
int32_t quantize_padded_row(const T* x, int64_t width, int limit, int8_t* codes, int64_t stride,
                            typename V::Real* scale) {
  quantize_row<V, false>(x, width, limit, reinterpret_cast<uint8_t*>(codes), scale);
  std::memset(codes + width, 0, static_cast<size_t>(stride - width));
  return sum_of_codes<V>(codes, stride);
}

}  // namespace
