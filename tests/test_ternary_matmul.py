"""Laws of the products with packed weights that hold for every encoding, shown on the ternary one and on all."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sylvester import _library, ternary_matmul
from sylvester.formats import _encoding, ternary, trits
from sylvester.ops._spec import Make
from sylvester.ops.lowbit_matmul import _function, layout, layout_of_codes, prepared
from sylvester.ops.lowbit_matmul._cases import draw_codes

every_encoding = pytest.mark.parametrize("encoding", sorted(_encoding.ENCODINGS))
every_level = pytest.mark.parametrize("level", _library.levels())
ONE = torch.ones(())


def codes_of(encoding: int, *shape: int) -> torch.Tensor:
    return draw_codes(Make.seeded(encoding, torch.float32), encoding, *shape)


def activations(*shape: int) -> torch.Tensor:
    """All int8 values, -128 too."""
    return torch.randint(-128, 128, shape).to(torch.int8)


def product(
    x: torch.Tensor, codes: torch.Tensor, encoding: int, scale: torch.Tensor = ONE, **options: Any
) -> torch.Tensor:
    kept = layout_of_codes(codes, encoding)
    return prepared(x, kept, scale, encoding=encoding, out_features=codes.shape[0], **options)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_integers_are_exact(data: st.DataObject) -> None:
    """Any encoding, shape and level: small sums are exact in float32, so the product is one of integers."""
    encoding = data.draw(st.sampled_from(sorted(_encoding.ENCODINGS)))
    m, n, k = (
        data.draw(st.sampled_from(sizes))
        for sizes in ((0, 1, 2, 7, 8, 33), (0, 1, 15, 16, 17, 50), (0, 1, 3, 20, 63, 64, 65, 331))
    )
    x, w = activations(m, k), codes_of(encoding, n, k)
    with _library.forced_isa(data.draw(st.sampled_from(_library.levels()))):
        y = product(x, w, encoding, x_scale=torch.ones(m))
    assert torch.equal(y.long(), x.long() @ w.long().T)


@every_level
@every_encoding
def test_the_largest_sums_do_not_overflow(encoding: int, level: str) -> None:
    """All weights and activations at their ends, where the next column would leave int32."""
    e = _encoding.ENCODINGS[encoding]
    columns = (2**31 - 1) // (128 * (1 if e.zero == 1 else e.zero))
    columns = min(columns, 1 << 20)
    x = torch.full((1, columns), -128, dtype=torch.int8)
    for code in (e.lowest, e.highest):
        with _library.forced_isa(level):
            y = product(x, torch.full((1, columns), code, dtype=torch.int8), encoding, x_scale=torch.ones(1))
        assert y.item() == float(torch.tensor(-128 * code * columns).float())


@every_level
def test_epilogue_rounds_as_stated(level: str) -> None:
    """y = fma(float(acc), x_scale · scale, bias), to the bit; without a bias the product."""
    x, w = activations(5, 70), codes_of(1, 21, 70)
    x_scale, scale, bias = torch.rand(5), torch.rand(21), torch.randn(21)
    acc, factor = (x.long() @ w.long().T).double(), (x_scale[:, None] * scale).double()
    with _library.forced_isa(level):
        assert torch.equal(product(x, w, 1, scale, x_scale=x_scale, bias=bias), (acc * factor + bias).float())
        assert torch.equal(product(x, w, 1, scale, x_scale=x_scale), (acc * factor).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_fused_quantisation_is_the_one_of_the_reference(dtype: torch.dtype) -> None:
    """Codes read back through the identity are x · (127 / max|x|), half to even, and lie within half a step of x."""
    x = torch.randn(9, 77).to(dtype)
    x[0] = torch.arange(77) - 38.5  # many ties
    largest = x.float().abs().amax(-1, keepdim=True)
    want = (x.float() * (torch.full_like(largest, 127) / largest)).round()
    y = product(x.float(), torch.eye(77, dtype=torch.int8), 1)
    assert torch.equal(y, want * (largest / 127))
    assert ((y - x.float()).abs() <= largest / 127 * 0.5001).all()


@every_level
@pytest.mark.parametrize("activation", ["int8", "float"])
def test_rows_that_are_not_finite_stay_alone(activation: str, level: str) -> None:
    x, w, bias = torch.randn(7, 23), codes_of(1, 18, 23), torch.randn(18)
    x[0, 3], x[2, 22], x[4, 0] = math.nan, math.inf, -math.inf
    with _library.forced_isa(level):
        y = product(x, w, 1, bias=bias, activation=activation)
        clean = product(x[1::2], w, 1, bias=bias, activation=activation)
    assert torch.equal(y[1::2], clean) and clean.isfinite().all()
    hit = y[[0, 2, 4]] if activation == "int8" else y[:1]
    assert hit.isnan().all()


@every_level
def test_rows_of_nearly_nothing_are_zeros(level: str) -> None:
    x, w, bias = torch.randn(3, 23), codes_of(1, 18, 23), torch.randn(18)
    x[0], x[1] = 0, 2.0**-110 * x[1]
    with _library.forced_isa(level):
        y = product(x, w, 1, bias=bias)
    assert torch.equal(y[0], bias) and torch.equal(y[1], bias) and not torch.equal(y[2], bias)


@every_encoding
def test_packed_int4_activations_are_int8_ones(encoding: int) -> None:
    for columns in (1, 2, 7, 61, 64):
        x, w = torch.randint(-8, 8, (3, columns)).to(torch.int8), codes_of(encoding, 5, columns)
        x_scale = torch.rand(3)
        packed = _encoding.pack(x, 4)
        assert torch.equal(product(packed, w, encoding, x_scale=x_scale), product(x, w, encoding, x_scale=x_scale))


@pytest.mark.parametrize("name", ["2bit", "1.6bit"])
@pytest.mark.parametrize("columns", [1, 5, 2047, 2049])
def test_odd_int4_activations_fit_either_packing(name: str, columns: int) -> None:
    x, w, x_scale = torch.randint(-7, 8, (2, columns)).to(torch.int8), codes_of(1, 3, columns), torch.rand(2)
    weights = (ternary if name == "2bit" else trits).pack(w)
    latent = torch.zeros(3, columns, requires_grad=True)
    y = ternary_matmul(_encoding.pack(x, 4), weights, ONE, x_scale=x_scale, encoding=name, latent=latent)
    assert torch.equal(y, ternary_matmul(x, weights, ONE, x_scale=x_scale, encoding=name))
    y.sum().backward()
    torch.testing.assert_close(latent.grad, (x * x_scale[:, None]).sum(0).expand(3, -1))


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("columns", [64, 1024, 11008])
def test_error_is_at_most_twice_that_of_plain_torch(rows: int, columns: int) -> None:
    x, w = torch.randn(rows, columns), codes_of(1, 64, columns)
    truth = x.double() @ w.double().T
    plain = (functional.linear(x, w.float()) - truth).square().mean().sqrt()
    assert (product(x, w, 1, activation="float") - truth).square().mean().sqrt() <= 2 * plain


@every_encoding
def test_layout_of_packed_and_of_codes_is_one(encoding: int) -> None:
    for shape in ((1, 1), (17, 41), (16, 320), (0, 5), (5, 0)):
        codes = codes_of(encoding, *shape)
        assert torch.equal(
            layout(_encoding.pack(codes, encoding), encoding, shape[1]), layout_of_codes(codes, encoding)
        )


def test_layout_is_remembered_until_the_weights_change() -> None:
    packed, x = ternary.pack(codes_of(1, 8, 12)), torch.randn(2, 12)
    first = ternary_matmul(x, packed, ONE)
    kept = _function._layouts.kept[id(packed)][2]
    assert torch.equal(ternary_matmul(x, packed, ONE), first) and _function._layouts.kept[id(packed)][2] is kept
    packed.copy_(ternary.pack(-codes_of(1, 8, 12)))
    assert torch.equal(ternary_matmul(x, packed, ONE), -first)
    alive = weakref.ref(_function._layouts.kept[id(packed)][2])
    del packed, kept
    gc.collect()
    assert alive() is None, "the layout outlives its weights"


def test_weights_replaced_without_a_new_version() -> None:
    """``.data`` changes the memory of a tensor behind its version counter."""
    packed, x = ternary.pack(codes_of(1, 8, 12)), torch.randn(2, 12)
    first = ternary_matmul(x, packed, ONE)
    packed.data = ternary.pack(-codes_of(1, 8, 12))
    assert torch.equal(ternary_matmul(x, packed, ONE), -first)


def test_gradients_are_those_of_the_dequantised_product() -> None:
    """Straight through the activations' quantisation for x, of the quantised product for everything else."""
    w = codes_of(1, 6, 20)
    x, latent = torch.randn(4, 20, requires_grad=True), torch.randn(6, 20, requires_grad=True)
    scale, bias = torch.rand(6, requires_grad=True), torch.randn(6, requires_grad=True)
    grad = torch.randn(4, 6)
    y = ternary_matmul(x, ternary.pack(w), scale, bias, latent=latent)
    got = torch.autograd.grad(y, (x, scale, bias, latent), grad)
    seen = product(x.detach(), torch.eye(20, dtype=torch.int8), 1)  # x as it was multiplied
    torch.testing.assert_close(got[0], (grad * scale.detach()) @ w.float())
    torch.testing.assert_close(got[1], (grad * (seen @ w.float().T)).sum(0))
    torch.testing.assert_close(got[2], grad.sum(0))
    torch.testing.assert_close(got[3], grad.T @ seen)


def test_inputs_are_kept_only_for_who_needs_them() -> None:
    x, packed = torch.randn(4, 20, requires_grad=True), ternary.pack(codes_of(1, 6, 20))
    saved = ternary_matmul(x, packed, ONE).grad_fn.saved_tensors  # type: ignore[union-attr]
    assert saved[0] is None and saved[1] is None
    saved = ternary_matmul(x, packed, ONE.clone().requires_grad_()).grad_fn.saved_tensors  # type: ignore[union-attr]
    assert saved[0] is not None


def test_first_and_second_derivatives() -> None:
    packed = ternary.pack(codes_of(1, 5, 9))
    x, scale, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 9), (5,), (5,)))

    def function(*leaves: torch.Tensor) -> torch.Tensor:
        return ternary_matmul(leaves[0], packed, *leaves[1:], activation="float")

    assert torch.autograd.gradcheck(function, (x, scale, bias))
    assert torch.autograd.gradgradcheck(function, (x, scale, bias))


def test_a_layout_remembered_in_inference_mode_serves_a_backward() -> None:
    packed, x = ternary.pack(torch.ones(3, 8, dtype=torch.int8)), torch.randn(2, 8, requires_grad=True)
    with torch.inference_mode():
        ternary_matmul(x, packed, ONE)
    ternary_matmul(x, packed, ONE).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 8), 3.0))
