// One step of the recurrence: forward, adjoint and rebuild are one kernel that differs in where signs are flipped.
//
//   forward   h ← s∘S̃h + (z + b)          out h
//   relu      h ← max(s∘S̃h + (z + b), 0)  out h
//   modrelu   h ← sgn(a) max(|a| + β, 0), a = s∘S̃h + (z + b)   out h
//   adjoint   μ ← s∘λ, λ = S̃μ + g         out λ      (s Wᵀ s = W: the adjoint runs the same transform)
//   masked    μ ← s∘δ, δ = λ where h ≠ 0   out δ      (of both activations, h the state that they made)
//   rebuild   r ← s∘(S̃r − (z + b))        out r      (h_{t-1} = S̃ r_t with r_t = s∘(h_t − z_t − b))
#pragma once

#include "common/hadamard.h"
#include "hadamard_scan/hadamard_scan.h"

namespace {

using sylvester::hadamard_scan::kMaxTileRows;
using sylvester::hadamard_scan::kMaxTileSteps;
using sylvester::hadamard_scan::Problem;

enum class Mode { forward, relu, modrelu, adjoint, masked, rebuild };

// Where a step's output goes. Streaming stores go around the caches: they save reading the lines first, and pay when
// the whole output does not fit the caches anyway.
enum class Out { none, cached, streamed };

template <class V>
struct Coefficients {
  using Real = typename V::Real;
  const Real* sign;
  const Real* bias;
  const Real* signed_hi;
  const Real* signed_lo;
  const Real* act_bias;
  V hi, lo;

  explicit Coefficients(const Problem& p)
      : sign(static_cast<const Real*>(p.sign)),
        bias(sign + p.padded),
        signed_hi(sign + 2 * p.padded),
        signed_lo(sign + 3 * p.padded),
        act_bias(sign + 4 * p.padded),
        hi(broadcast<V>(static_cast<Real>(p.scale.hi))),
        lo(broadcast<V>(static_cast<Real>(p.scale.lo))) {}

  // One step's epilogue for elements [i, i + 16): y is the unscaled transform. `ahead` is where the next row's or
  // tile's drive lies: rows are far apart in memory, and no hardware prefetcher follows them. In mode masked it is the
  // row of states.
  template <Mode mode, Out kind>
  SYLVESTER_INLINE V next(V y, int64_t i, const Real* drive, const Real* ahead, Real* out) const {
    const V z = load<V>(drive + i);
    if constexpr (mode != Mode::masked) __builtin_prefetch(ahead + i, 0, 2);
    V result, state;
    if constexpr (mode == Mode::adjoint || mode == Mode::masked) {
      result = fma(y, hi, fma(y, lo, z));
      if constexpr (mode == Mode::masked) result = where_nonzero(load<V>(ahead + i), result);
      state = flip(result, load<V>(sign + i));
    } else if constexpr (mode == Mode::rebuild) {
      const V zb = add(z, load<V>(bias + i));
      result = state = flip(fma(y, hi, fms(y, lo, zb)), load<V>(sign + i));
    } else {
      const V zb = add(z, load<V>(bias + i));
      result = state = activate<mode>(fma(y, load<V>(signed_hi + i), fma(y, load<V>(signed_lo + i), zb)), i);
    }
    if constexpr (kind == Out::cached) store(out + i, result);
    if constexpr (kind == Out::streamed) stream(out + i, result);
    return state;
  }

  template <Mode mode>
  SYLVESTER_INLINE V activate(V a, int64_t i) const {
    if constexpr (mode == Mode::relu) return relu(a);
    if constexpr (mode == Mode::modrelu) {
      const V s = sign_bits(a);
      return where_nonzero(a, flip(relu(add(flip(a, s), load<V>(act_bias + i))), s));
    }
    return a;
  }
};

// The pointers of a time tile: one drive and one output for every row and step
template <class Real>
struct Steps {
  // Set for a lone row in registers with a fused drive: its drive rows are filled step by step, from x (steps, inputs),
  // so that the product runs beside the recurrence, which leaves the pipes idle while it waits for itself.
  const Real* lazy_x = nullptr;
  const Real* lazy_weight = nullptr;
  Real* lazy_z = nullptr;  // drive[0][0]
  int64_t lazy_inputs = 0;
  const Real* drive[kMaxTileRows][kMaxTileSteps];
  const Real* ahead[kMaxTileRows][kMaxTileSteps];
  Real* out[kMaxTileRows][kMaxTileSteps];
};

}  // namespace
