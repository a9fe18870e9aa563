// H_344 across columns. Paley's first matrix of a field of 7³ elements is a convolution over their three digits, and
// Fourier transforms of 7 values make that one multiplication an element.
//
// y_0 = x_0 + Σ x_j and y = x − x_0 + χ * x for the other 343 (hadamard_matrix.h); of the transpose, y_0 = x_0 − Σ x_j
// and y = x + x_0 − χ * x. In waves, a cosine and a sine of 2π k a / 7 in each digit a, k ∈ {0, 1, 2, 4} (the other k
// are these times −1), χ multiplies by ±i·7^{3/2}, which turns (c, s) of one digit into ±(−s, c) and scales:
//
//   digits whose k is not 0          turned       sign
//   one                              that one      +
//   two: 0 and 1, 1 and 2, 2 and 0   1, 2, 0       −
//   all, k = 2^i, 2^j, 2^l           (0, 2, 1)     +        the (i + j + l mod 3)-th of these
//
// So it permutes waves and changes signs, and nothing else. That takes the field GF(7)[t] / (t³ − 2), whose norm is a
// sum of cubes, which are ±1, and the product of the digits; in other bases a wave becomes a sum of four. With κ =
// 1/√343 and w the waves, y = κ · (waves back of: w turned + κ·w), and the same with −κ is the transpose.
//
// Three trips: digit 2 there, in 49 groups of 7 rows; digits 1 and 0 there, the turn, and back, in a plane or two of 49
// rows, all that the turn mixes, 32 columns at a time (12.5 kB); digit 2 back.
//
// Count, an element: 24 additions and multiplications: 27 for 7 values each way in each digit (hadamard_waves.h), and
// one for κ·w. H_172 ⊗ H_2 takes 47. Six loads and stores, three of them within the first-level cache.
#pragma once

#include "common/hadamard_blocks.h"
#include "common/hadamard_waves.h"

namespace {

constexpr int64_t kCubicColumns = 32;
constexpr double kRoot343 = 18.520259177452134;

// Lines along digit 0 that χ mixes: those of one k in the digits 1 and 2, of cosines and sines
enum Lines { kBothZero, kOfFirst, kOfSecond, kOfBoth };  // and kOfBoth + (i + j) % 3 where k = 2^i and 2^j

// Where wave p of line n comes from. Bit 0 of n: the sine of digit 1 (of digit 2 if only that has waves); bit 1: that
// of digit 2
struct Source {
  int line, wave;
  bool minus;
};
constexpr Source source(int lines, int n, int p) {
  const bool alone = p == 0, sine = p > 3;
  int turned = 0;
  if (lines == kOfFirst) turned = 1;
  if (lines == kOfSecond) turned = alone ? 2 : 0;
  if (lines >= kOfBoth) turned = alone ? 2 : (6 - (p - 1) % 3 - (lines - kOfBoth)) % 3;
  const bool two_digits = lines < kOfBoth ? lines != kBothZero && !alone : alone;
  const bool was_cosine = turned == 0 ? sine : (turned == 1 || lines == kOfSecond ? n & 1 : n & 2) != 0;
  const bool minus = two_digits == was_cosine;
  if (turned == 0) return {n, sine ? p - 3 : p + 3, minus};
  return {n ^ (turned == 1 || lines == kOfSecond ? 1 : 2), p, minus};
}

// What planes share while their digit 0 is turned
template <class P>
struct Turn {
  using Real = typename P::Real;
  int64_t stride, columns;
  bool transpose;

  SYLVESTER_INLINE P kappa() const { return broadcast<P>(static_cast<Real>((transpose ? -1 : 1) / kRoot343)); }
  template <Way way>
  SYLVESTER_INLINE void digit_1(Real* x) const {
    transform_digit<way, P>(x, x, 1, kDigit, stride, kDigit * stride, columns, [](int64_t) {});
  }

  // Line n back: w turned + κ·w
  template <int kLines, int n>
  SYLVESTER_INLINE void line_back(const Waves<P>& back, const Real* waves, Real* to) const {
    const P factor = kappa();
    constexpr int64_t kStep = (kLines < kOfBoth ? 2 : 4) * kDigit;
    for (int64_t c = 0; c < columns; c += kLanesOf<P>, waves += kStep * kLanesOf<P>) {
      const auto get = [&](int p) SYLVESTER_LAMBDA {
        const Source from = source(kLines, n, p);
        const P own = load<P>(waves + (n * kDigit + p) * kLanesOf<P>);
        const P turned = load<P>(waves + (from.line * kDigit + from.wave) * kLanesOf<P>);
        return from.minus ? fms(own, factor, turned) : fma(own, factor, turned);
      };
      synthesise<false>(back, get, [&](int a, P y) SYLVESTER_LAMBDA { store(to + c + a * stride, y); });
    }
  }
  // Lines of k = 2^i in digit 1 of the planes of the cosine and the sine of k = 2^j in digit 2
  template <int kLines>
  SYLVESTER_INLINE void lines(Real* cosine, Real* sine, int i) const {
    constexpr int kCount = kLines < kOfBoth ? 2 : 4;
    alignas(64) Real waves[kCount * kDigit * kCubicColumns];
    Real* line[kCount];
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) {
      const int row = kLines == kOfSecond ? 0 : 1 + i + 3 * (n & 1);
      const bool first_plane = kLines == kOfFirst || (kLines == kOfSecond ? n : n >> 1) == 0;
      line[n] = (first_plane ? cosine : sine) + row * kDigit * stride;
    }
    const Waves<P> ahead(1);
    for (int n = 0; n < kCount; ++n) {
      for (int64_t c = 0; c < columns; c += kLanesOf<P>) {
        analyse(
            ahead, [&](int a) SYLVESTER_LAMBDA { return load<P>(line[n] + c + a * stride); },
            [&](int p, P v)
                SYLVESTER_LAMBDA { store(waves + c * kCount * kDigit + (n * kDigit + p) * kLanesOf<P>, v); });
      }
    }
    const Waves<P> back(2);
    line_back<kLines, 0>(back, waves, line[0]);
    line_back<kLines, 1>(back, waves, line[1]);
    if constexpr (kCount == 4) {
      line_back<kLines, 2>(back, waves, line[2]);
      line_back<kLines, 3>(back, waves, line[3]);
    }
  }
  // The line without waves in digits 1 and 2: its sum is that of all, and −√343·x_0 comes in its place. y_0 = x_0 ± sum
  SYLVESTER_INLINE void line_of_border(Real* x, const Real* x_0, Real* y_0, double scale) const {
    const Waves<P> ahead(1), back(2);
    const P kappa = this->kappa(), factor = broadcast<P>(static_cast<Real>(scale));
    for (int64_t c = 0; c < columns; c += kLanesOf<P>) {
      P waves[kDigit];
      analyse(
          ahead, [&](int a) SYLVESTER_LAMBDA { return load<P>(x + c + a * stride); },
          [&](int p, P v) SYLVESTER_LAMBDA { waves[p] = v; });
      const P border = load<P>(x_0 + c), sum = waves[0];
      const auto get = [&](int p) SYLVESTER_LAMBDA {
        if (p == 0) return fma(sum, kappa, mul(border, broadcast<P>(static_cast<typename P::Real>(-kRoot343))));
        const Source from = source(kBothZero, 0, p);
        return from.minus ? fms(waves[p], kappa, waves[from.wave]) : fma(waves[p], kappa, waves[from.wave]);
      };
      synthesise<false>(back, get, [&](int a, P y) SYLVESTER_LAMBDA { store(x + c + a * stride, y); });
      store(y_0 + c, mul(transpose ? sub(border, sum) : add(border, sum), factor));
    }
  }
};

// The plane of no wave in digit 2, or two of its cosine and sine of k = 2^j: digits 1 and 0 there, the turn, and back.
// Not cloned: unrolled for 32 columns, planes_of is 31 kB of code and takes a tenth longer.
template <class P>
__attribute__((noinline, noclone)) void plane_without(const Turn<P> turn, typename P::Real* x,
                                                      const typename P::Real* x_0, typename P::Real* y_0,
                                                      double scale) {
  turn.template digit_1<Way::there>(x);
  turn.line_of_border(x, x_0, y_0, scale);
  for (int i = 0; i < 3; ++i) turn.template lines<kOfFirst>(x, x, i);
  turn.template digit_1<Way::back>(x);
}
template <class P>
__attribute__((noinline, noclone)) void planes_of(const Turn<P> turn, typename P::Real* cosine, typename P::Real* sine,
                                                  int j) {
  turn.template digit_1<Way::there>(cosine);
  turn.template digit_1<Way::there>(sine);
  turn.template lines<kOfSecond>(cosine, sine, 0);
  turn.template lines<kOfBoth>(cosine, sine, (3 - j) % 3);
  turn.template lines<kOfBoth + 1>(cosine, sine, (4 - j) % 3);
  turn.template lines<kOfBoth + 2>(cosine, sine, (5 - j) % 3);
  turn.template digit_1<Way::back>(cosine);
  turn.template digit_1<Way::back>(sine);
}

// Rows of `part` elements, part a multiple of 16, times scale; in may be out. after(first, step): when kCount rows are
// complete
template <class V, class After>
SYLVESTER_INLINE void cubic_block(const typename V::Real* in, typename V::Real* out, int64_t part, bool transpose,
                                  double scale, const After& after) {
  using P = Part<V>;
  const typename V::Real* const x = in + part;
  typename V::Real* const y = out + part;
  const auto plane = [&](int64_t p) SYLVESTER_LAMBDA { return y + p * kPlane * part; };
  transform_digit<Way::there, P>(x, y, 1, kPlane, part, kPlane * part, part, [](int64_t) {});
  for (int64_t c = 0; c < part; c += kCubicColumns) {
    const Turn<P> turn{part, part - c < kCubicColumns ? part - c : kCubicColumns, transpose};
    plane_without<P>(turn, plane(0) + c, in + c, out + c, scale);
    for (int j = 0; j < 3; ++j) planes_of<P>(turn, plane(1 + j) + c, plane(4 + j) + c, j);
  }
  after.template operator()<1>(out, 0);
  transform_digit<Way::scaled_back, P>(
      y, y, (transpose ? -scale : scale) / kRoot343, kPlane, part, kPlane * part, part,
      [&](int64_t j) SYLVESTER_LAMBDA { after.template operator()<kDigit>(y + j * part, kPlane * part); });
}

template <class V>
__attribute__((noinline)) void cubic_rows(const typename V::Real* in, typename V::Real* out, int64_t part,
                                          bool transpose, double scale) {
  cubic_block<V>(in, out, part, transpose, scale, []<int kCount>(typename V::Real*, int64_t) {});
}

// H_344 ⊗ S of 32: rows are transformed as soon as they are complete
template <class V>
__attribute__((noinline)) void cubic_rows_of_32(const typename V::Real* in, typename V::Real* out, bool transpose,
                                                double scale) {
  cubic_block<V>(in, out, 2 * kLanes, transpose, scale,
                 []<int kCount>(typename V::Real* row, int64_t step) SYLVESTER_LAMBDA {
                   const auto rows = [&]<int kRows>(typename V::Real* first) SYLVESTER_LAMBDA {
                     V v[2 * kRows];
#pragma GCC unroll 4
                     for (int k = 0; k < 2 * kRows; ++k) v[k] = load<V>(first + k / 2 * step + k % 2 * kLanes);
                     lane_stages<4>(v, 2 * kRows);
                     register_stages<0, 1, 2 * kRows, false>(v);
#pragma GCC unroll 4
                     for (int k = 0; k < 2 * kRows; ++k) store(first + k / 2 * step + k % 2 * kLanes, v[k]);
                   };
                   rows.template operator()<1>(row);
#pragma GCC unroll 3
                   for (int k = 1; k < kCount; k += 2) rows.template operator()<2>(row + k * step);
                 });
}

}  // namespace
