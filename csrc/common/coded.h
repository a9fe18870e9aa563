// The two results of operators that return codes: the codes of every row and its scale.
#pragma once

#include "common/binding.h"

namespace sylvester {

struct Coded {
  int limit;  // the largest code
  bool nibbles;
  int64_t rows, width, code_bytes;
  Tensor codes, scales;
};

// For rows of x; as_nibbles takes codes of up to 4 bits.
inline Coded coded(const char* op, const Tensor& x, int64_t bits, bool as_nibbles) {
  SYLVESTER_CHECK(x.dim() >= 1, op, ": x must have at least one dimension");
  SYLVESTER_CHECK(bits >= 2 && bits <= (as_nibbles ? 4 : 8), op, ": bits must be 2 to ", as_nibbles ? 4 : 8, ", got ",
                  bits);
  const Dtype dtype = dtype_of(op, "x", x);
  const Shape shape = sizes(x), lead = shape.first(shape.size() - 1);
  const int64_t width = shape.back(), bytes = as_nibbles ? (width + 1) / 2 : width;
  int64_t rows = 1, code_shape[kMostDimensions];
  SYLVESTER_CHECK(shape.size() <= kMostDimensions, op, ": x has more than ", kMostDimensions, " dimensions");
  for (size_t i = 0; i < lead.size(); ++i) rows *= code_shape[i] = lead[i];
  code_shape[lead.size()] = bytes;
  return {(1 << (bits - 1)) - 1,
          as_nibbles,
          rows,
          width,
          bytes,
          empty(Shape{code_shape, shape.size()}, as_nibbles ? ScalarType::Byte : ScalarType::Char),
          empty(lead, dtype == Dtype::float64 ? ScalarType::Double : ScalarType::Float)};
}

}  // namespace sylvester
