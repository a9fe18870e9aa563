#include "lowbit_matmul/lowbit_matmul.h"

#include <algorithm>
#include <vector>

#include "common/binding.h"
#include "common/thread.h"
#include "lowbit_matmul/encoding.h"

namespace sylvester::lowbit_matmul {
namespace {

constexpr const char* kOp = "lowbit_matmul";
constexpr const char* kInput = "lowbit_matmul_input";
constexpr int64_t kTileRows = 32;  // of x, where the groups of W are too few to share

// The float type that goes with Real
ScalarType real_type(bool wide) { return wide ? ScalarType::Double : ScalarType::Float; }

// Contiguous, in Real
Tensor widened(const Tensor& t, bool wide) {
  const ScalarType type = real_type(wide);
  return packed(t.scalar_type() == type ? t : torch::stable::to(t, type));
}

struct Matrix {
  Format format;
  Tensor layout, scale;
  std::optional<Tensor> bias;
  int64_t rows, columns, units;
};

void check_vector(const char* op, const char* name, const Tensor& t, int64_t rows, bool wide, bool scalar_too) {
  check_cpu(op, name, t);
  SYLVESTER_CHECK((scalar_too && t.dim() == 0) || (t.dim() == 1 && t.size(0) == rows), op, ": ", name,
                  " must have shape ", scalar_too ? "() or " : "", "(", rows, ",), got ", shape_text(sizes(t)));
  SYLVESTER_CHECK(t.scalar_type() == real_type(wide), op, ": ", name, wide ? " must be float64" : " must be float32");
}

Matrix bind_weights(const char* op, const Tensor& layout, const Tensor& scale, const std::optional<Tensor>& bias,
                    int64_t encoding, int64_t rows, int64_t columns, bool wide) {
  const Format format = encoding_of(op, encoding).format;
  SYLVESTER_CHECK(rows >= 0 && columns >= 0, op, ": out_features and in_features must not be negative, got ", rows,
                  " and ", columns);
  const int64_t units = unit_count(format, columns);
  check_cpu(op, "layout", layout);
  check_shape(op, "layout", layout, {group_count(rows), units, kUnitBytes});
  SYLVESTER_CHECK(layout.scalar_type() == ScalarType::Byte, op, ": layout must be uint8");
  check_vector(op, "scale", scale, rows, wide, true);
  if (bias) check_vector(op, "bias", *bias, rows, wide, false);
  std::optional<Tensor> dense_bias;
  if (bias) dense_bias = packed(*bias);
  return {format, packed(layout), packed(scale), dense_bias, rows, columns, units};
}

Weights weights(const Matrix& w) {
  return {static_cast<const uint8_t*>(w.layout.data_ptr()),
          w.format,
          w.units,
          w.rows,
          w.scale.data_ptr(),
          w.scale.dim() == 1,
          w.bias ? w.bias->data_ptr() : nullptr};
}

// body(first row of x, rows, first group, groups' end, scratch of one range): groups are shared first, because whoever
// has a group decodes it once; rows where those are more. Every output is one sum, so no split can be seen in the bits.
template <class Element, class Body>
void over_tiles(int64_t rows, int64_t groups, int64_t cost, int64_t elements, const Body& body) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  if (groups >= tiles) {
    return parallel_with_scratch<Element>(
        groups, rows * cost, elements,
        [&](int64_t begin, int64_t end, Element* work) { body(0, rows, begin, end, work); });
  }
  parallel_with_scratch<Element>(tiles, kTileRows * groups * cost, elements,
                                 [&](int64_t begin, int64_t end, Element* work) {
                                   const int64_t first = begin * kTileRows;
                                   body(first, std::min(end * kTileRows, rows) - first, 0, groups, work);
                                 });
}

Source source_of(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return Source::float32;
    case ScalarType::BFloat16: return Source::bfloat16;
    case ScalarType::Half: return Source::float16;
    case ScalarType::Char: return Source::int8;
    default: return Source::int4;
  }
}

void multiply_codes(const Tensor& x, const std::optional<Tensor>& x_scale, const Matrix& w, const Tensor& y,
                    int64_t rows) {
  const Kernels& kernels = levels.select(Dtype::float32);
  SYLVESTER_CHECK(w.columns <= most_columns(w.format), kOp, ": x must have at most ", most_columns(w.format),
                  " columns, whose sums fit int32, got ", w.columns);
  const int64_t stride = code_stride(w.format, w.columns);
  const Scratch<int8_t> codes = scratch<int8_t>(rows * stride);
  const Scratch<int32_t> sums = scratch<int32_t>(rows);
  const Scratch<float> own_scale = scratch<float>(x_scale ? 0 : rows);
  const Source source = source_of(x.scalar_type());
  const char* from = static_cast<const char*>(x.data_ptr());
  const int64_t row_bytes = source == Source::int4 ? w.columns / 2 : w.columns * x.element_size();
  parallel(rows, w.columns, [&](int64_t begin, int64_t end) {
    kernels.quantize({from + begin * row_bytes, source, end - begin, w.columns, codes.get() + begin * stride, stride,
                      sums.get() + begin, own_scale.get() + begin});
  });
  const Dots& dots = dot_levels.select(Dtype::float32);  // after the rows: the level that ran is the products'
  const float* scale = x_scale ? static_cast<const float*>(x_scale->data_ptr()) : own_scale.get();
  const Dtype dtype = dtype_of(kOp, "y", y);
  char* to = static_cast<char*>(y.data_ptr());
  over_tiles<char>(
      rows, group_count(w.rows), w.columns, kIntegerWork,
      [&](int64_t first, int64_t count, int64_t begin, int64_t end, char* work) {
        const Codes part{codes.get() + first * stride, stride, sums.get() + first, scale + first, count};
        dots.integer({part, weights(w), to + first * w.rows * size_of(dtype), w.rows, dtype, begin, end, work});
      });
}

template <class Real>
void multiply_floats(const Tensor& x, const Matrix& w, const Tensor& y, int64_t rows) {
  const bool wide = sizeof(Real) == 8;
  const Kernels& kernels = levels.select(wide ? Dtype::float64 : Dtype::float32);
  const Tensor real = widened(x, wide);
  const Real* from = static_cast<const Real*>(real.data_ptr());
  const Dtype dtype = dtype_of(kOp, "y", y);
  char* to = static_cast<char*>(y.data_ptr());
  over_tiles<Real>(rows, group_count(w.rows), 2 * w.columns, kRealWork,
                   [&](int64_t first, int64_t count, int64_t begin, int64_t end, Real* work) {
                     for (int64_t m = first; m < first + count; m += kRealRows) {
                       kernels.real({from + m * w.columns, std::min(kRealRows, first + count - m), w.columns,
                                     weights(w), to + m * w.rows * size_of(dtype), w.rows, dtype, begin, end, work},
                                    wide);
                     }
                   });
}

// one_less: the last byte of packed codes may hold one
void check_latent(const Tensor& latent, const Matrix& w, bool one_less) {
  check_cpu(kOp, "latent", latent);
  one_less &= latent.dim() == 2 && latent.size(1) == w.columns - 1;
  check_shape(kOp, "latent", latent, {w.rows, w.columns - one_less});
  dtype_of(kOp, "latent", latent);
}

Tensor multiply(const Tensor& x, const std::optional<Tensor>& x_scale, const Tensor& layout, const Tensor& scale,
                const std::optional<Tensor>& bias, const std::optional<Tensor>& latent, int64_t encoding,
                int64_t out_features, bool exact) {
  SYLVESTER_CHECK(x.dim() >= 1, kOp, ": x must have at least one dimension");
  const ScalarType type = x.scalar_type();
  const bool codes = type == ScalarType::Char || type == ScalarType::Byte, wide = type == ScalarType::Double;
  SYLVESTER_CHECK(codes || is_float(type), kOp,
                  ": x must be float32, bfloat16, float16, float64, int8 or uint8 (two int4 codes a byte)");
  SYLVESTER_CHECK(codes == x_scale.has_value(), kOp, ": x_scale must be given with codes, and only with them");
  SYLVESTER_CHECK(!wide || exact, kOp, ": float64 is not quantised, only multiplied exactly");
  const int64_t columns = x.size(-1) * (type == ScalarType::Byte ? 2 : 1);
  const Matrix w = bind_weights(kOp, layout, scale, bias, encoding, out_features, columns, wide);
  if (latent) check_latent(*latent, w, type == ScalarType::Byte);
  std::vector<int64_t> shape(sizes(x).begin(), sizes(x).end());
  shape.pop_back();
  int64_t rows = 1;
  for (const int64_t size : shape) rows *= size;
  std::optional<Tensor> row_scale;
  if (x_scale) {
    check_cpu(kOp, "x_scale", *x_scale);
    SYLVESTER_CHECK(std::equal(shape.begin(), shape.end(), sizes(*x_scale).begin(), sizes(*x_scale).end()), kOp,
                    ": x_scale must have shape ", shape_text(shape), ", got ", shape_text(sizes(*x_scale)));
    SYLVESTER_CHECK(x_scale->scalar_type() == ScalarType::Float, kOp, ": x_scale must be float32");
    row_scale = packed(*x_scale);
  }
  shape.push_back(out_features);
  const Tensor y = empty(shape, codes ? ScalarType::Float : type);
  if (rows == 0 || out_features == 0) return y;
  const Tensor dense = packed(x);
  if (codes || !exact) {
    multiply_codes(dense, row_scale, w, y, rows);
  } else {
    wide ? multiply_floats<double>(dense, w, y, rows) : multiply_floats<float>(dense, w, y, rows);
  }
  return y;
}

// grad · scale, each row padded with zeros to whole groups
template <class Real>
Scratch<Real> scaled(const Tensor& grad, const Matrix& w, int64_t rows) {
  const int64_t stride = group_count(w.rows) * kGroup;
  Scratch<Real> out = scratch<Real>(rows * stride);
  const Real* from = static_cast<const Real*>(grad.data_ptr());
  const Real* scale = static_cast<const Real*>(w.scale.data_ptr());
  const int64_t step = w.scale.dim();
  parallel(rows, w.rows, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      Real* row = out.get() + m * stride;
      for (int64_t n = 0; n < w.rows; ++n) row[n] = from[m * w.rows + n] * scale[n * step];
      std::fill(row + w.rows, row + stride, Real{0});
    }
  });
  return out;
}

template <class Real>
void run_input(const Tensor& grad, const Matrix& w, const Tensor& dx, int64_t rows) {
  const bool wide = sizeof(Real) == 8;
  const Kernels& kernels = levels.select(wide ? Dtype::float64 : Dtype::float32);
  const Scratch<Real> factors = scaled<Real>(widened(grad, wide), w, rows);
  const int64_t panels = (w.columns + kPanel - 1) / kPanel, tiles = (rows + kPanelRows - 1) / kPanelRows;
  const int64_t stride = group_count(w.rows) * kGroup;
  const Dtype dtype = dtype_of(kInput, "grad", dx);
  char* to = static_cast<char*>(dx.data_ptr());
  const auto run = [&](int64_t begin, int64_t end, Real* work) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i / panels * kPanelRows;
      kernels.input({factors.get() + first * stride, std::min(kPanelRows, rows - first), stride,
                     static_cast<const uint8_t*>(w.layout.data_ptr()), w.format, w.units,
                     to + first * w.columns * size_of(dtype), w.columns, dtype, i % panels, work},
                    wide);
    }
  };
  parallel_with_scratch<Real>(tiles * panels, 2 * kPanel / 16 * std::min(kPanelRows, rows) * w.rows, kInputWork, run);
}

Tensor input_gradient(const Tensor& grad, const Tensor& layout, const Tensor& scale, int64_t encoding,
                      int64_t in_features) {
  SYLVESTER_CHECK(grad.dim() >= 1 && is_float(grad.scalar_type()), kInput,
                  ": grad must be float32, bfloat16, float16 or float64 with at least one dimension");
  const bool wide = grad.scalar_type() == ScalarType::Double;
  const Matrix w = bind_weights(kInput, layout, scale, std::nullopt, encoding, grad.size(-1), in_features, wide);
  std::vector<int64_t> shape(sizes(grad).begin(), sizes(grad).end());
  shape.back() = in_features;
  const Tensor dx = empty(shape, grad.scalar_type());
  const int64_t rows = in_features == 0 ? 0 : dx.numel() / in_features;
  if (rows > 0) wide ? run_input<double>(grad, w, dx, rows) : run_input<float>(grad, w, dx, rows);
  return dx;
}

}  // namespace
}  // namespace sylvester::lowbit_matmul

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def(
      "lowbit_matmul(Tensor x, Tensor? x_scale, Tensor layout, Tensor scale, Tensor? bias, Tensor? latent, "
      "int encoding, SymInt out_features, bool exact) -> Tensor");
  m.def("lowbit_matmul_input(Tensor grad, Tensor layout, Tensor scale, int encoding, SymInt in_features) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CPU, m) {
  m.impl("lowbit_matmul", TORCH_BOX(&sylvester::lowbit_matmul::multiply));
  m.impl("lowbit_matmul_input", TORCH_BOX(&sylvester::lowbit_matmul::input_gradient));
}
