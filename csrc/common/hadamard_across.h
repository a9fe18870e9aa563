// The factor of blocks of m·2^k, H = H_m ⊗ S: H_m across the m parts of a block, 16 columns at a time, before the
// butterflies inside the parts (hadamard.h, hadamard_stream.h with blocks of 2^k).
//
// Columns go through a buffer in the first-level cache, which the sums are taken from. Orders that models have are
// unrolled (hadamard_columns.h); other orders, and the scalar level, read lists (hadamard_factor.h): one load an
// addition. Either way a sum takes its inputs in the plan's order, so levels agree bit for bit. H_344 is no sum:
// hadamard_cubic.h.
#pragma once

#include "common/across_blocks.h"
#include "common/hadamard_columns.h"
#include "common/hadamard_cubic.h"

namespace {

using sylvester::cubic;
using sylvester::FactorSums;
using sylvester::turned;

template <class V>
SYLVESTER_INLINE void turned_rows(const V (&s)[kSums], V (&y)[kGroupRows]) {
#pragma GCC unroll 4
  for (int k = 0; k < kGroupRows; ++k) y[k] = add(s[2 * k], s[2 * k + 1]);
}

// put(row, sum) of a ±1 matrix with the vectors of buffer: the inputs, then the inputs negated, then −0
template <class V, class Put>
void listed_rows(const FactorSums& f, const typename V::Real* buffer, const Put& put) {
  const uint64_t* word = f.words;
  const bool folded = paired(f.m), turn = turned(f.m);
  for (int g = 0, groups = groups_of(f.m); g < groups; ++g) {
    V s[kSums], y[kGroupRows];
    const uint64_t longest = *word++;
    for (uint64_t t = 0; t < longest; ++t, word += kSums / 4) {
#pragma GCC unroll 8
      for (int n = 0; n < kSums; ++n) {
        const V x = load<V>(buffer + (word[n / 4] >> n % 4 * 16 & 0xffff) * kLanes);
        s[n] = t == 0 ? x : add(s[n], x);
      }
    }
    folded ? folded_rows(s, y) : turn ? turned_rows(s, y) : plain_rows(s, y);
    for (int k = 0; k < kGroupRows; ++k) {
      if (f.plan->rows[g][k] >= 0) put(f.plan->rows[g][k], y[k]);
    }
  }
}

// Of input j of each of four circulants, `part` apart: the sums that other rows take, and those that rows j take
template <class V>
SYLVESTER_INLINE void turned_inputs(bool transpose, const typename V::Real* in, int64_t part, V (&sums)[4],
                                    V (&own)[4]) {
  const V x0 = load<V>(in), x1 = load<V>(in + part), x2 = load<V>(in + 2 * part), x3 = load<V>(in + 3 * part);
  const V a = add(x0, x1), b = sub_fused(x1, x0), c = add(x2, x3), d = sub_fused(x2, x3);
  const V odd[] = {add_fused(c, b), sub(c, b), sub_fused(a, d), add(a, d)};
  const V even[] = {add(a, c), sub_fused(a, c), add_fused(b, d), sub(b, d)};
  const V odd_rows[] = {negated(odd[0]), odd[3], odd[1], odd[2]};
  const V even_rows[] = {even[0], even[3], even[2], negated(even[1])};
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    sums[k] = transpose ? even[k] : odd[k];
    own[k] = transpose ? odd_rows[k] : even_rows[k];
  }
}

// A column of 16 lanes whose m elements are stride apart; in may be out
template <class V>
void listed_column(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t stride) {
  using Real = typename V::Real;
  const int64_t size = f.order * kLanes;
  alignas(64) Real u[2 * (sylvester::kLargestFound + 1) * kLanes];
  const auto complete = [&](Real* w) {
    for (int64_t k = 0; k < size; k += kLanes) store(w + size + k, negated(load<V>(w + k)));
    store(w + 2 * size, negated(zero<V>()));
  };
  if (turned(f.m)) {
    for (int j = 0; j < f.m / 4; ++j) {
      V sums[4], own[4];
      turned_inputs(f.transpose, in + j * stride, f.m / 4 * stride, sums, own);
      for (int k = 0; k < 4; ++k) {
        store(u + (4 * j + k) * kLanes, sums[k]);
        store(out + (k * (f.m / 4) + j) * stride, own[k]);
      }
    }
    complete(u);
    return listed_rows<V>(f, u, [&](int k, V y) { store(out + k * stride, add(load<V>(out + k * stride), y)); });
  }
  if (f.order == f.m) {
    for (int k = 0; k < f.m; ++k) store(u + k * kLanes, load<V>(in + k * stride));
    complete(u);
    return listed_rows<V>(f, u, [&](int k, V y) { store(out + k * stride, y); });
  }
  Real* const v = u + 2 * size + kLanes;
  const auto rows = [&](int k, int n) -> int64_t { return f.plan->pairs[k][n]; };
  folded_inputs<V>(f.order, rows, in, u, v, stride, 0, f.order / 2 - 1);
  complete(u);
  complete(v);
  const auto part = [&](const Real* w, Real two, int64_t first) {
    listed_rows<V>(f, w, [&](int k, V y) {
      store(out + first + k * stride, fma(load<V>(in + first + k * stride), broadcast<V>(two), y));
    });
  };
  part(u, -2, 0);
  part(v, 2, f.order * stride);
}

// H_m across the parts of each of `blocks` blocks; a part is a multiple of 16; in may be out. H_344 is times scale.
template <class V>
void across(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t blocks, int64_t part,
            double scale) {
  const int64_t block = f.m * part;
  if (cubic(f.m)) {
    for (int64_t i = 0; i < blocks * block; i += block) cubic_rows<V>(in + i, out + i, part, f.transpose, scale);
    return;
  }
  const auto fixed = [&]<int M>() {
    if (paired(M) || !f.transpose) {
      fixed_columns<V, M, false>(in, out, blocks, part);
    } else if constexpr (!paired(M)) {
      fixed_columns<V, M, true>(in, out, blocks, part);
    }
  };
  if constexpr (kVectorUnits<V>) {
    switch (f.m) {
      case 12: return fixed.template operator()<12>();
      case 20: return fixed.template operator()<20>();
      case 28: return fixed.template operator()<28>();
      case 36: return fixed.template operator()<36>();
      case 44: return fixed.template operator()<44>();
      case 52: return fixed.template operator()<52>();
      case 60: return fixed.template operator()<60>();
      case 76: return fixed.template operator()<76>();
      case 84: return fixed.template operator()<84>();
      case 100: return fixed.template operator()<100>();
      case 108: return fixed.template operator()<108>();
      case 124: return fixed.template operator()<124>();
      case 148: return fixed.template operator()<148>();
      default: break;
    }
  }
  for (int64_t i = 0; i < blocks * block; i += block) {
    for (int64_t c = i; c < i + part; c += kLanes) listed_column<V>(f, in + c, out + c, part);
  }
}

// Blocks of m·part elements with part < 16, as many side by side as fill 16 columns
template <class V>
void across_small_parts(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t blocks,
                        int64_t part, double scale) {
  using Real = typename V::Real;
  alignas(64) Real table[sylvester::kLargestFactor * kLanes] = {};
  const int64_t abreast = kLanes / part, block = f.m * part;
  const auto place = [&](int64_t i) { return i % block / part * kLanes + i / block * part + i % part; };
  for (int64_t b = 0; b < blocks; b += abreast) {
    const int64_t count = (b + abreast <= blocks ? abreast : blocks - b) * block;
    for (int64_t i = 0; i < count; ++i) table[place(i)] = in[b * block + i];
    across<V>(f, table, table, 1, kLanes, scale);
    for (int64_t i = 0; i < count; ++i) out[b * block + i] = table[place(i)];
  }
}

// As in across_blocks.h
template <class V>
sylvester::Left across_blocks(const FactorSums& f, const typename V::Real* in, typename V::Real* out, int64_t width,
                              int64_t block, double scale) {
  const int64_t part = block / f.m;
  if constexpr (kVectorUnits<V>) {
    if (cubic(f.m) && part == 2 * kLanes) {
      for (int64_t i = 0; i < width; i += block) cubic_rows_of_32<V>(in + i, out + i, f.transpose, scale);
      return {1, true};
    }
  }
  part < kLanes ? across_small_parts<V>(f, in, out, width / block, part, scale)
                : across<V>(f, in, out, width / block, part, scale);
  return {part, cubic(f.m)};
}

}  // namespace
