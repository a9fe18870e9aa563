// Between the caller's arrays and the recurrence's padded Real rows: conversion, and the small products of a fused
// drive.
#pragma once

#include "common/parts.h"
#include "hadamard_scan/hadamard_scan.h"

namespace {

using sylvester::Dtype;
using sylvester::hadamard_scan::DriveKind;
using sylvester::hadamard_scan::Problem;
using sylvester::hadamard_scan::Sequence;

template <class V, class T>
void widen_row(const T* from, int64_t count, typename V::Real* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load_as<V>(from + i));
  if (i < count) store(to + i, load_part_as<V>(from + i, count - i));
}

template <class V, class T>
void narrow_row(const typename V::Real* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_as(to + i, load<V>(from + i));
  if (i < count) store_part_as(to + i, load<V>(from + i), count - i);
}

// count elements of dtype into Real, padded with zeros to a multiple of 16
template <class V>
void widen_row(const void* from, Dtype dtype, int64_t count, typename V::Real* to) {
  if constexpr (sizeof(typename V::Real) == 8) {
    widen_row<V>(static_cast<const double*>(from), count, to);
  } else if (dtype == Dtype::bfloat16) {
    widen_row<V>(static_cast<const bfloat16*>(from), count, to);
  } else if (dtype == Dtype::float16) {
    widen_row<V>(static_cast<const float16*>(from), count, to);
  } else {
    widen_row<V>(static_cast<const float*>(from), count, to);
  }
}

// The reverse; the padding stays behind
template <class V>
void narrow_row(const typename V::Real* from, Dtype dtype, int64_t count, void* to) {
  if constexpr (sizeof(typename V::Real) == 8) {
    narrow_row<V>(from, count, static_cast<double*>(to));
  } else if (dtype == Dtype::bfloat16) {
    narrow_row<V>(from, count, static_cast<bfloat16*>(to));
  } else if (dtype == Dtype::float16) {
    narrow_row<V>(from, count, static_cast<float16*>(to));
  } else {
    narrow_row<V>(from, count, static_cast<float*>(to));
  }
}

inline char* element(const Sequence& s, int64_t t, int64_t b) {
  return static_cast<char*>(s.data) + (t * s.step + b * s.row) * sylvester::size_of(s.dtype);
}

// True when rows of s can be read and written in place as padded Real rows
inline bool is_direct(const Problem& p, const Sequence& s) { return s.dtype == p.real && p.width == p.padded; }

// The row of s at (t, b): the caller's memory, or `to` filled from it
template <class V>
const typename V::Real* read_row(const Problem& p, const Sequence& s, int64_t t, int64_t b, typename V::Real* to) {
  const char* from = element(s, t, b);
  if (is_direct(p, s)) return reinterpret_cast<const typename V::Real*>(from);
  widen_row<V>(from, s.dtype, p.width, to);
  return to;
}

inline int64_t token_of(const Problem& p, int64_t t, int64_t b) {
  return static_cast<const int64_t*>(p.drive.data)[t * p.drive.step + b * p.drive.row];
}

template <class V>
const typename V::Real* read_token(const Problem& p, int64_t t, int64_t b, typename V::Real* to) {
  const char* from =
      static_cast<const char*>(p.weight) + token_of(p, t, b) * p.width * sylvester::size_of(p.weight_dtype);
  if (p.weight_dtype == p.real && p.width == p.padded) return reinterpret_cast<const typename V::Real*>(from);
  widen_row<V>(from, p.weight_dtype, p.width, to);
  return to;
}

// z[s][·] = Σ_i x[s][i] · w[i][·] for Samples samples and Columns vectors; every element is one chain in ascending i
template <class V, int Samples, int Columns>
SYLVESTER_INLINE void mix_block(const typename V::Real* x, int64_t x_stride, int64_t inputs, const typename V::Real* w,
                                int64_t width, typename V::Real* z) {
  V sum[Samples][Columns];
  for (int s = 0; s < Samples; ++s)
    for (int j = 0; j < Columns; ++j) sum[s][j] = zero<V>();
  for (int64_t i = 0; i < inputs; ++i) {
    V weight[Columns];
    for (int j = 0; j < Columns; ++j) weight[j] = load<V>(w + i * width + j * kLanes);
    for (int s = 0; s < Samples; ++s)
      for (int j = 0; j < Columns; ++j) sum[s][j] = fma(broadcast<V>(x[s * x_stride + i]), weight[j], sum[s][j]);
  }
  for (int s = 0; s < Samples; ++s)
    for (int j = 0; j < Columns; ++j) store(z + s * width + j * kLanes, sum[s][j]);
}

// Inputs of one-hot and image kind are mostly zeros, and a term 0·w only costs time. A sample with at most this many
// others takes them one by one.
constexpr int64_t kSparseInputs = 4;

// The places of the non-zeros among x[0, inputs), or -1 when there are more than kSparseInputs (or a dense product is
// as short)
template <class Real>
SYLVESTER_INLINE int64_t sparse_places(const Real* x, int64_t inputs, int64_t (&places)[kSparseInputs]) {
  if (inputs <= 1) return -1;
  int64_t count = 0;
  for (int64_t i = 0; i < inputs; ++i) {
    if (x[i] == 0) continue;
    if (count == kSparseInputs || 2 * count >= inputs) return -1;
    places[count++] = i;
  }
  return count;
}

template <class V>
SYLVESTER_INLINE bool mix_sparse(const typename V::Real* x, int64_t inputs, const typename V::Real* w, int64_t width,
                                 typename V::Real* z) {
  int64_t places[kSparseInputs];
  const int64_t count = sparse_places(x, inputs, places);
  if (count < 0) return false;
  for (int64_t j = 0; j < width; j += kLanes) {
    V sum = zero<V>();
    for (int64_t n = 0; n < count; ++n) {
      sum = fma(broadcast<V>(x[places[n]]), load<V>(w + places[n] * width + j), sum);
    }
    store(z + j, sum);
  }
  return true;
}

// x (samples, x_stride) times w (inputs, width) into z (samples, width); width is a multiple of 16
template <class V>
void mix(const typename V::Real* x, int64_t x_stride, int64_t samples, int64_t inputs, const typename V::Real* w,
         int64_t width, typename V::Real* z) {
  constexpr int kSamples = 4, kColumns = V::kRegisters >= 16 ? 4 : 1;
  for (int64_t s = 0; s < samples;) {
    if (mix_sparse<V>(x + s * x_stride, inputs, w, width, z + s * width)) {
      ++s;
      continue;
    }
    const bool four = s + kSamples <= samples;
    for (int64_t j = 0; j < width;) {
      const bool wide = j + kColumns * kLanes <= width;
      const auto *xs = x + s * x_stride, *ws = w + j;
      auto* zs = z + s * width + j;
      if (four && wide) mix_block<V, kSamples, kColumns>(xs, x_stride, inputs, ws, width, zs);
      if (four && !wide) mix_block<V, kSamples, 1>(xs, x_stride, inputs, ws, width, zs);
      if (!four && j + 2 * kColumns * kLanes <= width) {
        mix_block<V, 1, 2 * kColumns>(xs, x_stride, inputs, ws, width, zs);
        j += 2 * kColumns * kLanes;
        continue;
      }
      if (!four && wide) mix_block<V, 1, kColumns>(xs, x_stride, inputs, ws, width, zs);
      if (!four && !wide) mix_block<V, 1, 1>(xs, x_stride, inputs, ws, width, zs);
      j += (wide ? kColumns : 1) * kLanes;
    }
    s += four ? kSamples : 1;
  }
}

// w[i][·] += Σ_s x[s][i] · y[s][·] for Inputs inputs and Columns vectors, in ascending s
template <class V, int Inputs, int Columns>
SYLVESTER_INLINE void outer_block(const typename V::Real* x, int64_t x_stride, const typename V::Real* y,
                                  int64_t samples, int64_t width, typename V::Real* w) {
  V sum[Inputs][Columns];
  for (int i = 0; i < Inputs; ++i)
    for (int j = 0; j < Columns; ++j) sum[i][j] = load<V>(w + i * width + j * kLanes);
  for (int64_t s = 0; s < samples; ++s) {
    V row[Columns];
    for (int j = 0; j < Columns; ++j) row[j] = load<V>(y + s * width + j * kLanes);
    for (int i = 0; i < Inputs; ++i)
      for (int j = 0; j < Columns; ++j) sum[i][j] = fma(broadcast<V>(x[s * x_stride + i]), row[j], sum[i][j]);
  }
  for (int i = 0; i < Inputs; ++i)
    for (int j = 0; j < Columns; ++j) store(w + i * width + j * kLanes, sum[i][j]);
}

template <class V>
SYLVESTER_INLINE bool outer_sparse(const typename V::Real* x, int64_t x_stride, const typename V::Real* y,
                                   int64_t samples, int64_t inputs, int64_t width, typename V::Real* w) {
  int64_t places[kSparseInputs];
  for (int64_t s = 0; s < samples; ++s)
    if (sparse_places(x + s * x_stride, inputs, places) < 0) return false;
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t count = sparse_places(x + s * x_stride, inputs, places);
    for (int64_t n = 0; n < count; ++n) {
      typename V::Real* to = w + places[n] * width;
      const V factor = broadcast<V>(x[s * x_stride + places[n]]);
      for (int64_t j = 0; j < width; j += kLanes)
        store(to + j, fma(factor, load<V>(y + s * width + j), load<V>(to + j)));
    }
  }
  return true;
}

// w (inputs, width) += xᵀ y with x (samples, x_stride), y (samples, width)
template <class V>
void outer(const typename V::Real* x, int64_t x_stride, const typename V::Real* y, int64_t samples, int64_t inputs,
           int64_t width, typename V::Real* w) {
  constexpr int kInputs = 5, kColumns = V::kRegisters >= 16 ? 4 : 1;
  if (outer_sparse<V>(x, x_stride, y, samples, inputs, width, w)) return;
  for (int64_t i = 0; i < inputs;) {
    const bool many = i + kInputs <= inputs;
    for (int64_t j = 0; j < width;) {
      const bool wide = j + kColumns * kLanes <= width;
      auto* ws = w + i * width + j;
      if (many && wide) outer_block<V, kInputs, kColumns>(x + i, x_stride, y + j, samples, width, ws);
      if (many && !wide) outer_block<V, kInputs, 1>(x + i, x_stride, y + j, samples, width, ws);
      if (!many && wide) outer_block<V, 1, kColumns>(x + i, x_stride, y + j, samples, width, ws);
      if (!many && !wide) outer_block<V, 1, 1>(x + i, x_stride, y + j, samples, width, ws);
      j += (wide ? kColumns : 1) * kLanes;
    }
    i += many ? kInputs : 1;
  }
}

}  // namespace
