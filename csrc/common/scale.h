// The scale of a transform as a sum of two numbers of the arithmetic type.
//
// 2^(-k/2) with odd k is irrational: its float is 1.7e-8 low, and a recurrence applies it once a step, 1.7e-3 at
// 100,000 steps. hi + lo holds it to 48 bits, and fma(y, hi, y·lo) multiplies by it in about one rounding.
#pragma once

#include <cmath>
#include <optional>

#include "common/half.h"

namespace sylvester {

struct Scale {
  double hi;  // representable in the arithmetic type (float; double for float64)
  double lo;  // the rest, of hi's sign or 0, so that infinity times the scale stays infinity
};

// None: 1/sqrt(block)
inline Scale split_scale(std::optional<double> scale, int64_t block, Dtype dtype) {
  const long double exact =
      scale ? static_cast<long double>(*scale) : 1.0L / std::sqrt(static_cast<long double>(block));
  if (dtype == Dtype::float64) {
    const double near = static_cast<double>(exact);
    const double hi = std::fabs(near) > std::fabs(exact) ? std::nextafter(near, 0.0) : near;
    return {hi, static_cast<double>(exact - hi)};
  }
  // A scale that a user gives as a number has no more meaning than its float; only the exact one is split.
  if (scale) return {static_cast<double>(static_cast<float>(*scale)), 0.0};
  const float near = static_cast<float>(exact);
  const float hi = near > exact ? std::nextafterf(near, 0.0f) : near;
  return {hi, static_cast<double>(static_cast<float>(exact - hi))};
}

}  // namespace sylvester
