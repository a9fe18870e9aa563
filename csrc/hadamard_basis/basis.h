// The basis a block of steps at a time, made and differentiated by the kernels of hadamard_scan: P_j is the state of
// that recurrence with the rows [U b] as h0 and nothing to drive it.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "common/thread.h"
#include "hadamard_basis/hadamard_basis.h"
#include "hadamard_scan/problem.h"

namespace sylvester::hadamard_basis {

using hadamard_scan::Bound;
using hadamard_scan::DriveKind;
using hadamard_scan::Problem;
using hadamard_scan::Sequence;

constexpr int64_t kBlockElements = int64_t{1}
                                   << 17;  // of a basis block: it shares a second-level cache with the inputs

// C: by the shape of the weight alone, room for a bias included
inline int64_t block_steps(int64_t inputs, int64_t padded) {
  return std::max<int64_t>(1, kBlockElements / ((inputs + 1) * padded));
}
inline int64_t block_count(int64_t steps, int64_t length) { return (steps + length - 1) / length; }

inline int64_t odd_lines(int64_t padded) { return padded % 32 == 0 ? padded + 16 : padded; }

// Element (j, i) of steps × inputs, as one even axis where it is one
inline Axis steps_by_inputs(int64_t steps, int64_t inputs, int64_t step, int64_t input) {
  if (inputs == 1) return Axis::even(steps, step);
  if (step == inputs * input) return Axis::even(steps * inputs, input);
  return {steps * inputs, std::max<int64_t>(1, inputs), step, input};
}

// A drive in the order of the basis: j = 0 is the last step
struct Inputs {
  Sequence s;
  int64_t steps, batch, inputs;
  bool reverse;

  int64_t step() const { return reverse ? s.step : -s.step; }
  void* at(int64_t j) const {
    return static_cast<char*>(s.data) + (reverse ? j : steps - 1 - j) * s.step * size_of(s.dtype);
  }
};
inline Inputs inputs_of(const Problem& p, const Sequence& s) { return {s, p.steps, p.batch, p.inputs, p.reverse}; }

// Rows of a batch are worked on in groups, one thread a group: each makes the basis for itself, since cores that pass
// it on wait for each other's caches longer than it takes to make. From this many rows on the products take longer.
constexpr int64_t kGroupRows = 48;
constexpr int64_t kMostGroups = 8;

inline int64_t group_count(int64_t batch) { return std::clamp<int64_t>(batch / kGroupRows, 1, kMostGroups); }

// The rows [first, first + batch) of group i of `groups`
inline int64_t first_of(const Problem& p, int64_t i, int64_t groups) { return i * p.batch / groups; }
inline Problem group_of(const Problem& p, int64_t i, int64_t groups) {
  const int64_t first = first_of(p, i, groups);
  Problem group = p;
  group.batch = first_of(p, i + 1, groups) - first;
  group.drive.data = static_cast<char*>(p.drive.data) + first * p.drive.row * size_of(p.drive.dtype);
  return group;
}

// Element-operations of one group forward, for the thread grain
inline int64_t group_cost(const Problem& p, int64_t groups) {
  const int64_t rows = p.batch / groups + 8;  // what the basis takes is worth eight rows
  return p.steps * (p.kind == DriveKind::token ? 1 : p.inputs) * p.padded * rows;
}

enum class Threads { one, all };

// body(begin, end) over [0, count), on one thread or as parallel() shares it
template <class Body>
void spread(Threads threads, int64_t count, int64_t cost, const Body& body) {
  if (threads == Threads::all) return parallel(count, cost, body);
  if (count > 0) body(int64_t{0}, count);
}

inline void run_pack(const Kernels& kernels, const Pack& p, Threads threads = Threads::one) {
  constexpr int64_t kScalar = 16;  // a number is moved at the cost of a vector
  spread(threads, block_count(p.rows.count, kUnit), kScalar * kUnit * p.depth.count,
         [&](int64_t begin, int64_t end) { kernels.pack(p, begin * kUnit, std::min(end * kUnit, p.rows.count)); });
}

inline void run_product(const Kernels& kernels, const Product& p, Threads threads = Threads::one) {
  const int64_t items = block_count(p.c_rows.count, kRowBlock) * block_count(p.columns, kColumnBlock);
  const int64_t rows = std::min(p.c_rows.count, kRowBlock);
  spread(threads, items, rows * kColumnBlock * p.b_rows.count, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) kernels.multiply(p, item);
  });
}

template <class Real>
Scratch<Real> zeros(int64_t count) {
  Scratch<Real> made = scratch<Real>(count);
  std::fill(made.get(), made.get() + count, Real{0});
  return made;
}

// Where rows have padding it must hold zeros
template <class Real>
Scratch<Real> padded_rows(const Problem& p, int64_t count) {
  return p.width == p.padded ? scratch<Real>(count) : zeros<Real>(count);
}

// Rows in memory: row i of step j at data + j · step + i · row
template <class Real>
struct Rows {
  Real* data;
  int64_t step, row;
  Real* at(int64_t j, int64_t i) const { return data + j * step + i * row; }
};

// sums (B, ·) += what the n steps of the basis from step j on give the inputs; packed: B · n · I elements, or none for
// tokens
template <class Real>
void add_products(const Kernels& kernels, const Inputs& x, bool tokens, int64_t j, int64_t n, const Rows<Real>& basis,
                  int64_t columns, Real* packed, const Rows<Real>& sums, Threads threads = Threads::one) {
  const Dtype real = sizeof(Real) == 8 ? Dtype::float64 : Dtype::float32;
  if (tokens) {
    const Lookup lookup{static_cast<const int64_t*>(x.at(j)),
                        x.step(),
                        x.s.row,
                        n,
                        x.batch,
                        basis.data,
                        basis.step,
                        basis.row,
                        sums.data,
                        sums.row,
                        columns,
                        real};
    return spread(threads, block_count(columns, kLookupColumns), kLookupColumns * n * x.batch,
                  [&](int64_t begin, int64_t end) {
                    kernels.gather(lookup, begin * kLookupColumns, std::min(end * kLookupColumns, columns));
                  });
  }
  const Axis depth = steps_by_inputs(n, x.inputs, x.step(), 1), rows = Axis::even(x.batch, x.s.row);
  run_pack(kernels, {x.at(j), x.s.dtype, rows, depth, packed, real}, threads);
  const Axis basis_rows = steps_by_inputs(n, x.inputs, basis.step, basis.row);
  run_product(kernels, {packed, basis.data, sums.data, basis_rows, Axis::even(x.batch, sums.row), columns, true, real},
              threads);
}

// The recurrence P_{j+1} = W P_j of the rows [U b], a block of `length` steps at a time
template <class Real>
struct Basis {
  const hadamard_scan::Kernels& scan;
  Problem p;
  int64_t inputs, rows, length;
  Scratch<Real> nothing, memory, carry, work;  // carry (rows, D): where the next block starts
  Rows<Real> block;                            // (length + 1, rows): P_j, and where the next block starts

  Basis(const Bound& b, const std::optional<Tensor>& bias)
      : scan(hadamard_scan::levels.select(b.p.real)),
        p(b.p),
        inputs(b.p.inputs),
        rows(b.p.inputs + (bias ? 1 : 0)),
        length(block_steps(inputs, b.p.padded)) {
    length = std::min(length, std::max<int64_t>(1, p.steps));
    block.row = odd_lines(p.padded);
    block.step = rows * block.row;
    nothing = zeros<Real>(p.padded);
    memory = padded_rows<Real>(p, (length + 1) * block.step);
    block.data = memory.get();
    carry = scratch<Real>(rows * p.width);
    p.kind = DriveKind::given;
    p.drive = {nothing.get(), 0, 0, p.real};
    p.weight = nullptr;
    p.inputs = 0;
    p.reverse = false;
    p.batch = rows;
    p.tile_rows = std::clamp<int64_t>((rows + 15) / 16, 1, hadamard_scan::kMaxTileRows);
    work = scratch<Real>(scan.scratch(p));
    read_start(b, bias);
  }

  void read_start(const Bound& b, const std::optional<Tensor>& bias) {
    std::optional<Tensor> table;
    const Real* from = static_cast<const Real*>(b.p.weight);
    if (b.p.kind == DriveKind::token) {
      table = hadamard_scan::converted(*b.table, p.real);
      from = static_cast<const Real*>(table->data_ptr());
    }
    const int64_t row = table ? p.width : p.padded;
    for (int64_t i = 0; i < inputs; ++i) std::copy_n(from + i * row, p.width, carry.get() + i * p.width);
    if (!bias) return;
    const Tensor values = hadamard_scan::converted(*bias, p.real);
    const Real* shift = static_cast<const Real*>(values.data_ptr());
    for (int64_t d = 0; d < p.width; ++d) carry[inputs * p.width + d] = shift[d * values.stride(0)];
  }

  int64_t blocks(int64_t steps) const { return block_count(steps, length); }
  int64_t steps_of(int64_t k, int64_t steps) const { return std::min(length, steps - k * length); }

  // n steps of the basis into block, from start (rows, D), which carry may be; more: also where the next block starts
  void fill(const Real* start, int64_t n, bool more) {
    for (int64_t i = 0; i < rows; ++i) std::copy_n(start + i * p.width, p.width, block.at(0, i));
    p.steps = more ? n : n - 1;
    hadamard_scan::Forward io{};
    io.h0 = start;
    io.states = {block.at(1, 0), block.step, block.row, p.real};
    io.last = carry.get();
    for (int64_t tile = 0; tile < tile_count(p); ++tile) scan.forward(p, io, tile, work.get());
  }
};

}  // namespace sylvester::hadamard_basis
