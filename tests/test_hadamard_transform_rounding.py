"""How far the Hadamard transform errs, and how it rounds to 16 bits."""

from __future__ import annotations

import math

import pytest
import torch

from sylvester import _library, hadamard_transform
from sylvester.ops.hadamard_transform import reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n", [16, 128, 1024, 1 << 14, 12, 768, 148 * 4, 172, 252 * 2, 344, 11008])
def test_error_is_at_most_twice_that_of_plain_torch(n: int, dtype: torch.dtype) -> None:
    x = torch.randn(64, n, dtype=torch.float64).to(dtype)
    truth = reference(x.double())
    plain = (reference(x.float()).to(dtype) - truth).square().mean().sqrt()
    assert (hadamard_transform(x) - truth).square().mean().sqrt() <= 2 * plain


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("n", [16, 64, 128, 256, 512, 1024, 2048])
def test_16_bit_rows_round_to_nearest_even(n: int, dtype: torch.dtype) -> None:
    """Sums of integers are exact and often ties; of subnormals too. Rows in twos and threes pass through work."""
    small = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    for rows in (1, 2, 3, 7):
        x = torch.randint(-100, 101, (rows, n)).to(dtype)
        x[:, 1::2] *= 0
        for unit in (1, small):
            want = (reference(x.double(), scale=1.0) * unit).to(dtype)
            for level in _library.levels():
                with _library.forced_isa(level):
                    assert torch.equal(hadamard_transform(x * unit, scale=1.0), want), (rows, level, unit)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("n", [16, 64, 256, 1024, 344, 11008])
def test_16_bit_rows_keep_what_is_not_finite(n: int, bad: float) -> None:
    x = torch.randn(5, n, dtype=torch.bfloat16)
    clean = hadamard_transform(x)
    x[2, n - 1] = bad
    for level in _library.levels():
        with _library.forced_isa(level):
            y = hadamard_transform(x)
        assert not y[2].isfinite().any() and (math.isinf(bad) or y[2].isnan().all())
        assert torch.equal(y[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])
