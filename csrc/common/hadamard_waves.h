// Fourier transforms of 7 real values, and back: what a digit of a field of 7³ elements takes (hadamard_cubic.h).
//
// Waves are a sum, cosines and sines of 2π k a / 7 for k = 1, 2, 4; the other k are these times −1. Powers of 2 make
// the products circulants: cos 2π 2^n 2^m / 7 is the (n + m mod 3)-th of three.
//
// Count, of 7 values: 27 additions and multiplications. Sums and differences of a and −a are 6, their sum 3, a sine 3;
// a cosine takes 2 by differences of two sums, for a sixth that is added to each cosine makes them add up to 0.
#pragma once

#include "common/simd.h"

namespace {

constexpr int64_t kDigit = 7, kPlane = 49;

// weight · cos and sin of 2π 2^n / 7; a sixth makes the cosines add up to 0
template <class P>
struct Waves {
  P cosine[3], sine[3], weight, half, sixth;
  SYLVESTER_INLINE explicit Waves(double w) {
    constexpr double kCosine[] = {0.62348980185873353, -0.22252093395631440, -0.90096886790241913};
    constexpr double kSine[] = {0.78183148246802981, 0.97492791218182361, -0.43388373911755812};
    const auto of = [](double x) SYLVESTER_LAMBDA { return broadcast<P>(static_cast<typename P::Real>(x)); };
#pragma GCC unroll 3
    for (int n = 0; n < 3; ++n) {
      cosine[n] = of(w * (kCosine[n] + 1.0 / 6));
      sine[n] = of(w * kSine[n]);
    }
    weight = of(w);
    half = of(w / 2);
    sixth = of(w / 6);
  }
};

// From sum and mean, c[0] .. c[2] and s[0] .. s[2]: cosines and sines of k = 2^n, or what they add to a and −a = 2^n
template <class P, class Put>
SYLVESTER_INLINE void products(const Waves<P>& w, P mean, const P (&c)[3], const P (&s)[3], const Put& put) {
  const P d = sub(c[0], c[2]), e = sub(c[1], c[2]);
#pragma GCC unroll 3
  for (int n = 0; n < 3; ++n) {
    put(n, fma(e, w.cosine[(n + 1) % 3], fma(d, w.cosine[n], mean)),
        fma(s[2], w.sine[(n + 2) % 3], fma(s[1], w.sine[(n + 1) % 3], mul(s[0], w.sine[n]))));
  }
}

// get(a) of a digit's values to put(0, their sum), put(1 + n, the cosine of k = 2^n), put(4 + n, its sine)
template <class P, class Get, class Put>
SYLVESTER_INLINE void analyse(const Waves<P>& w, const Get& get, const Put& put) {
  const P x = get(0);
  P t[3], u[3];
#pragma GCC unroll 3
  for (int n = 0; n < 3; ++n) {
    const P a = get(1 << n), b = get(7 - (1 << n));
    t[n] = add(a, b);
    u[n] = sub(a, b);
  }
  const P sum = add(t[0], add(t[1], t[2]));
  put(0, add(x, sum));
  products<P>(w, fnma(sum, w.sixth, x), t, u, [&](int n, P cosine, P sine) SYLVESTER_LAMBDA {
    put(1 + n, cosine);
    put(4 + n, sine);
  });
}

// The inverse, times 7 · scale, of waves of weight 2 · scale (kScaled: scale is not 1)
template <bool kScaled, class P, class Get, class Put>
SYLVESTER_INLINE void synthesise(const Waves<P>& w, const Get& get, const Put& put) {
  const P x = kScaled ? mul(get(0), w.half) : get(0), c[] = {get(1), get(2), get(3)}, s[] = {get(4), get(5), get(6)};
  const P sum = add(c[0], add(c[1], c[2]));
  put(0, fma(sum, w.weight, x));
  products<P>(w, fnma(sum, w.sixth, x), c, s, [&](int n, P even, P odd) SYLVESTER_LAMBDA {
    put(1 << n, add(even, odd));
    put(7 - (1 << n), sub(even, odd));
  });
}

// A digit whose rows are `step` apart, in `groups` of 7 rows that are stride apart, `columns` of each. after(g) when
// group g is done
enum class Way { there, back, scaled_back };
template <Way way, class P, class After>
SYLVESTER_INLINE void transform_digit(const typename P::Real* in, typename P::Real* out, double scale, int64_t groups,
                                      int64_t stride, int64_t step, int64_t columns, const After& after) {
  const Waves<P> w(way == Way::there ? 1 : 2 * scale);
  for (int64_t g = 0; g < groups; ++g, in += stride, out += stride) {
    for (int64_t c = 0; c < columns; c += kLanesOf<P>) {
      const auto get = [&](int a) SYLVESTER_LAMBDA { return load<P>(in + c + a * step); };
      const auto put = [&](int p, P v) SYLVESTER_LAMBDA { store(out + c + p * step, v); };
      if constexpr (way == Way::there) {
        analyse(w, get, put);
      } else {
        synthesise<way == Way::scaled_back>(w, get, put);
      }
    }
    after(g);
  }
}

}  // namespace
