// From a format at run time to one at compile time.
#pragma once

#include "common/lanes.h"
#include "lowbit_matmul/lowbit_matmul.h"

namespace {

using sylvester::lowbit_matmul::coding_of;
using sylvester::lowbit_matmul::Format;
using sylvester::lowbit_matmul::kGroup;
using sylvester::lowbit_matmul::kUnitBytes;

// body.template run<format>() of the format at hand
template <class Body>
SYLVESTER_INLINE void with_format(Format format, const Body& body) {
  switch (format) {
    case Format::binary: return body.template run<Format::binary>();
    case Format::ternary: return body.template run<Format::ternary>();
    case Format::trits: return body.template run<Format::trits>();
    case Format::int2: return body.template run<Format::int2>();
    case Format::int4: return body.template run<Format::int4>();
    case Format::int8: return body.template run<Format::int8>();
  }
}

}  // namespace
