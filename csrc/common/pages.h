// Huge pages for large buffers, and aligned scratch memory for kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sylvester {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kHugePageFloor = int64_t{1} << 20;  // elements: smaller buffers span too few huge pages to gain

// Asks for huge pages under the whole pages inside [data, data + bytes). Advice only: failing is harmless.
inline void advise_huge_pages(void* data, size_t bytes) noexcept {
#if defined(__linux__)
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~(kHugePage - 1);
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

struct Free {
  void operator()(void* data) const noexcept { std::free(data); }
};
template <class T>
using Scratch = std::unique_ptr<T[], Free>;

// count elements on a cache line, not initialised; throws std::bad_alloc
template <class T>
Scratch<T> scratch(int64_t count) {
  const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
  void* data = std::aligned_alloc(64, bytes == 0 ? 64 : bytes);
  if (data == nullptr) throw std::bad_alloc();
  advise_huge_pages(data, bytes);
  return Scratch<T>(static_cast<T*>(data));
}

}  // namespace sylvester
