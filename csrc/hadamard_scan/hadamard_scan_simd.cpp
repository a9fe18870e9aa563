#include "hadamard_scan/hadamard_scan.h"

#include "hadamard_scan/backward.h"

namespace {

// body(first, rows) for the runs of equally long rows of a tile
template <class Body>
void for_runs(const Problem& p, int64_t tile, const Body& body) {
  const int64_t begin = tile * p.tile_rows, end = begin + p.tile_rows < p.batch ? begin + p.tile_rows : p.batch;
  for (int64_t first = begin; first < end;) {
    int64_t next = first + 1;
    while (next < end && steps_of(p, next) == steps_of(p, first)) ++next;
    body(first, next - first);
    first = next;
  }
}

template <class V>
void forward(const Problem& p, const Forward& io, int64_t tile, void* scratch) {
  for_runs(p, tile, [&](int64_t first, int64_t rows) {
    Tile<V> t(p, first, rows, static_cast<typename V::Real*>(scratch));
    forward_rows(t, io);
  });
}

template <class V>
void backward(const Problem& p, const Backward& io, int64_t tile, void* partial, void* scratch) {
  using Real = typename V::Real;
  for_runs(p, tile, [&](int64_t first, int64_t rows) {
    BackwardTile<V> t(p, io, first, rows, static_cast<Real*>(partial), static_cast<Real*>(scratch));
    t.run_backward();
  });
}

template <class V>
int64_t scratch_elements(const Problem& p) {
  alignas(64) static typename V::Real origin[1];
  Tile<V> t(p, 0, 0, origin);
  return t.place(origin) - origin;
}

#if defined(SYLVESTER_LEVEL_scalar)
using Wide = lanes16<double>;
#else
using Wide = Vector;  // the caller sends float64 to the scalar level
#endif

int64_t scratch_any(const Problem& p) noexcept {
  return p.real == Dtype::float64 ? scratch_elements<Wide>(p) : scratch_elements<Vector>(p);
}
void forward_any(const Problem& p, const Forward& io, int64_t tile, void* scratch) noexcept {
  p.real == Dtype::float64 ? forward<Wide>(p, io, tile, scratch) : forward<Vector>(p, io, tile, scratch);
}
void backward_any(const Problem& p, const Backward& io, int64_t tile, void* partial, void* scratch) noexcept {
  p.real == Dtype::float64 ? backward<Wide>(p, io, tile, partial, scratch)
                           : backward<Vector>(p, io, tile, partial, scratch);
}

}  // namespace

namespace sylvester::hadamard_scan::SYLVESTER_LEVEL {
extern const Kernels kernels;
const Kernels kernels{scratch_any, forward_any, backward_any};
}  // namespace sylvester::hadamard_scan::SYLVESTER_LEVEL
