// h_t = σ(s ∘ S̃ h_{t-1} + z_t + b) over a range of rows, S̃ = scale · (I_q ⊗ S), y_t = V max(h_t, 0) + b_o; and
// adjoints.
//
// Time is counted in processing order: a row of n steps takes step k at t = k, or t = n-1-k when reverse. Real is
// float, or double when everything is float64. P is the width D padded to 16; arrays with P columns hold zeros in the
// padding.
//
//   drive        given (T,B,D) · fused (T,B,I) with U · token (T,B) with a table (V,D)
//   states       (T,B,D), outputs (T,B,O): in the drive's type, zeros after a row's end
//   last, h0     (B,D) Real
//   checkpoints  (C,B,D) Real: the state after 64(c+1) steps, zeros after a row's end
//   partial      Partial, Real, added to: what the tiles that share it sum over rows and steps
//
// A tile is tile_rows rows; time goes through it in tile_steps(P) steps at a time, so that drive, state and output of a
// time tile meet in L1. Whatever the drive is, the recurrence sees a pointer to P Real numbers for each step and row:
// the caller's memory when it is Real and D = P, else a converted (or multiplied) tile.
//
// Count, an element and step, forward: log2(block) additions, 4 shuffles, 3 for sign, scale and drive, 1 bias; I more
// for a fused drive, O for a read-out. Given drive: 4 bytes in, 4 out, so large problems are bound by memory.
// Backward: the same once for the adjoint, once for the rebuilt states, I for z, I for dU, 2 for dsign and dbias; O for
// what comes back through a read-out, O for dV. The kernels own all tails. One thread, no allocation, noexcept.
#pragma once

#include <cstdint>

#include "common/half.h"
#include "common/scale.h"
#include "common/select.h"

namespace sylvester::hadamard_scan {

constexpr int64_t kCheckpointSteps = 64;  // a constant: symbolic T, and equal bits for a row in any batch, need it
constexpr int64_t kMaxTileSteps = 16;     // a power of two that divides kCheckpointSteps
constexpr int64_t kMaxTileRows = 8;
constexpr int64_t kMostOutputs = 32;

enum class DriveKind : int { given, fused, token };
enum class Activation : int { identity, relu, modrelu };

// A (T,B,n) array: element (t, b, i) is data[t·step + b·row + i]. Null data: absent.
struct Sequence {
  void* data;
  int64_t step, row;
  Dtype dtype;
};

struct Readout {
  int64_t outputs;     // O, 0 without a read-out
  const void* weight;  // V, (O,P) Real
  const void* bias;    // (kMostOutputs) Real
};

struct Problem {
  DriveKind kind;
  Sequence drive;      // given: n = D, fused: n = I, token: n = 1, int64
  int64_t inputs;      // fused: I, token: V
  const void* weight;  // fused: U transposed, (I,P) Real; token: (V,D) of weight_dtype
  Dtype weight_dtype;  // token only
  const void* sign;    // (5,P) Real: signs as +0 and -0 · bias · sign·scale.hi · sign·scale.lo · modReLU's bias
  int64_t steps, batch, width, padded, block, tile_rows;
  Scale scale;
  bool reverse;
  Dtype real;  // float32 or float64
  Activation activation;
  const int64_t* lengths;  // (B) steps of each row, or null: all take `steps`
  Readout readout;
};

inline int64_t steps_of(const Problem& p, int64_t b) { return p.lengths != nullptr ? p.lengths[b] : p.steps; }

struct Forward {
  const void* h0;  // or null
  Sequence states;
  Sequence outputs;
  Sequence last_outputs;  // of the last states only: no time axis
  void* last;
  void* checkpoints;  // or null
};

struct Backward {
  Sequence grad_states;   // n = D, of the drive's dtype
  Sequence grad_outputs;  // n = O, of the drive's dtype, with a read-out
  Sequence grad_last_outputs;
  const void* grad_last;  // (B,D) Real, or null
  const void* h0;         // or null; read when states must be computed again
  Sequence states;        // Real; absent: rebuilt from last and checkpoints, or computed again from checkpoints
  const void* last;
  const void* checkpoints;
  const void* weight_rows;  // fused with grad_drive: U, (D, I padded to 16) Real
  Sequence grad_drive;
  void* grad_h0;
  bool need_sign, need_weight;
};

// Where the sums of a backward lie in a partial, in elements
struct Partial {
  int64_t sign, bias, act_bias, weight, readout, readout_bias, elements;

  Partial(const Problem& p, bool need_weight) : sign(0), bias(p.padded), act_bias(2 * p.padded), weight(3 * p.padded) {
    readout = weight + (need_weight ? p.inputs : 0) * p.padded;
    readout_bias = readout + p.readout.outputs * p.padded;
    elements = readout_bias + (p.readout.outputs > 0 ? kMostOutputs : 0);
  }
};

struct Kernels {
  int64_t (*scratch)(const Problem& problem) noexcept;  // Real elements one tile needs
  void (*forward)(const Problem& problem, const Forward& io, int64_t tile, void* scratch) noexcept;
  void (*backward)(const Problem& problem, const Backward& io, int64_t tile, void* partial, void* scratch) noexcept;
};

SYLVESTER_LEVELS(Kernels)

}  // namespace sylvester::hadamard_scan
