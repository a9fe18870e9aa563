// Level -> kernel table, falling to the next lower level that an operator provides. Chosen once a call.
#pragma once

#include "common/half.h"
#include "common/isa.h"

namespace sylvester {

// The kernels of an operator at the three levels it is compiled for; VNNI levels fall to the one below.
// Kernels: a struct of function pointers, defined by each <op>.h.
template <class Kernels>
struct Levels {
  const Kernels* scalar;
  const Kernels* avx2;
  const Kernels* avx512;

  // float64 runs at the scalar level, whatever the CPU has.
  const Kernels& select(Dtype dtype) const {
    if (dtype == Dtype::float64) return chosen(Isa::scalar, *scalar);
    const Isa level = isa_active();
    if (level >= Isa::avx512 && avx512 != nullptr) return chosen(Isa::avx512, *avx512);
    if (level >= Isa::avx2 && avx2 != nullptr) return chosen(Isa::avx2, *avx2);
    return chosen(Isa::scalar, *scalar);
  }

 private:
  static const Kernels& chosen(Isa level, const Kernels& kernels) {
    isa_record(level);
    return kernels;
  }
};

// Each <op>_simd.cpp defines `const Kernels kernels` in namespace sylvester::<op>::<level>.
#if defined(__x86_64__)
#define SYLVESTER_LEVELS(Kernels) \
  namespace scalar { extern const Kernels kernels; } \
  namespace avx2 { extern const Kernels kernels; } \
  namespace avx512 { extern const Kernels kernels; } \
  constexpr Levels<Kernels> levels{&scalar::kernels, &avx2::kernels, &avx512::kernels};
#else
#define SYLVESTER_LEVELS(Kernels) \
  namespace scalar { extern const Kernels kernels; } \
  constexpr Levels<Kernels> levels{&scalar::kernels, nullptr, nullptr};
#endif

}  // namespace sylvester
