"""Hadamard transform of the last axis, block by block, with a diagonal on either side.

    y = scale · post ∘ ((I_q ⊗ S) (pre ∘ x)),   S the Sylvester matrix: S_1 = [1], S_2n = S_n ⊗ [[1, 1], [1, -1]]

    x      (..., D)  D = q · block_size; any strides, any leading shape, empty ones too
    pre    (D,)      any float dtype, converted to float32 (float64 when x is); None: ones
    post   (D,)      as pre
    out    (..., D)  dtype and device of x; may be x itself, may not overlap it in any other way
    y      (..., D)  contiguous

    block_size  power of two up to 2^20 (CPU) or 2^15 (GPU); None: D, which must be one
    scale       finite float; None: 1/sqrt(block_size), which makes the transform orthogonal (held in two floats, so
                odd powers are exact too); 1.0 gives the ±1 matrix

    x                  computes in   y
    float32            float32       float32
    bfloat16, float16  float32       as x, rounded once
    float64            float64       float64

Cost: x read once, y written once; log2(block_size) additions an element.
Determinism: the same bits for any thread count, level, batch and stride. Butterflies run in ascending stride, so the
error is that of log2(block_size) roundings and at most three for scale, pre and post.
Gradient: S is symmetric, so dx is the same operator with pre and post swapped; differentiable any number of times.
dpre and dpost add the rows in pairs.
Source: fast Walsh-Hadamard transform; block form and scale as in arXiv 2502.00047.

Read on: _operator.py (reference, check, public functions, fakes, GPU, autograd), _cases.py.
Siblings: csrc/hadamard_transform/, kernels/hadamard_transform.py, tests/test_hadamard_transform.py
"""

from ._cases import SPEC
from ._operator import check, hadamard_transform, hadamard_transform_, reference, widened

__all__ = ["SPEC", "check", "hadamard_transform", "hadamard_transform_", "reference", "widened"]
