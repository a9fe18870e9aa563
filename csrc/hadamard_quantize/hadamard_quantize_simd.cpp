#include "hadamard_quantize/hadamard_quantize.h"

#include "common/across_blocks.h"
#include "common/hadamard_stream.h"
#include "common/quantize.h"

namespace {

using sylvester::hadamard_across::SYLVESTER_LEVEL::across_blocks;
using sylvester::hadamard_quantize::Call;

// The row's loads, and the stores of what will be quantised: the scale is left to that
template <class V, class T, bool kPre>
struct Row {
  using Real = typename V::Real;
  const T* in;
  Real* out;
  const Real* pre;

  SYLVESTER_INLINE void fetch(int64_t i) const { __builtin_prefetch(reinterpret_cast<const char*>(in + i) + kAhead); }
  SYLVESTER_INLINE V load(int64_t i) const {
    const V v = load_as<V>(in + i);
    if constexpr (kPre) return mul(v, ::load<V>(pre + i));
    return v;
  }
  SYLVESTER_INLINE void store(int64_t i, V v) const { ::store(out + i, v); }
  SYLVESTER_INLINE V load_part(int64_t i, int64_t count) const {
    const V v = load_part_as<V>(in + i, count);
    if constexpr (kPre) return mul(v, load_part_as<V>(pre + i, count));
    return v;
  }
  SYLVESTER_INLINE void store_part(int64_t i, V v, int64_t count) const { store_part_as(out + i, v, count); }
};

// Elements [0, count) of blocks of m·2^k: across the m parts in work, then inside them
template <class V, class T, bool kPre>
void run_factor(const Call& call, const Row<V, T, kPre>& row, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) row.store(i, row.load(i));
  if (i < count) row.store_part(i, row.load_part(i, count - i), count - i);
  const int64_t left = across_blocks(*call.factor, row.out, row.out, count, call.block, 1).block;
  if (left == 1) return;
  Row<V, typename V::Real, false> inside{row.out, row.out, nullptr};
  hadamard_stream<V>(row.out, inside, count, left);
}

template <class V, class T, bool kPre>
void run_rows(const Call& call) {
  using Real = typename V::Real;
  Real *work = static_cast<Real*>(call.work), *scales = static_cast<Real*>(call.scales);
  // Without pre nothing depends on the place in the row: several are one long row.
  const int64_t width = call.width, abreast = kPre ? 1 : rows_abreast<T>(call.rows, width);
  for (int64_t r = 0; r < call.rows; r += abreast) {
    const int64_t count = r + abreast < call.rows ? abreast : call.rows - r;
    Row<V, T, kPre> row{static_cast<const T*>(call.in) + r * width, work, static_cast<const Real*>(call.pre)};
    if (call.factor != nullptr && width > 0) {
      run_factor(call, row, count * width);
    } else if (width > 0) {
      hadamard_stream<V>(work, row, count * width, call.block);
    }
    quantize_rows<V>(work, count, width, call.limit, call.nibbles, call.codes + r * call.code_bytes, call.code_bytes,
                     scales + r, call.scale);
  }
}

template <class V, class T>
void run_typed(const Call& call) {
  return call.pre == nullptr ? run_rows<V, T, false>(call) : run_rows<V, T, true>(call);
}

void run(const Call& call) noexcept {
  with_dtype(call.dtype, [&]<class V, class T>() { run_typed<V, T>(call); });
}

}  // namespace

namespace sylvester::hadamard_quantize::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{run};
}  // namespace sylvester::hadamard_quantize::SYLVESTER_LEVEL
