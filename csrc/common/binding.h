// The only header that includes torch (its stable ABI). Checks and allocation for the operators' <op>.cpp files.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <new>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>

#include "common/half.h"
#include "common/pages.h"

namespace sylvester {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::span<const int64_t>;

// std::invalid_argument arrives in Python as a plain ValueError, without file or function.
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}
#define SYLVESTER_CHECK(condition, ...) \
  if (!(condition)) [[unlikely]] \
  ::sylvester::fail(__VA_ARGS__)

inline Shape sizes(const Tensor& t) {
  const auto s = t.sizes();
  return {s.data(), s.size()};
}

inline std::string shape_text(Shape shape) {
  std::ostringstream text;
  text << '(';
  for (size_t i = 0; i < shape.size(); ++i) text << (i ? ", " : "") << shape[i];
  text << (shape.size() == 1 ? ",)" : ")");
  return text.str();
}

inline void check_shape(const char* op, const char* name, const Tensor& t, std::initializer_list<int64_t> want) {
  const Shape expected{want.begin(), want.size()}, got = sizes(t);
  SYLVESTER_CHECK(std::equal(got.begin(), got.end(), expected.begin(), expected.end()), op, ": ", name,
                  " must have shape ", shape_text(expected), ", got ", shape_text(got));
}

inline bool is_float(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half ||
         type == ScalarType::Double;
}

inline Dtype dtype_of(const char* op, const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Dtype::float32;
    case ScalarType::BFloat16: return Dtype::bfloat16;
    case ScalarType::Half: return Dtype::float16;
    case ScalarType::Double: return Dtype::float64;
    default: fail(op, ": ", name, " must be float32, bfloat16, float16 or float64");
  }
}

inline void check_cpu(const char* op, const char* name, const Tensor& t) {
  SYLVESTER_CHECK(t.is_cpu(), op, ": ", name, " must be on the CPU, as the first argument is");
}

constexpr int64_t kLargestBlock = int64_t{1} << 20;

inline void check_block(const char* op, int64_t width, int64_t block, int64_t largest) {
  SYLVESTER_CHECK(block >= 1 && block <= largest && (block & (block - 1)) == 0, op,
                  ": block_size must be a power of two from 1 to ", largest, ", got ", block);
  SYLVESTER_CHECK(width % block == 0, op, ": block_size ", block, " does not divide the width ", width);
}

inline Tensor packed(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

// A vector of one number a column in the arithmetic type of dtype, or none
inline std::optional<Tensor> row_vector(const char* op, const char* name, const std::optional<Tensor>& vector,
                                        int64_t width, Dtype dtype) {
  if (!vector) return std::nullopt;
  check_cpu(op, name, *vector);
  check_shape(op, name, *vector, {width});
  const bool wide = dtype == Dtype::float64;
  SYLVESTER_CHECK(vector->scalar_type() == (wide ? ScalarType::Double : ScalarType::Float), op, ": ", name,
                  wide ? " must be float64, as x is" : " must be float32");
  return packed(*vector);
}

// Uninitialised; every caller writes all of it. Large ones are put on huge pages before first touch: fresh 4 KiB pages
// cost more than the kernels that fill them. elements: from the first to the last.
inline Tensor empty_strided(Shape shape, Shape strides, int64_t elements, ScalarType type) {
  AtenTensorHandle handle;
  const int32_t code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  const int32_t cpu = aoti_torch_device_type_cpu();
  const int64_t rank = static_cast<int64_t>(shape.size());
  if (aoti_torch_empty_strided(rank, shape.data(), strides.data(), code, cpu, 0, &handle) != 0) throw std::bad_alloc();
  Tensor t(handle);
  if (elements >= kHugePageFloor) advise_huge_pages(t.data_ptr(), static_cast<size_t>(elements) * t.element_size());
  return t;
}

constexpr size_t kMostDimensions = 64;  // torch's own limit

// The same, contiguous
inline Tensor empty(Shape shape, ScalarType type) {
  int64_t strides[kMostDimensions], count = 1;
  SYLVESTER_CHECK(shape.size() <= kMostDimensions, "more than ", kMostDimensions, " dimensions");
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = count;
    count *= shape[i] > 1 ? shape[i] : 1;
  }
  return empty_strided(shape, {strides, shape.size()}, count, type);
}
inline Tensor empty(std::initializer_list<int64_t> shape, ScalarType type) {
  return empty(Shape{shape.begin(), shape.size()}, type);
}

}  // namespace sylvester
