"""Hadamard transform of the last axis, block by block, with a diagonal on either side.

    y = scale · post ∘ ((I_q ⊗ H) (pre ∘ x)),   H = H_m ⊗ S, or its transpose
    S the Sylvester matrix of size 2^k: S_1 = [1], S_2n = S_n ⊗ [[1, 1], [1, -1]];  H_m a Hadamard matrix of order m

    x      (..., D)  D = q · block_size; any strides, any leading shape, empty ones too
    pre    (D,)      any float dtype, converted to float32 (float64 when x is); None: ones
    post   (D,)      as pre
    out    (..., D)  dtype and device of x; may be x itself, may not overlap it in any other way
    y      (..., D)  contiguous

    block_size  m · 2^k up to 2^20 (CPU) or 2^15 (GPU); None: D, which must be one. m is 1 or four times an odd number:
                12, 20, 28, ... up to 252 by Paley's and Williamson's constructions, all but 116, 156, 188 and 236;
                blocks of 43·2^k from 344 on take Paley's 344, that of the field of 7³ elements
    scale       finite float; None: 1/sqrt(block_size), which makes the transform orthogonal (held in two floats, so
                odd powers are exact too); 1.0 gives the ±1 matrix
    transpose   Hᵀ in place of H: with scale None the inverse. Powers of two are symmetric; some other H are not

    x                  computes in   y
    float32            float32       float32
    bfloat16, float16  float32       as x, rounded once
    float64            float64       float64

Cost: x read once, y written once; k additions an element, and m/12 + 5 (Paley II) or m/4 + 2 for H_m, but 24 for
H_344, by Fourier transforms over the three digits of its field.
Determinism: the same bits for any thread count, level, batch and stride. Butterflies run in ascending stride, so the
error is that of k roundings, m/8 + 5 for a factor and at most three for scale, pre and post. Sums of integers that
float32 holds are exact. Not so those of H_344: they err 1.5e-7 of their size, the scale is one float in the factors of
its waves, and an infinity may come out as NaN.
Gradient: dx is the same operator with H transposed and pre and post swapped; differentiable any number of times.
dpre and dpost add the rows in pairs.
Source: fast Walsh-Hadamard transform; block form and scale as in arXiv 2502.00047; Paley, On orthogonal matrices
(1933), Williamson, Hadamard's determinant theorem (1944).

Read on: _operator.py (reference, check, public functions, fakes, GPU, autograd), _cases.py.
Siblings: csrc/hadamard_transform/, csrc/common/hadamard_matrix.h,
kernels/hadamard_transform.py, tests/test_hadamard_transform.py
"""

from ._cases import SPEC
from ._operator import check, hadamard_transform, hadamard_transform_, reference, widened

__all__ = ["SPEC", "check", "hadamard_transform", "hadamard_transform_", "reference", "widened"]
