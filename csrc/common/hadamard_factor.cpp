// The sums of every factor that was asked for, and the factors as tensors: what Python and its references know of them.
#include "common/hadamard_factor.h"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "common/binding.h"

namespace sylvester {
namespace {

// Throws if H_m is none
std::vector<int8_t> matrix(int m) {
  std::vector<int8_t> h(static_cast<size_t>(m) * m);
  hadamard_matrix(m, h.data());
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j <= i; ++j) {
      int product = 0;
      for (int k = 0; k < m; ++k) product += h[i * m + k] * h[j * m + k];
      SYLVESTER_CHECK(product == (i == j ? m : 0), "the Hadamard matrix of order ", m, " is not orthogonal");
    }
  }
  return h;
}

struct Kept {
  Plan plan;
  std::vector<uint64_t> words;
  FactorSums sums;
};

std::unique_ptr<Kept> make(int m, bool transpose) {
  if (cubic(m)) return std::make_unique<Kept>(Kept{{}, {}, {m, m, transpose, nullptr, nullptr}});
  auto kept = std::make_unique<Kept>(Kept{Planner(m, transpose).plan(), {}, {}});
  const int order = order_of(m);
  const uint64_t nothing = static_cast<uint64_t>(2 * order) * 0x0001000100010001;
  std::vector<uint64_t>& words = kept->words;
  for (int g = 0; g < groups_of(m); ++g) {
    const size_t start = words.size();
    uint64_t counts[kSums] = {}, longest = 0;
    words.push_back(0);
    for (int n = 0; n < order; ++n) {
      const int j = input_of(m, g, n), place = kept->plan.place[g][j], sum = place / 2;
      if (place == Plan::kNowhere) continue;
      const uint64_t row = counts[sum]++;
      if (row == longest) {
        ++longest;
        words.resize(words.size() + kSums / 4, nothing);
      }
      const uint64_t term = static_cast<uint64_t>(j + place % 2 * order);
      words[start + 1 + row * (kSums / 4) + sum / 4] ^= (term ^ static_cast<uint64_t>(2 * order)) << sum % 4 * 16;
    }
    words[start] = longest;
  }
  kept->sums = {m, order, transpose, &kept->plan, words.data()};
  return kept;
}

// Ascending: what hadamard_factor returns
Tensor orders() {
  std::vector<int64_t> found;
  for (int m = 2; m <= kLargestFactor; ++m) {
    if (hadamard_factor(m) == m) found.push_back(m);
  }
  const Tensor out = empty({static_cast<int64_t>(found.size())}, ScalarType::Long);
  std::copy(found.begin(), found.end(), static_cast<int64_t*>(out.data_ptr()));
  return out;
}

int64_t factor_of(int64_t block) { return hadamard_factor(block); }

Tensor factor(int64_t m) {
  SYLVESTER_CHECK(m >= 1 && m <= kLargestFactor && construction(static_cast<int>(m)) != Construction::none,
                  "m must be the order of a known Hadamard factor, got ", m);
  const std::vector<int8_t> h = matrix(static_cast<int>(m));
  const Tensor out = empty({m, m}, ScalarType::Char);
  std::copy(h.begin(), h.end(), static_cast<int8_t*>(out.data_ptr()));
  return out;
}

}  // namespace

const FactorSums* factor_sums(int64_t block, bool transpose) {
  const int m = hadamard_factor(block);
  if (m == 1) return nullptr;
  static std::mutex mutex;
  static std::map<std::pair<int, bool>, std::unique_ptr<Kept>> kept;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<Kept>& entry = kept[{m, transpose && !paired(m)}];
  if (!entry) entry = make(m, transpose);
  return &entry->sums;
}

}  // namespace sylvester

STABLE_TORCH_LIBRARY_FRAGMENT(sylvester, m) {
  m.def("_hadamard_factor(int m) -> Tensor");
  m.def("_hadamard_factor_of(int block) -> int");
  m.def("_hadamard_orders() -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CompositeExplicitAutograd, m) {
  m.impl("_hadamard_factor", TORCH_BOX(&sylvester::factor));
  m.impl("_hadamard_factor_of", TORCH_BOX(&sylvester::factor_of));
  m.impl("_hadamard_orders", TORCH_BOX(&sylvester::orders));
}
