// y = V max(h, 0) + b_o of the states of a strip while they are in L1, and its way back.
#pragma once

#include "hadamard_scan/tile.h"

namespace {

using sylvester::hadamard_scan::Readout;

// Outputs that are summed at once: of two samples; and on the way back, where V and dV share the registers
template <class V>
constexpr int kOutputGroup = V::kRegisters >= 16 ? 10 : 5;
template <class V>
constexpr int kBackGroup = V::kRegisters >= 16 ? 10 : 6;

// y[s][o] = Σ_d V[o][d] max(h[s][d], 0) for Outputs outputs of Samples samples: sixteen chains in ascending d, then the
// sum of the lanes. Up to three elements after a sample's outputs are written too.
template <class V, int Samples, int Outputs>
SYLVESTER_INLINE void read_out_block(const typename V::Real* h, int64_t width, const typename V::Real* w, int64_t row,
                                     typename V::Real* y) {
  using P = std::conditional_t<(Outputs > 2), Part<V>, V>;  // few sums fit registers whole, and need all their chains
  constexpr int kFours = (Outputs + 3) / 4;
  P quads[Samples][kFours];
  for (int64_t part = 0; part < kLanes; part += kLanesOf<P>) {
    P sum[Samples][kFours * 4];
#pragma GCC unroll 32
    for (int n = 0; n < Samples * kFours * 4; ++n) sum[n % Samples][n / Samples] = zero<P>();
    for (int64_t d = part; d < width; d += kLanes) {
      P a[Samples];
#pragma GCC unroll 2
      for (int s = 0; s < Samples; ++s) a[s] = relu(load<P>(h + s * width + d));
#pragma GCC unroll 16
      for (int o = 0; o < Outputs; ++o) {
        const P weight = in_register(load<P>(w + o * width + d));  // or each sample loads it: loads bind then
#pragma GCC unroll 2
        for (int s = 0; s < Samples; ++s) sum[s][o] = fma(a[s], weight, sum[s][o]);
      }
    }
#pragma GCC unroll 32
    for (int n = 0; n < Samples * kFours; ++n) {
      const P* four = sum[n % Samples] + n / Samples * 4;
      const P of_part = quad_sums(four[0], four[1], four[2], four[3]);
      P& of_all = quads[n % Samples][n / Samples];
      of_all = part == 0 ? of_part : add(of_all, of_part);
    }
  }
#pragma GCC unroll 32
  for (int n = 0; n < Samples * kFours; ++n) {
    store_quad(y + n % Samples * row + n / Samples * 4, quads[n % Samples][n / Samples]);
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
  using P = Part<V>;
  const Real* const* h;  // or null
  const Real* const* r;
  const Real* const* z;

  // max(h, 0) of step c from element i on; s and b are theirs
  SYLVESTER_INLINE P read(int64_t c, int64_t i, P s, P b) const {
    if (h != nullptr) return relu(load<P>(h[c] + i));
    return relu(add(flip(load<P>(r[c] + i), s), add(load<P>(z[c] + i), b)));
  }
};

// For outputs [o, o + Outputs) and the steps of one row: g[c] += Σ_o dy[c][o] V[o] where h > 0, and
// dV[o] += Σ_c dy[c][o] max(h[c], 0). states is a copy: behind a reference every store would make it load again.
template <class V, int Outputs>
void read_back_block(const Problem& p, const States<V> states, const typename V::Real* dy, int64_t n, int64_t o,
                     typename V::Real* g, typename V::Real* grad_weight) {
  using Real = typename V::Real;
  using P = Part<V>;
  const int64_t row = output_row(p), padded = p.padded;
  const auto *sign = static_cast<const Real*>(p.sign), *bias = sign + padded;
  const auto* w = static_cast<const Real*>(p.readout.weight) + o * padded;
  grad_weight += o * padded;
  for (int64_t i = 0; i < padded; i += kLanesOf<P>) {
    P weight[Outputs], sum[Outputs];
#pragma GCC unroll 16
    for (int j = 0; j < Outputs; ++j) weight[j] = load<P>(w + j * padded + i);
#pragma GCC unroll 16
    for (int j = 0; j < Outputs; ++j) sum[j] = load<P>(grad_weight + j * padded + i);
    const P s = load<P>(sign + i), b = load<P>(bias + i);
    const Real* factors = dy + o;
    Real* to = g + i;
    for (int64_t c = 0; c < n; ++c, factors += row, to += padded) {
      const P a = states.read(c, i, s, b);
      P up = o == 0 ? zero<P>() : load<P>(to);
#pragma GCC unroll 16
      for (int j = 0; j < Outputs; ++j) {
        const P factor = broadcast<P>(factors[j]);
        up = fma(factor, weight[j], up);
        sum[j] = fma(factor, a, sum[j]);
      }
      store(to, where_nonzero(a, up));
    }
#pragma GCC unroll 16
    for (int j = 0; j < Outputs; ++j) store(grad_weight + j * padded + i, sum[j]);
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
