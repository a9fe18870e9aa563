// y = V max(h, 0) + b_o of the states of a strip while they are in L1, and its way back.
#pragma once

#include "hadamard_scan/tile.h"

namespace {

using sylvester::hadamard_scan::Readout;

// Outputs that are summed at once. On the way back V and dV share the registers; a state is made again for each group,
// so where few fit, more at once are better though some of V then comes from memory.
template <class V>
constexpr int kOutputGroup = V::kRegisters >= 16 ? 10 : 3;
template <class V>
constexpr int kBackGroup = V::kRegisters >= 16 ? 10 : 5;

// y[s][o] = Σ_d V[o][d] max(h[s][d], 0) for Outputs outputs of Samples samples: sixteen chains in ascending d, then the
// sum of the lanes. Up to three elements after a sample's outputs are written too.
template <class V, int Samples, int Outputs>
SYLVESTER_INLINE void read_out_block(const typename V::Real* h, int64_t width, const typename V::Real* w, int64_t row,
                                     typename V::Real* y) {
  constexpr int kFours = (Outputs + 3) / 4;
  V sum[Samples][kFours * 4];
#pragma GCC unroll 32
  for (int n = 0; n < Samples * kFours * 4; ++n) sum[n % Samples][n / Samples] = zero<V>();
  for (int64_t d = 0; d < width; d += kLanes) {
    V a[Samples];
#pragma GCC unroll 2
    for (int s = 0; s < Samples; ++s) a[s] = relu(load<V>(h + s * width + d));
#pragma GCC unroll 32
    for (int n = 0; n < Samples * Outputs; ++n) {
      const int o = n / Samples, s = n % Samples;
      sum[s][o] = fma(a[s], load<V>(w + o * width + d), sum[s][o]);
    }
  }
#pragma GCC unroll 32
  for (int n = 0; n < Samples * kFours; ++n) {
    const V* four = sum[n % Samples] + n / Samples * 4;
    sum_lanes(four[0], four[1], four[2], four[3], y + n % Samples * row + n / Samples * 4);
  }
}

template <class V, int Samples, int Outputs>
SYLVESTER_INLINE void read_out_group(int64_t outputs, const typename V::Real* h, int64_t width,
                                     const typename V::Real* w, int64_t row, typename V::Real* y) {
  if constexpr (Outputs > 1) {
    if (outputs < Outputs) return read_out_group<V, Samples, Outputs - 1>(outputs, h, width, w, row, y);
  }
  read_out_block<V, Samples, Outputs>(h, width, w, row, y);
}

// body(begin, end) for the groups of at most Most outputs
template <int Most, class Body>
SYLVESTER_INLINE void for_output_groups(int64_t outputs, const Body& body) {
  const int64_t groups = (outputs + Most - 1) / Most;
  for (int64_t i = 0; i < groups; ++i) body(i * outputs / groups, (i + 1) * outputs / groups);
}

// y (samples, output_row) of states h (samples, P)
template <class V, int Samples>
void read_out_samples(const Problem& p, const typename V::Real* h, typename V::Real* y) {
  const auto* w = static_cast<const typename V::Real*>(p.readout.weight);
  const int64_t row = output_row(p);
  for_output_groups<kOutputGroup<V>>(p.readout.outputs, [&](int64_t begin, int64_t end) {
    read_out_group<V, Samples, kOutputGroup<V>>(end - begin, h, p.padded, w + begin * p.padded, row, y + begin);
  });
}

template <class V>
void read_out(const Problem& p, const typename V::Real* h, int64_t samples, typename V::Real* y) {
  const int64_t row = output_row(p);
  int64_t s = 0;
  for (; s + 2 <= samples; s += 2) read_out_samples<V, 2>(p, h + s * p.padded, y + s * row);
  if (s < samples) read_out_samples<V, 1>(p, h + s * p.padded, y + s * row);
}

// A sample's outputs, with b_o, to memory
template <class V>
SYLVESTER_INLINE void write_outputs(const Problem& p, typename V::Real* y, Dtype dtype, void* to) {
  using Real = typename V::Real;
  const auto* bias = static_cast<const Real*>(p.readout.bias);
  const int64_t count = p.readout.outputs;
  if (dtype == p.real && count < kLanes) {
    return store_part_as(static_cast<Real*>(to), add(load<V>(y), load<V>(bias)), count);
  }
  for (int64_t o = 0; o < count; o += kLanes) store(y + o, add(load<V>(y + o), load<V>(bias + o)));
  narrow_row<V>(y, dtype, count, to);
}

// The states of one row: given, or made of r = s∘(h − z − b)
template <class V>
struct States {
  using Real = typename V::Real;
  const Real* const* h;  // or null
  const Real* const* r;
  const Real* const* z;

  // max(h, 0) of step c, elements [i, i + 16); s and b are theirs
  SYLVESTER_INLINE V read(int64_t c, int64_t i, V s, V b) const {
    if (h != nullptr) return relu(load<V>(h[c] + i));
    return relu(add(flip(load<V>(r[c] + i), s), add(load<V>(z[c] + i), b)));
  }
};

// For outputs [o, o + Outputs) and the steps of one row: g[c] += Σ_o dy[c][o] V[o] where h > 0, and
// dV[o] += Σ_c dy[c][o] max(h[c], 0)
template <class V, int Outputs>
void read_back_block(const Problem& p, const States<V>& states, const typename V::Real* dy, int64_t n, int64_t o,
                     typename V::Real* g, typename V::Real* grad_weight) {
  using Real = typename V::Real;
  const auto *sign = static_cast<const Real*>(p.sign), *bias = sign + p.padded;
  const auto* w = static_cast<const Real*>(p.readout.weight) + o * p.padded;
  const int64_t row = output_row(p);
  grad_weight += o * p.padded;
  for (int64_t i = 0; i < p.padded; i += kLanes) {
    V weight[Outputs], sum[Outputs];
#pragma GCC unroll 16
    for (int j = 0; j < Outputs; ++j) weight[j] = load<V>(w + j * p.padded + i);
#pragma GCC unroll 16
    for (int j = 0; j < Outputs; ++j) sum[j] = load<V>(grad_weight + j * p.padded + i);
    const V s = load<V>(sign + i), b = load<V>(bias + i);
    for (int64_t c = 0; c < n; ++c) {
      const V a = states.read(c, i, s, b);
      V up = o == 0 ? zero<V>() : load<V>(g + c * p.padded + i);
#pragma GCC unroll 16
      for (int j = 0; j < Outputs; ++j) {
        const V factor = broadcast<V>(dy[c * row + o + j]);
        up = fma(factor, weight[j], up);
        sum[j] = fma(factor, a, sum[j]);
      }
      store(g + c * p.padded + i, where_nonzero(a, up));
    }
#pragma GCC unroll 16
    for (int j = 0; j < Outputs; ++j) store(grad_weight + j * p.padded + i, sum[j]);
  }
}

template <class V, int Outputs>
void read_back_group(int64_t outputs, const Problem& p, const States<V>& states, const typename V::Real* dy, int64_t n,
                     int64_t o, typename V::Real* g, typename V::Real* grad_weight) {
  if constexpr (Outputs > 1) {
    if (outputs < Outputs) return read_back_group<V, Outputs - 1>(outputs, p, states, dy, n, o, g, grad_weight);
  }
  read_back_block<V, Outputs>(p, states, dy, n, o, g, grad_weight);
}

// From dy (n, output_row) of one row to g (n, P), with dV (O,P) and db_o added to
template <class V>
void read_back(const Problem& p, const States<V>& states, const typename V::Real* dy, int64_t n, typename V::Real* g,
               typename V::Real* grad_weight, typename V::Real* grad_bias) {
  const int64_t outputs = p.readout.outputs, row = output_row(p);
  for_output_groups<kBackGroup<V>>(outputs, [&](int64_t begin, int64_t end) {
    read_back_group<V, kBackGroup<V>>(end - begin, p, states, dy, n, begin, g, grad_weight);
  });
  for (int64_t o = 0; o < outputs; o += kLanes) {
    V sum = load<V>(grad_bias + o);
    for (int64_t c = 0; c < n; ++c) sum = add(sum, load<V>(dy + c * row + o));
    store(grad_bias + o, sum);
  }
}

}  // namespace
