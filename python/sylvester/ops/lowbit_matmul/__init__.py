"""Products with packed weights of few bits: ``ternary_matmul``, ``intn_matmul``, ``binary_matmul``.

    y = x · (scale · W)ᵀ + bias,   W (N, K) codes: {-1, 0, 1} · integers of 2 to 8 bits · {-1, 1}

    x        (..., K)     float32, bfloat16, float16, or int8 codes with x_scale; any strides, any leading shape
             (..., K/2)   uint8: packed int4 codes (formats.intn, 4 bits) with x_scale; K odd: the last half is code 0
    packed   (N, bytes)   uint8, by formats.ternary | trits | intn | binary
    scale    () or (N,)   of all weights, or of each row of W
    bias     (N,)         None: none
    x_scale  (...)        of each row of codes x: x is x_scale · codes; floats x bring their own
    latent   (N, K)       what W was quantised from: not read, gets its gradient straight through
    y        (..., N)     contiguous

    scale, bias, x_scale, latent: any float dtype. N, K and the leading shape may hold 0 and 1.

    encoding    ternary: "2bit" (formats.ternary) · "1.6bit" (formats.trits)
    activation  of float x: "int8", each row quantised on the way, codes = round(x · (127 / max|x|)), half to even, and
                x_scale = max|x| / 127 (a row below 2^-100: zeros; one that is not finite: a row of NaN) · "float":
                multiplied as it is

    x                  activation  computes in                                  y
    int8, uint8        "int8"      int32, exact; x_scale, scale, bias float32   float32
    float32            "int8"      the same                                     float32
    bfloat16, float16  "int8"      the same                                     rounded once
    float32            "float"     float32                                      float32
    bfloat16, float16  "float"     float32                                      rounded once
    float64            "float"     float64                                      float64

Cost: packed read once, x once a row of 16; M·N·K multiplications and additions. The kernels read a layout that is
derived from ``packed`` (as large, K and N rounded up) and remembered as long as the tensor lives unchanged, unless it
was made in inference_mode, where changes cannot be seen; who keeps it himself calls ``prepared``. Sums of int8 fit
int32 up to K = 2^24 - 1 (ternary, binary), 2^17 - 1 (8 bits).
Determinism: the same bits for any thread count, level and batch. Integers are exact: y = fma(acc, x_scale · scale,
bias) rounds twice. Floats are added up by sums of 16 in order. Only the gradient of ``latent`` is a product of torch's
own, whose bits may change with the batch and the threads.
Gradient: x (straight through its quantisation) gets (g · scale) W from the layout: no dense W exists; scale gets
Σ_m g u with u the product at scale 1, x_scale and bias their sums, latent gᵀ x with x as it was multiplied.
Differentiable any number of times.
Source: straight-through training with absmax activations as in BitNet b1.58 (arXiv 2402.17764).

Read on: _reference.py, _check.py, _function.py (public functions, ``prepared``), _registration.py (fakes, GPU,
autograd), _cases.py, _misuses.py, _spec.py.
Siblings: csrc/lowbit_matmul/, kernels/lowbit_matmul.py, python/sylvester/formats/, tests/test_ternary_matmul.py,
tests/test_intn_matmul.py, tests/test_binary_matmul.py
"""

from ._check import check
from ._function import binary_matmul, intn_matmul, layout, layout_of_codes, prepared, ternary_matmul
from ._reference import binary_reference, intn_reference, reference, ternary_reference
from ._spec import SPECS

__all__ = [
    "SPECS",
    "binary_matmul",
    "binary_reference",
    "check",
    "intn_matmul",
    "intn_reference",
    "layout",
    "layout_of_codes",
    "prepared",
    "reference",
    "ternary_matmul",
    "ternary_reference",
]
