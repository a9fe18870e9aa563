// The first steps of the adjoint and of the rebuilt states, which transform nothing, and the sums over steps.
#pragma once

#include "hadamard_scan/forward.h"

namespace {

using sylvester::hadamard_scan::Partial;

// λ = g + incoming (0 where h is, unless that is null), μ = s∘λ: the adjoint's first step, where nothing has been
// transformed yet
template <class V>
void begin_adjoint(const Problem& p, const typename V::Real* g, const typename V::Real* h, typename V::Real* mu,
                   typename V::Real* lambda) {
  const auto* sign = static_cast<const typename V::Real*>(p.sign);
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V sum = add(load<V>(g + i), load<V>(mu + i));
    if (h != nullptr) sum = where_nonzero(load<V>(h + i), sum);
    store(lambda + i, sum);
    store(mu + i, flip(sum, load<V>(sign + i)));
  }
}

// r = s∘(a − (z + b)), a the state h before its activation: modReLU took sgn(h)·β from it
template <class V>
void begin_rebuild(const Problem& p, const typename V::Real* h, const typename V::Real* z, typename V::Real* state,
                   typename V::Real* out) {
  const Coefficients<V> c(p);
  const bool modrelu = p.activation == Activation::modrelu;
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V a = load<V>(h + i);
    if (modrelu) a = sub(a, flip(load<V>(c.act_bias + i), sign_bits(a)));
    const V r = flip(sub(a, add(load<V>(z + i), load<V>(c.bias + i))), load<V>(c.sign + i));
    store(state + i, r);
    store(out + i, r);
  }
}

// dsign += Σ_c λ_c∘r_c (r null: left alone), dbias += Σ_c λ_c, and of modReLU dβ += Σ_c λ_c∘sgn(h_c) (h null: left
// alone)
template <class V>
void accumulate(const Problem& p, const typename V::Real* const* lambda, const typename V::Real* const* r,
                const typename V::Real* const* h, int64_t n, typename V::Real* partial) {
  const Partial at(p, false);
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V sign_sum = load<V>(partial + at.sign + i), bias_sum = load<V>(partial + at.bias + i);
    V act_sum = load<V>(partial + at.act_bias + i);
    for (int64_t c = 0; c < n; ++c) {
      const V l = load<V>(lambda[c] + i);
      if (r != nullptr) sign_sum = fma(l, load<V>(r[c] + i), sign_sum);
      if (h != nullptr) act_sum = add(act_sum, flip(l, sign_bits(load<V>(h[c] + i))));
      bias_sum = add(bias_sum, l);
    }
    store(partial + at.sign + i, sign_sum);
    store(partial + at.bias + i, bias_sum);
    store(partial + at.act_bias + i, act_sum);
  }
}

}  // namespace
