"""Straight-through estimators: values worked out by hand, surrogate gradients, properties over arbitrary tensors."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from sylvester.ste import fake_quantize, sign_ste, straight_through

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INFINITY, NAN = math.inf, math.nan
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

floats = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
vectors = st.lists(floats, min_size=1, max_size=20).map(torch.tensor)
bit_widths = st.integers(1, 8)


def gradient_of(function: Any, latent: torch.Tensor, incoming: torch.Tensor | None = None) -> torch.Tensor:
    leaf = latent.clone().requires_grad_()
    value = function(leaf)
    incoming = torch.arange(1, value.numel() + 1, dtype=value.dtype).view(value.shape) if incoming is None else incoming
    return torch.autograd.grad(value, leaf, incoming)[0]


def test_value_is_exact_and_gradient_passes() -> None:
    latent = torch.tensor([0.1, 1e30, -0.0, INFINITY], requires_grad=True)
    value = torch.tensor([1.0, 1e-30, 5.0, 7.0])
    result = straight_through(value, latent)
    assert torch.equal(result, value)
    assert torch.equal(torch.autograd.grad(result, latent, value)[0], value)


def test_no_gradient_reaches_what_made_the_value() -> None:
    latent, source = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    straight_through(source * 2, latent).sum().backward()
    assert source.grad is None
    assert not straight_through(source * 2, latent.detach()).requires_grad


def test_result_may_be_written_in_place() -> None:
    latent, value = torch.ones(3, requires_grad=True), torch.full((3,), 2.0)
    straight_through(value, latent).mul_(3).sum().backward()
    assert latent.grad is not None and latent.grad.tolist() == [3, 3, 3]
    assert value.tolist() == [2, 2, 2]


@pytest.mark.parametrize("value", [torch.ones(2), torch.ones(3, dtype=torch.float64)], ids=["shape", "dtype"])
def test_value_and_latent_must_match(value: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="value and latent must have one shape and dtype"):
        straight_through(value, torch.ones(3))


def test_forward_mode_is_refused() -> None:
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        sign_ste(forward_ad.make_dual(torch.ones(3), torch.ones(3)))


@all_dtypes
def test_signs(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    u = torch.tensor([-2.0, -0.0, 0.0, 3.0, tiny, -tiny, INFINITY, -INFINITY], dtype=dtype)
    for latent in (u, u.clone().requires_grad_()):
        signs = sign_ste(latent)
        assert signs.dtype == dtype
        assert signs.tolist() == [-1, 1, 1, 1, 1, -1, 1, -1]
    assert sign_ste(torch.tensor([NAN, -1.0], dtype=dtype)).isnan().tolist() == [True, False]


@all_dtypes
def test_sign_gradient_passes_unchanged_or_inside_the_clip(dtype: torch.dtype) -> None:
    u = torch.tensor([-2.0, -1.0, -0.5, 0.0, 1.0, 1.5], dtype=dtype)
    assert gradient_of(sign_ste, u).tolist() == [1, 2, 3, 4, 5, 6]
    assert gradient_of(lambda t: sign_ste(t, clip=1.0), u).tolist() == [0, 2, 3, 4, 5, 0]
    assert gradient_of(lambda t: sign_ste(t, clip=0.25), u).tolist() == [0, 0, 0, 4, 0, 0]


@settings(deadline=None)
@given(vectors)
def test_signs_are_units_and_odd_except_at_zero(u: torch.Tensor) -> None:
    signs = sign_ste(u)
    assert (signs.abs() == 1).all()
    assert torch.equal(signs * u, u.abs())
    assert torch.equal(sign_ste(-u)[u != 0], -signs[u != 0])


@pytest.mark.parametrize(
    ("bits", "w", "expected"),
    [
        # alpha = 1: thirds of a half round to the even neighbour
        (1, [1.0, -1.0, 0.5, 0.51, -0.5, -0.51, 0.0, 0.25], [1, -1, 0, 1, 0, -1, 0, 0]),
        # alpha = 2, alpha/c = 1: the largest positive weight is stored as 1, the largest negative one as -2
        (2, [2.0, -2.0, 0.5, 1.5, -0.5, -1.5, 0.0], [1, -2, 0, 1, 0, -2, 0]),
        # alpha = c = 8: codes are the rounded weights, ties to even
        (4, [8.0, -8.0, 2.5, 3.5, -2.5, -3.5, 7.4, 0.4], [7, -8, 2, 4, -2, -4, 7, 0]),
        # alpha = 3, alpha/c = 0.75
        (3, [-3.0, 3.0, 1.0, 0.3, 1.2], [-3, 2.25, 0.75, 0, 1.5]),
        (8, [-128.0, 128.0, 126.5, 127.5, 0.5], [-128, 127, 126, 127, 0]),
    ],
)
@all_dtypes
def test_quantised_values(bits: int, w: list[float], expected: list[float], dtype: torch.dtype) -> None:
    latent = torch.tensor(w, dtype=dtype)
    value = fake_quantize(latent, bits)
    assert value.dtype == dtype
    assert torch.equal(value, torch.tensor(expected, dtype=dtype))


@all_dtypes
@pytest.mark.parametrize("bits", [1, 4])
def test_quantised_gradient_passes_unchanged_or_inside_the_clip(dtype: torch.dtype, bits: int) -> None:
    """Through saturated weights too, and with nothing for the scale: its derivative is left out."""
    w = torch.tensor([[-2.0, -1.0], [0.5, 3.0]], dtype=dtype)
    assert gradient_of(lambda t: fake_quantize(t, bits), w).tolist() == [[1, 2], [3, 4]]
    assert gradient_of(lambda t: fake_quantize(t, bits, clip=1.0), w).tolist() == [[0, 2], [3, 0]]
    assert gradient_of(lambda t: fake_quantize(t, bits, minus_identity=True), w).tolist() == [[1, 2], [3, 4]]


@all_dtypes
@pytest.mark.parametrize("bits", range(1, 9))
def test_zeros_stay_zero(dtype: torch.dtype, bits: int) -> None:
    w = torch.zeros(3, 2, dtype=dtype)
    assert torch.equal(fake_quantize(w, bits), w)
    assert gradient_of(lambda t: fake_quantize(t, bits), w).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert fake_quantize(torch.zeros(0, 4, dtype=dtype), bits).shape == (0, 4)
    assert torch.equal(
        fake_quantize(torch.zeros(2, 2, dtype=dtype), bits, minus_identity=True), torch.eye(2, dtype=dtype)
    )


def test_minus_identity_takes_its_scale_from_w() -> None:
    # alpha = 2, c = 8, step 0.25: w - I = [[1, 0.3], [-0.55, -1.9]] has the codes [[4, 1], [-2, -8]]
    w = torch.tensor([[2.0, 0.3], [-0.55, -0.9]])
    assert fake_quantize(w, 4, minus_identity=True).tolist() == [[2.0, 0.25], [-0.5, -1.0]]


def test_scale_is_recomputed_every_time() -> None:
    w = torch.tensor([1.0, 0.4])
    before = fake_quantize(w, 4)
    w[0] = 2.0
    assert before[1] == 0.375 and fake_quantize(w, 4)[1] == 0.5


def test_nan_leaves_no_scale() -> None:
    assert fake_quantize(torch.tensor([1.0, NAN]), 4).isnan().all()


@settings(deadline=None)
@given(vectors, bit_widths)
def test_at_most_two_to_the_bits_levels_inside_the_range(w: torch.Tensor, bits: int) -> None:
    value = fake_quantize(w, bits)
    alpha, steps = w.abs().max(), 2 ** (bits - 1)
    assert value.unique().numel() <= max(2**bits, 3)
    assert (value >= -alpha).all() and (value <= (alpha if bits == 1 else alpha * (steps - 1) / steps)).all()


@settings(deadline=None)
@given(vectors, bit_widths)
def test_off_by_half_a_step_or_by_the_clamp(w: torch.Tensor, bits: int) -> None:
    wide = w.double()
    step = wide.abs().max() / 2 ** (bits - 1)
    limit = torch.where(wide > wide.abs().max() - step / 2, step, step / 2) if bits > 1 else step / 2
    assert ((fake_quantize(wide, bits) - wide).abs() <= limit * (1 + 1e-12)).all()


@settings(deadline=None)
@given(vectors, bit_widths, st.integers(-10, 10))
def test_scaling_by_powers_of_two_scales_the_value(w: torch.Tensor, bits: int, exponent: int) -> None:
    scale = 2.0**exponent
    assert torch.equal(fake_quantize(w.double() * scale, bits), fake_quantize(w.double(), bits) * scale)


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=20), bit_widths)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_decide_as_float64_does(dtype: torch.dtype, values: list[float], bits: int) -> None:
    """One rounding at the end: ties and levels are not decided in 16 bits."""
    w = torch.tensor(values, dtype=dtype)
    assert torch.equal(fake_quantize(w, bits), fake_quantize(w.double(), bits).to(dtype))


@pytest.mark.parametrize("bits", [0, 9, -1, 2.5, "4", None])
def test_bits_out_of_range(bits: Any) -> None:
    with pytest.raises(ValueError, match=r"bits must be an integer from 1 .* to 8, got"):
        fake_quantize(torch.ones(2), bits)


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"w must be a floating-point tensor, got torch.int64"):
        fake_quantize(torch.ones(2, dtype=torch.int64), 4)
    with pytest.raises(TypeError, match=r"u must be a floating-point tensor, got list"):
        sign_ste([1.0])  # type: ignore[arg-type]
    for clip in (0.0, -1.0, NAN):
        with pytest.raises(ValueError, match="clip must be positive"):
            sign_ste(torch.ones(2), clip=clip)
    for shape in ((2, 3), (4,), (2, 2, 2)):
        with pytest.raises(ValueError, match=r"minus_identity needs a square matrix w, got shape \("):
            fake_quantize(torch.ones(shape), 4, minus_identity=True)


class Both(torch.nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.u = torch.nn.Parameter(torch.linspace(-2, 2, 6, dtype=dtype))
        self.w = torch.nn.Parameter(torch.linspace(-1, 1.5, 36, dtype=dtype).view(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * sign_ste(self.u, clip=1.0) + x @ fake_quantize(self.w, 3, minus_identity=True, clip=1.0)


@all_dtypes
def test_compiled(dtype: torch.dtype) -> None:
    module, x = Both(dtype), torch.linspace(0, 1, 12, dtype=dtype).view(2, 6)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), module(x))
    wanted = torch.autograd.grad(module(x).sum(), list(module.parameters()))
    for got, want in zip(torch.autograd.grad(compiled(x).sum(), list(module.parameters())), wanted, strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("strict", [False, True])
def test_exported_saved_and_loaded(strict: bool) -> None:
    module, x = Both(torch.float32), torch.linspace(0, 1, 12).view(2, 6)
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (x,), strict=strict), file)
    file.seek(0)
    assert torch.equal(torch.export.load(file).module()(x), module(x))


def test_func_grad_and_second_derivative() -> None:
    u = torch.tensor([-1.0, 0.5])

    def score(latent: torch.Tensor) -> torch.Tensor:
        return (sign_ste(latent) * latent**2).sum()

    # d(s u^2)/du with ds/du = 1: u^2 + 2 s u
    assert torch.func.grad(score)(u).tolist() == [3.0, 1.25]
    leaf = u.clone().requires_grad_()
    (first,) = torch.autograd.grad(score(leaf), leaf, create_graph=True)
    # and once more: 2 u + 2 s + 2 u
    assert torch.autograd.grad(first.sum(), leaf)[0].tolist() == [-6.0, 4.0]
