"""Quantisers of ternary and binary weights: values worked out by hand, gradients, codes and scales."""

from __future__ import annotations

import math

import pytest
import torch

from sylvester.ste import (
    binary_codes,
    binary_ste,
    dequantized,
    fake_quantize,
    integer_codes,
    ternary_codes,
    ternary_ste,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
QUANTISERS = {
    "absmean": ternary_ste,
    "absmax": lambda w, **rest: ternary_ste(w, "absmax", **rest),
    "binary": binary_ste,
    "int4": lambda w, **rest: fake_quantize(w, 4, **rest),
}
every_quantiser = pytest.mark.parametrize("quantise", QUANTISERS.values(), ids=QUANTISERS.keys())


@all_dtypes
def test_values(dtype: torch.dtype) -> None:
    # mean 1, so 0 ends at half of it: 0.5 is a tie, which goes to the even 0
    w = torch.tensor([[3.0, -0.5], [0.5, 0.0]], dtype=dtype)
    assert ternary_ste(w).tolist() == [[1, 0], [0, 0]]
    assert ternary_ste(w * 4).tolist() == [[4, 0], [0, 0]]
    assert ternary_ste(w, per_row=True).tolist() == [[1.75, 0], [0.25, 0]]
    assert ternary_ste(w, "absmax").tolist() == [[3, 0], [0, 0]]
    assert binary_ste(w).tolist() == [[1, -1], [1, 1]]
    assert binary_ste(w, per_row=True).tolist() == [[1.75, -1.75], [0.25, 0.25]]
    assert fake_quantize(torch.tensor([[2.0, 1.0], [0.5, -1.0]], dtype=dtype), 2, per_row=True).tolist() == [
        [1, 1],
        [0.5, -1],
    ]


@all_dtypes
@pytest.mark.parametrize("per_row", [False, True])
@every_quantiser
def test_gradient_passes_and_rows_stand_alone(quantise: object, per_row: bool, dtype: torch.dtype) -> None:
    w = torch.randn(3, 7).to(dtype).requires_grad_()
    value, cotangent = quantise(w, per_row=per_row), torch.randn(3, 7).to(dtype)
    assert value.dtype == dtype
    assert torch.equal(torch.autograd.grad(value, w, cotangent)[0], cotangent)
    if per_row:
        assert torch.equal(value.detach(), torch.stack([quantise(row) for row in w.detach()]))


def test_absmax_is_one_bit_of_the_paper() -> None:
    w = torch.randn(9, 33)
    assert torch.equal(ternary_ste(w, "absmax"), fake_quantize(w, 1))


def test_binary_scale_is_the_best_one() -> None:
    """Σ (w - α s)² is smallest at α = mean|w|."""
    w = torch.randn(8, 16, dtype=torch.float64)
    codes, scale = binary_codes(w)
    for factor in (0.99, 1.01):
        assert (w - codes * scale).square().sum() < (w - codes * scale * factor).square().sum()


@every_quantiser
def test_zeros_and_nothing(quantise: object) -> None:
    assert torch.equal(quantise(torch.zeros(3, 2)), torch.zeros(3, 2))
    for per_row in (False, True):
        assert quantise(torch.zeros(0, 4), per_row=per_row).shape == (0, 4)
        assert quantise(torch.zeros(2, 0), per_row=per_row).shape == (2, 0)


@every_quantiser
def test_nan_spreads_as_far_as_its_scale(quantise: object) -> None:
    w = torch.ones(2, 3)
    w[0, 0] = math.nan
    assert quantise(w).isnan().all()
    assert quantise(w, per_row=True).isnan().all(1).tolist() == [True, False]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("per_row", [False, True])
def test_codes_times_scale_are_the_value(threads: int, per_row: bool) -> None:
    """For any number of threads, though a mean is a sum of floats."""
    w = torch.randn(300, 700, generator=torch.Generator().manual_seed(1))
    torch.set_num_threads(threads)
    values = {
        "ternary": (ternary_codes(w, per_row=per_row), ternary_ste(w, per_row=per_row)),
        "binary": (binary_codes(w, per_row), binary_ste(w, per_row=per_row)),
        "int3": (integer_codes(w, 3, per_row), fake_quantize(w, 3, per_row=per_row)),
    }
    torch.set_num_threads(1)
    assert torch.equal(ternary_codes(w, per_row=per_row)[1], values["ternary"][0][1])
    for name, ((codes, scale), value) in values.items():
        assert torch.equal(dequantized(codes, scale), value), name
        assert scale.shape == ((300,) if per_row else ()) and not codes.requires_grad
        assert torch.equal(codes, codes.round())


def test_misuse_is_explained() -> None:
    with pytest.raises(ValueError, match="threshold must be one of absmean, absmax, got 'median'"):
        ternary_ste(torch.ones(2), "median")
    for quantise in (ternary_ste, binary_ste):
        with pytest.raises(TypeError, match="w must be a floating-point tensor, got torch.int64"):
            quantise(torch.ones(2, dtype=torch.int64))


@every_quantiser
def test_torch_func_goes_through(quantise: object) -> None:
    w = torch.randn(3, 4, 5)
    assert torch.equal(torch.vmap(quantise)(w), torch.stack([quantise(part) for part in w]))
    assert torch.equal(torch.func.grad(lambda t: quantise(t).sum())(w), torch.ones_like(w))
