// Level -> kernel table, falling to the next lower level that an operator provides. Chosen once a call.
#pragma once

#include "common/half.h"
#include "common/isa.h"

namespace sylvester {

// The kernels of an operator at the levels it is compiled for: <op>_dot.cpp at all five, <op>_simd.cpp at the three
// without VNNI, which the VNNI levels fall to. Kernels: a struct of function pointers, defined by each <op>.h.
template <class Kernels>
struct Levels {
  const Kernels* of[kIsaCount];  // null where it is not compiled

  // float64 runs at the scalar level, whatever the CPU has.
  const Kernels& select(Dtype dtype) const {
    if (dtype == Dtype::float64) return chosen(Isa::scalar, *of[0]);
    int level = static_cast<int>(isa_active());
    while (of[level] == nullptr) --level;
    return chosen(static_cast<Isa>(level), *of[level]);
  }

 private:
  static const Kernels& chosen(Isa level, const Kernels& kernels) {
    isa_record(level);
    return kernels;
  }
};

// Each <op>_simd.cpp defines `const Kernels kernels` in namespace sylvester::<op>::<level>, each <op>_dot.cpp `dots`.
#if defined(__x86_64__)
#define SYLVESTER_LEVELS(Kernels) \
  namespace scalar { extern const Kernels kernels; } \
  namespace avx2 { extern const Kernels kernels; } \
  namespace avx512 { extern const Kernels kernels; } \
  constexpr Levels<Kernels> levels{{&scalar::kernels, &avx2::kernels, nullptr, &avx512::kernels, nullptr}};
#define SYLVESTER_DOT_LEVELS(Dots) \
  namespace scalar { extern const Dots dots; } \
  namespace avx2 { extern const Dots dots; } \
  namespace avxvnni { extern const Dots dots; } \
  namespace avx512 { extern const Dots dots; } \
  namespace avx512vnni { extern const Dots dots; } \
  constexpr Levels<Dots> dot_levels{{&scalar::dots, &avx2::dots, &avxvnni::dots, &avx512::dots, &avx512vnni::dots}};
#else
#define SYLVESTER_LEVELS(Kernels) \
  namespace scalar { extern const Kernels kernels; } \
  constexpr Levels<Kernels> levels{{&scalar::kernels}};
#define SYLVESTER_DOT_LEVELS(Dots) \
  namespace scalar { extern const Dots dots; } \
  constexpr Levels<Dots> dot_levels{{&scalar::dots}};
#endif

}  // namespace sylvester
