"""Laws of row quantisation that no comparison within an error bound states."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import battery
from sylvester import _library, quantize_rows
from sylvester.ops.quantize_rows import reference

every_level = pytest.mark.parametrize("level", _library.levels())
every_bits = pytest.mark.parametrize("bits", range(2, 9))


def unpacked(codes: torch.Tensor, width: int) -> torch.Tensor:
    """int8 codes of results on any bits."""
    if codes.dtype == torch.int8:
        return codes
    return torch.stack((codes & 15, codes >> 4), -1).flatten(-2)[..., :width].to(torch.int8) - 8


@every_bits
@every_level
@settings(deadline=None, max_examples=20)
@given(st.data())
def test_exactly_the_definition(level: str, bits: int, data: st.DataObject) -> None:
    """In the same arithmetic the reference has the same bits, ties and halves included."""
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]))
    shape = data.draw(st.lists(st.integers(0, 3), max_size=2)) + [data.draw(st.integers(0, 200))]
    x = torch.randn(shape)
    if data.draw(st.booleans()):  # halves: limit / a is a power of two where a is limit times one
        x = (x * 2 ** (bits - 1)).round().clamp(1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) / 2
        x[..., :1] = (2 ** (bits - 1) - 1) / 2
    x = (x * 2.0 ** data.draw(st.integers(-10, 10))).to(dtype)
    with _library.forced_isa(level):
        for got, want in zip(quantize_rows(x, bits=bits), reference(x, bits=bits), strict=True):
            assert battery.same_bits(got, want)


def test_halves_go_to_even() -> None:
    x = torch.tensor([127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, -126.5])
    codes, row_scale = quantize_rows(x)
    assert codes.tolist() == [127, 0, 2, 2, 0, -2, -2, 126, -126] and row_scale == 1


@every_bits
def test_codes_are_symmetric_and_reach_the_limit(bits: int) -> None:
    x = torch.randn(50, 77)
    codes, row_scale = quantize_rows(x, bits=bits)
    codes = unpacked(codes, 77)
    assert (codes.abs().amax(-1) == 2 ** (bits - 1) - 1).all()
    assert torch.equal(unpacked(quantize_rows(-x, bits=bits)[0], 77), -codes)
    assert ((codes * row_scale[:, None] - x).abs() <= row_scale[:, None] * 0.50001).all()


@every_level
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_hurts_no_other(bad: float, bits: int, level: str) -> None:
    for width in (1, 2, 15, 64, 131):
        for place in {0, width // 2, width - 1}:
            x = torch.randn(3, width)
            clean, scales = quantize_rows(x, bits=bits)
            x[1, place] = bad
            with _library.forced_isa(level):
                codes, row_scale = quantize_rows(x, bits=bits)
            assert not unpacked(codes, width)[1].any() and row_scale[1].isnan()
            assert torch.equal(codes[::2], clean[::2]) and torch.equal(row_scale[::2], scales[::2])
            assert quantize_rows(x, bits=bits, dequantize=True)[0][1].isnan().all()


@every_level
def test_rows_near_zero_are_zero(level: str) -> None:
    smallest = 2.0**-100
    x = torch.tensor([[0.0, -0.0], [smallest, 0.0], [smallest * (1 - 2**-24), 0.0], [1e-45, -1e-45]])
    with _library.forced_isa(level):
        codes, row_scale = quantize_rows(x)
    assert codes.tolist() == [[0, 0], [127, 0], [0, 0], [0, 0]]
    assert row_scale.tolist() == [0, (torch.tensor(smallest) / 127).item(), 0, 0]


@every_bits
def test_packing(bits: int) -> None:
    """Low half first, code + 8, and 8 in the spare half of an odd row."""
    codes, _ = quantize_rows(torch.tensor([[7.0, -7.0, 0.0]]), bits=bits)
    limit = 2 ** (bits - 1) - 1
    assert codes.tolist() == [[limit + 8 + 16 * (8 - limit), 0x88] if bits <= 4 else [limit, -limit, 0]]


@every_bits
def test_values_are_codes_times_scale_and_their_gradient_passes(bits: int) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = torch.randn(4, 33, dtype=dtype, requires_grad=True)
        codes, row_scale = quantize_rows(x.detach(), bits=bits)
        values, same_scale = quantize_rows(x, bits=bits, dequantize=True)
        assert torch.equal(values, (unpacked(codes, 33) * row_scale[:, None]).to(dtype))
        assert torch.equal(same_scale, row_scale) and not same_scale.requires_grad
        gradient = torch.randn(4, 33, dtype=dtype)
        assert torch.equal(torch.autograd.grad(values, x, gradient)[0], gradient)


def test_a_gradient_through_codes_is_refused() -> None:
    """Otherwise x would silently not learn."""
    x = torch.randn(4, 33, requires_grad=True)
    codes, row_scale = quantize_rows(x)
    assert not codes.requires_grad
    with pytest.raises(NotImplementedError, match="dequantize=True"):
        row_scale.sum().backward()
    with pytest.raises(RuntimeError, match="dequantize=True"):  # compiling derives at once
        torch.compile(quantize_rows, fullgraph=True, backend="aot_eager")(x)
