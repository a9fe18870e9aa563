// The first steps of the adjoint and of the rebuilt states, which transform nothing, and the sums over steps.
#pragma once

#include "hadamard_scan/forward.h"

namespace {

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

// sign += Σ_c λ_c∘r_c and plain += Σ_c λ_c over steps [begin, end), for Columns vectors from element i on
template <class V, int Columns, bool kSign>
SYLVESTER_INLINE void accumulate_block(const typename V::Real* const* lambda, const typename V::Real* const* r,
                                       int64_t begin, int64_t end, int64_t i, typename V::Real* sign,
                                       typename V::Real* plain) {
  V sign_sum[Columns], sum[Columns];
  for (int j = 0; j < Columns; ++j) {
    if constexpr (kSign) sign_sum[j] = load<V>(sign + i + j * kLanes);
    sum[j] = load<V>(plain + i + j * kLanes);
  }
  for (int64_t c = begin; c < end; ++c) {
    for (int j = 0; j < Columns; ++j) {
      const V l = load<V>(lambda[c] + i + j * kLanes);
      if constexpr (kSign) sign_sum[j] = fma(l, load<V>(r[c] + i + j * kLanes), sign_sum[j]);
      sum[j] = add(sum[j], l);
    }
  }
  for (int j = 0; j < Columns; ++j) {
    if constexpr (kSign) store(sign + i + j * kLanes, sign_sum[j]);
    store(plain + i + j * kLanes, sum[j]);
  }
}

// The same for a whole row; r null: sign is left alone
template <class V>
void accumulate(const Problem& p, const typename V::Real* const* lambda, const typename V::Real* const* r,
                int64_t begin, int64_t end, typename V::Real* sign, typename V::Real* plain) {
  constexpr int kColumns = V::kRegisters >= 16 ? 4 : 2;
  for (int64_t i = 0; i < p.padded;) {
    const bool wide = i + kColumns * kLanes <= p.padded;
    if (wide && r != nullptr) accumulate_block<V, kColumns, true>(lambda, r, begin, end, i, sign, plain);
    if (wide && r == nullptr) accumulate_block<V, kColumns, false>(lambda, r, begin, end, i, sign, plain);
    if (!wide && r != nullptr) accumulate_block<V, 1, true>(lambda, r, begin, end, i, sign, plain);
    if (!wide && r == nullptr) accumulate_block<V, 1, false>(lambda, r, begin, end, i, sign, plain);
    i += (wide ? kColumns : 1) * kLanes;
  }
}

// dβ += Σ_c λ_c∘sgn(h_c)
template <class V>
void accumulate_act_bias(const Problem& p, const typename V::Real* const* lambda, const typename V::Real* const* h,
                         int64_t n, typename V::Real* act_bias) {
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V sum = load<V>(act_bias + i);
    for (int64_t c = 0; c < n; ++c) sum = add(sum, flip(load<V>(lambda[c] + i), sign_bits(load<V>(h[c] + i))));
    store(act_bias + i, sum);
  }
}

}  // namespace
