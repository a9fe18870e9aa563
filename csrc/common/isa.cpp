#include "common/isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace sylvester {
namespace {

constexpr const char* kNames[kIsaCount] = {"scalar", "avx2", "avxvnni", "avx512", "avx512vnni"};
constexpr int kUnset = -1;

std::atomic<int> active_level{kUnset};
std::atomic<int> ran_level{static_cast<int>(Isa::scalar)};

std::string supported_names() {
  std::string names;
  for (int code = 0; code < kIsaCount; ++code) {
    if (isa_supported(static_cast<Isa>(code))) names += (names.empty() ? "" : ", ") + std::string(kNames[code]);
  }
  return names;
}

Isa best_level() {
  for (int code = kIsaCount - 1; code > 0; --code) {
    if (isa_supported(static_cast<Isa>(code))) return static_cast<Isa>(code);
  }
  return Isa::scalar;
}

Isa level_from_environment() {
  const char* wanted = std::getenv("SYLVESTER_ISA");
  if (wanted == nullptr || *wanted == '\0') return best_level();
  for (int code = 0; code < kIsaCount; ++code) {
    if (std::strcmp(wanted, kNames[code]) != 0) continue;
    if (isa_supported(static_cast<Isa>(code))) return static_cast<Isa>(code);
    throw std::invalid_argument("SYLVESTER_ISA=" + std::string(wanted) + ": this CPU lacks it, it has " +
                                supported_names());
  }
  throw std::invalid_argument("SYLVESTER_ISA=" + std::string(wanted) + ": no such level, this CPU has " +
                              supported_names());
}

}  // namespace

bool isa_supported(Isa level) noexcept {
  if (level == Isa::scalar) return true;
#if defined(__x86_64__)
  // The builtins also ask the operating system (XGETBV), so a masked feature counts as absent.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  switch (level) {
    case Isa::avx2: return avx2;
    case Isa::avxvnni: return avx2 && __builtin_cpu_supports("avxvnni");
    case Isa::avx512: return avx512;
    case Isa::avx512vnni: return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    default: return false;
  }
#else
  return false;
#endif
}

Isa isa_active() {
  int code = active_level.load(std::memory_order_relaxed);
  if (code == kUnset) {
    code = static_cast<int>(level_from_environment());
    active_level.store(code, std::memory_order_relaxed);
  }
  return static_cast<Isa>(code);
}

void isa_force(Isa level) {
  const int code = static_cast<int>(level);
  if (code < 0 || code >= kIsaCount || !isa_supported(level)) {
    throw std::invalid_argument("level " + (code < 0 || code >= kIsaCount ? std::to_string(code) : kNames[code]) +
                                ": this CPU lacks it, it has " + supported_names());
  }
  active_level.store(code, std::memory_order_relaxed);
}

void isa_record(Isa level) noexcept { ran_level.store(static_cast<int>(level), std::memory_order_relaxed); }

Isa isa_ran() noexcept { return static_cast<Isa>(ran_level.load(std::memory_order_relaxed)); }

}  // namespace sylvester
