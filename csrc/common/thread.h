// Rows over torch's threads, inline when there is too little work to share.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>

#include "common/pages.h"

namespace sylvester {

// Work per thread, in vector element-operations, below which waking a thread costs more than it saves (about 10 us)
constexpr int64_t kThreadGrain = 1 << 19;

// body(begin, end) over [0, count), in ranges of at least kThreadGrain / cost items. The body must not throw: an
// exception would lose its text on the way.
template <class Body>
void parallel(int64_t count, int64_t cost, const Body& body) {
  const int64_t grain = cost >= kThreadGrain ? 1 : kThreadGrain / (cost > 0 ? cost : 1) + 1;
  if (count <= grain) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  torch::stable::parallel_for(0, count, grain, body);
}

// The same with a private array of `elements` Real numbers for each range (null for none). They are allocated here,
// outside the body.
template <class Real, class Body>
void parallel_with_scratch(int64_t count, int64_t cost, int64_t elements, const Body& body) {
  if (elements == 0) {
    return parallel(count, cost, [&](int64_t begin, int64_t end) { body(begin, end, static_cast<Real*>(nullptr)); });
  }
  const int64_t stride = (elements + 63) / 64 * 64, threads = torch::stable::get_num_threads();
  const Scratch<Real> arrays = scratch<Real>(stride * threads);
  std::atomic<int64_t> next{0};
  parallel(count, cost, [&](int64_t begin, int64_t end) {
    body(begin, end, arrays.get() + stride * (next.fetch_add(1, std::memory_order_relaxed) % threads));
  });
}

}  // namespace sylvester
