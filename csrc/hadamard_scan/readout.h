// y = V max(h, 0) + b_o of the states of a strip while they are in L1, and its way back.
#pragma once

#include "hadamard_scan/tile.h"

namespace {

using sylvester::hadamard_scan::Readout;

// Accumulators of one product: V and dV (or several samples of y) share the registers
template <class V>
constexpr int kOutputGroup = V::kRegisters >= 16 ? 10 : 3;

// y[s][·] = Σ_d a[s][d] · w[d][·] + b for Samples samples and one vector of outputs, each one chain in ascending d
template <class V, int Samples>
SYLVESTER_INLINE void read_out_block(const typename V::Real* a, int64_t width, const typename V::Real* w,
                                     int64_t outputs, const typename V::Real* bias, typename V::Real* y) {
  V sum[Samples];
  for (int s = 0; s < Samples; ++s) sum[s] = zero<V>();
  for (int64_t d = 0; d < width; ++d) {
    const V weight = load<V>(w + d * outputs);
    for (int s = 0; s < Samples; ++s) sum[s] = fma(broadcast<V>(a[s * width + d]), weight, sum[s]);
  }
  for (int s = 0; s < Samples; ++s) store(y + s * outputs, add(sum[s], load<V>(bias)));
}

// y (samples, Q) of states h (samples, P), which become max(h, 0)
template <class V>
void read_out(const Problem& p, typename V::Real* h, int64_t samples, typename V::Real* y) {
  using Real = typename V::Real;
  constexpr int kSamples = V::kRegisters >= 16 ? 8 : 4;
  const int64_t outputs = round_up(p.readout.outputs, kLanes);
  const auto *w = static_cast<const Real*>(p.readout.transposed), *bias = static_cast<const Real*>(p.readout.bias);
  for (int64_t i = 0; i < samples * p.padded; i += kLanes) store(h + i, relu(load<V>(h + i)));
  for (int64_t o = 0; o < outputs; o += kLanes) {
    int64_t s = 0;
    for (; s + kSamples <= samples; s += kSamples) {
      read_out_block<V, kSamples>(h + s * p.padded, p.padded, w + o, outputs, bias + o, y + s * outputs + o);
    }
    for (; s < samples; ++s) {
      read_out_block<V, 1>(h + s * p.padded, p.padded, w + o, outputs, bias + o, y + s * outputs + o);
    }
  }
}

// The states of one row: given, or made of r = s∘(h − z − b)
template <class Real>
struct States {
  const Real* const* h;  // or null
  const Real* const* r;
  const Real* const* z;
};

// For outputs [o, o + Outputs) and the steps of one row: g[c] += Σ_o dy[c][o] V[o] where h > 0, and
// dV[o] += Σ_c dy[c][o] max(h[c], 0)
template <class V, int Outputs>
void read_back_block(const Problem& p, const States<typename V::Real>& states, const typename V::Real* dy, int64_t n,
                     int64_t o, bool starts, typename V::Real* g, typename V::Real* grad_weight) {
  using Real = typename V::Real;
  const auto* sign = static_cast<const Real*>(p.sign);
  const auto* bias = sign + p.padded;
  const auto* w = static_cast<const Real*>(p.readout.weight) + o * p.padded;
  const int64_t row = round_up(p.readout.outputs, kLanes);
  grad_weight += o * p.padded;
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V weight[Outputs], sum[Outputs];
    for (int j = 0; j < Outputs; ++j) weight[j] = load<V>(w + j * p.padded + i);
    for (int j = 0; j < Outputs; ++j) sum[j] = load<V>(grad_weight + j * p.padded + i);
    const V s = load<V>(sign + i), b = load<V>(bias + i);
    for (int64_t c = 0; c < n; ++c) {
      V h;
      if (states.h != nullptr) h = load<V>(states.h[c] + i);
      if (states.h == nullptr) h = add(flip(load<V>(states.r[c] + i), s), add(load<V>(states.z[c] + i), b));
      const V a = relu(h);
      V up = starts ? zero<V>() : load<V>(g + c * p.padded + i);
      for (int j = 0; j < Outputs; ++j) {
        const V factor = broadcast<V>(dy[c * row + o + j]);
        up = fma(factor, weight[j], up);
        sum[j] = fma(factor, a, sum[j]);
      }
      store(g + c * p.padded + i, where_nonzero(a, up));
    }
    for (int j = 0; j < Outputs; ++j) store(grad_weight + j * p.padded + i, sum[j]);
  }
}

template <class V, int Outputs>
void read_back_group(int64_t outputs, const Problem& p, const States<typename V::Real>& states,
                     const typename V::Real* dy, int64_t n, int64_t o, typename V::Real* g,
                     typename V::Real* grad_weight) {
  if constexpr (Outputs > 1) {
    if (outputs < Outputs) return read_back_group<V, Outputs - 1>(outputs, p, states, dy, n, o, g, grad_weight);
  }
  read_back_block<V, Outputs>(p, states, dy, n, o, o == 0, g, grad_weight);
}

// From dy (n, Q) of one row to g (n, P), with dV (O,P) and db_o (O) added to
template <class V>
void read_back(const Problem& p, const States<typename V::Real>& states, const typename V::Real* dy, int64_t n,
               typename V::Real* g, typename V::Real* grad_weight, typename V::Real* grad_bias) {
  const int64_t outputs = p.readout.outputs, row = round_up(outputs, kLanes);
  const int64_t groups = (outputs + kOutputGroup<V> - 1) / kOutputGroup<V>;
  for (int64_t i = 0; i < groups; ++i) {
    const int64_t begin = i * outputs / groups, end = (i + 1) * outputs / groups;
    read_back_group<V, kOutputGroup<V>>(end - begin, p, states, dy, n, begin, g, grad_weight);
  }
  for (int64_t c = 0; c < n; ++c)
    for (int64_t o = 0; o < outputs; ++o) grad_bias[o] += dy[c * row + o];
}

}  // namespace
