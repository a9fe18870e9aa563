"""Laws of hadamard_quantize that no comparison within an error bound states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import battery
from sylvester import _library, hadamard_quantize, hadamard_transform, quantize_rows
from sylvester.ops._dispatch import WIDE
from sylvester.ops.hadamard_quantize import SPEC

every_level = pytest.mark.parametrize("level", _library.levels())
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def limit(bits: int) -> int:
    return 2 ** (bits - 1) - 1


@every_level
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_exactly_the_transform_then_its_codes(level: str, data: st.DataObject) -> None:
    """Codes of the transform with scale 1, and the largest with its own scale, bit for bit. (344 scales its waves.)"""
    block = data.draw(st.sampled_from([1, 12, 20, 28, 172, 344])) << data.draw(st.integers(0, 6))
    block <<= data.draw(st.sampled_from([0, 5])) if block <= 64 else 0
    width = block * data.draw(st.integers(0, 5))
    lead = data.draw(st.lists(st.integers(0, 3), max_size=2))
    dtype, bits = data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(2, 8))
    scale = data.draw(st.sampled_from([None, 1.0, -0.3, 1e-5]))
    options: dict[str, Any] = {"block_size": block}
    if data.draw(st.booleans()):
        options["pre"] = torch.randn(width, dtype=torch.float64)
    x = torch.randn(*lead, width).to(dtype)
    wide = x.to(WIDE[dtype])
    with _library.forced_isa(level):
        codes, row_scale = hadamard_quantize(x, bits=bits, scale=scale, **options)
        sign = -1.0 if scale is not None and scale < 0 else 1.0
        assert torch.equal(codes, quantize_rows(hadamard_transform(wide, scale=sign, **options), bits=bits)[0])
        largest = hadamard_transform(wide, scale=scale, **options).abs()
    a = largest.amax(-1) if width else torch.zeros(lead, dtype=wide.dtype)
    want = a / torch.full_like(a, limit(bits))
    assert torch.allclose(row_scale, want, rtol=1e-6, atol=0) if block % 344 == 0 else torch.equal(row_scale, want)


@every_level
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_hurts_no_other(bad: float, bits: int, level: str) -> None:
    for block, width in ((1, 1), (1, 7), (2, 6), (12, 36), (64, 192), (1024, 1024)):
        x = torch.randn(3, width)
        clean, scales = hadamard_quantize(x, block_size=block, bits=bits)
        x[1, width // 2] = bad
        with _library.forced_isa(level):
            codes, row_scale = hadamard_quantize(x, block_size=block, bits=bits)
        assert (codes[1] == (0x88 if bits == 4 else 0)).all() and row_scale[1].isnan()
        assert torch.equal(codes[::2], clean[::2]) and torch.equal(row_scale[::2], scales[::2])


@every_level
def test_sums_and_scales_that_leave_the_range(level: str) -> None:
    """What overflows is not finite; what the scale takes below 2^-100, or what was there before it, is zero."""
    with _library.forced_isa(level):
        x = torch.full((2, 2), 3e38) * torch.tensor([[1.0], [0.1]])
        assert hadamard_quantize(x)[1].isnan().tolist() == [True, False]
        assert hadamard_quantize(x / 4, scale=1e10)[1].isnan().all()
        for row, scale in ((torch.ones(4), 0.0), (torch.ones(4), 2.0**-103), (torch.full((4,), 1e-33), 1e30)):
            codes, row_scale = hadamard_quantize(row, scale=scale)
            assert not codes.any() and row_scale == 0


def test_a_spike_is_spread() -> None:
    """What the rotation is for: an outlier costs the others nothing, since all columns share it."""
    x = torch.randn(16, 1024)
    x[:, 7] = 300.0
    turned, (codes, row_scale) = hadamard_transform(x), hadamard_quantize(x)
    error = (codes * row_scale[:, None] - turned).square().mean().sqrt()
    codes, row_scale = quantize_rows(x)
    assert 10 * error < (codes * row_scale[:, None] - x).square().mean().sqrt()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_and_their_gradient(bits: int) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x, pre = torch.randn(4, 48, dtype=dtype, requires_grad=True), torch.randn(48)
        options: dict[str, Any] = {"block_size": 16, "pre": pre, "scale": 0.7}
        values, row_scale = hadamard_quantize(x, bits=bits, dequantize=True, **options)
        turned = hadamard_transform(x.detach(), **options)
        assert values.dtype == dtype and not row_scale.requires_grad
        assert ((values - turned).abs() <= (row_scale * 0.501).unsqueeze(-1) + 0.01 * turned.abs()).all()
        gradient = torch.randn(4, 48, dtype=dtype)
        want = hadamard_transform(gradient, block_size=16, scale=0.7, post=pre)
        assert torch.equal(torch.autograd.grad(values, x, gradient)[0], want)


def test_values_are_codes_times_scale() -> None:
    x = torch.randn(5, 64)
    codes, row_scale = hadamard_quantize(x)
    assert torch.equal(hadamard_quantize(x, dequantize=True)[0], codes * row_scale[:, None])


def test_a_gradient_through_codes_is_refused() -> None:
    """Otherwise x and pre would silently not learn."""
    for x, pre in ((torch.ones(2, 8, requires_grad=True), None), (torch.ones(2, 8), torch.ones(8, requires_grad=True))):
        codes, row_scale = hadamard_quantize(x, pre=pre)
        assert not codes.requires_grad
        with pytest.raises(NotImplementedError, match="dequantize=True"):
            row_scale.sum().backward()


def test_gpu_kernel_has_the_bits_of_the_cpu_where_rows_are_special() -> None:
    """Not finite, overflowing, tiny: whatever the rows beside them hold. In Triton's interpreter."""
    triton = pytest.importorskip("triton", reason="triton is not installed")
    if not triton.knobs.runtime.interpret:
        pytest.skip("a GPU is present, so Triton compiles; TRITON_INTERPRET=1 runs this")
    x = torch.randn(9, 48)
    x[0, 5], x[2, 40], x[4], x[6], x[8, 47] = torch.nan, -torch.inf, 3e38, 1e-37, torch.inf
    for bits, nibbles, scale in ((8, False, 1.0), (4, True, -1e-4), (8, False, 1e6)):
        arguments = (x, 16, scale, None, bits, nibbles)
        got = SPEC.launchers["hadamard_quantize"](*arguments)
        for g, w in zip(got, torch.ops.sylvester.hadamard_quantize(*arguments), strict=True):
            assert battery.same_bits(g, w)
