// Opens the operator namespace; the operators that read and set the CPU level.
#include <stdexcept>

#include "common/binding.h"
#include "common/isa.h"

namespace sylvester {
namespace {

int64_t active() { return static_cast<int64_t>(isa_active()); }
int64_t ran() { return static_cast<int64_t>(isa_ran()); }
void force(int64_t level) {
  SYLVESTER_CHECK(level >= 0 && level < kIsaCount, "level must be 0 to ", kIsaCount - 1, ", got ", level);
  isa_force(static_cast<Isa>(level));
}
int64_t supported() {
  int64_t mask = 0;
  for (int code = 0; code < kIsaCount; ++code) mask |= int64_t{isa_supported(static_cast<Isa>(code))} << code;
  return mask;
}

}  // namespace
}  // namespace sylvester

STABLE_TORCH_LIBRARY(sylvester, m) {
  m.def("_isa() -> int");
  m.def("_isa_supported() -> int");
  m.def("_force_isa(int level) -> ()");
  m.def("_ran() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(sylvester, CompositeExplicitAutograd, m) {
  m.impl("_isa", TORCH_BOX(&sylvester::active));
  m.impl("_isa_supported", TORCH_BOX(&sylvester::supported));
  m.impl("_force_isa", TORCH_BOX(&sylvester::force));
  m.impl("_ran", TORCH_BOX(&sylvester::ran));
}
