"""Layers of few bits while they learn: the product of q(weight) and the codes of x, its gradients, every way in."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_layers import LAYERS, every_layer, every_way
from sylvester.layers import BinaryLinear, QuantLinear, TernaryLinear
from sylvester.layers._lowbit import LowBitLinear
from sylvester.ops.hadamard_transform import hadamard_transform
from sylvester.ops.quantize_rows import quantize_rows


def entering(layer: LowBitLinear, x: Tensor) -> Tensor:
    """What the weight is multiplied with, by the definition."""
    if layer.norm:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    if layer.rotate is not None:
        x = hadamard_transform(x, block_size=layer.rotate)
    return quantize_rows(x, dequantize=True)[0] if layer.activation == "int8" else x


@every_layer
@pytest.mark.parametrize("shape", [(24,), (7, 24), (2, 3, 24), (0, 24)], ids=str)
def test_output_is_the_product_of_what_is_quantised(make: partial, shape: tuple[int, ...]) -> None:
    layer, x = make(24, 5), torch.randn(shape)
    bias = torch.zeros(5) if layer.bias is None else layer.bias
    expected = F.linear(entering(layer, x).double(), layer.quantized_weight().double(), bias.double())
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


@every_layer
def test_another_width_is_named(make: partial) -> None:
    for layer in (make(24, 5), make(24, 5).freeze()):
        with pytest.raises(ValueError, match=r"x must end in in_features = 24 columns, got .*\(3, 23\)"):
            layer(torch.randn(3, 23))


@every_layer
def test_gradients_pass_both_quantisers(make: partial) -> None:
    """Those of the definition, whose quantisers are straight-through."""
    layer, x = make(24, 5), torch.randn(2, 6, 24, requires_grad=True)
    inputs, cotangent = [x, *layer.parameters()], torch.randn(2, 6, 5)
    got = torch.autograd.grad(layer(x), inputs, cotangent)
    definition = F.linear(entering(layer, x), layer.quantized_weight(), layer.bias)
    expected = torch.autograd.grad(definition, inputs, cotangent)
    for name, own, other in zip(("x", "weight", "bias"), got, expected, strict=False):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4, msg=name)


@every_layer
def test_gradients_do_not_change_values(make: partial) -> None:
    layer, x = make(24, 5), torch.randn(9, 24)
    with torch.no_grad():
        expected = layer(x)
    assert torch.equal(layer(x.requires_grad_()), expected)


@pytest.mark.parametrize("make", [TernaryLinear, BinaryLinear], ids=lambda make: make.__name__)
def test_a_layer_learns_what_another_one_knows(make: type[LowBitLinear]) -> None:
    teacher, student = make(16, 4, bias=False), make(16, 4, bias=False)
    optimiser, x = torch.optim.Adam(student.parameters(), 0.02), torch.randn(256, 16)
    with torch.no_grad():
        wanted = teacher(x)
        before = F.mse_loss(student(x), wanted)
    for _ in range(150):
        optimiser.zero_grad()
        F.mse_loss(student(x), wanted).backward()
        optimiser.step()
    assert F.mse_loss(student(x), wanted) < 0.05 * before


@every_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dtypes_and_autocast_are_those_of_linear(make: partial, dtype: torch.dtype) -> None:
    layer, x = make(24, 5), torch.randn(3, 24)
    expected = layer(x)
    with pytest.raises((RuntimeError, TypeError), match="dtype"):
        layer(x.to(dtype))
    with torch.autocast("cpu", dtype):
        for given in (x, x.to(dtype)):
            output = layer(given)
            assert output.dtype == dtype
            assert (output - expected).norm() < 0.1 * expected.norm()
        output.float().sum().backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())
    layer = layer.to(dtype)
    output = layer(x.to(dtype))
    assert output.dtype == dtype
    assert (output - expected).norm() < 0.1 * expected.norm()
    output.float().sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in layer.parameters())


@pytest.mark.parametrize("rotate", [8, 12, 24])
def test_rotation_leaves_the_product_as_it_is(rotate: int) -> None:
    layer, plain = QuantLinear(24, 5, None, rotate=rotate), QuantLinear(24, 5, None)
    plain.load_state_dict(layer.state_dict())
    with torch.no_grad():
        layer.weight.copy_(hadamard_transform(plain.weight, block_size=rotate))
    x = torch.randn(9, 24)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)


def test_layout_is_derived_once_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []
    original = TernaryLinear._codes
    monkeypatch.setattr(TernaryLinear, "_codes", lambda *a: derived.append(1) or original(*a))
    layer, x = TernaryLinear(24, 5), torch.randn(3, 24)
    with torch.no_grad():
        for _ in range(3):
            before = layer(x)
        assert len(derived) == 1
        layer.weight.neg_()
        assert not torch.equal(layer(x), before) and len(derived) == 2
    assert list(layer.buffers()) == [] and list(layer.state_dict()) == ["weight", "bias"]


@every_way
def test_layer_compiles_in_one_graph_and_exports(make: partial) -> None:
    torch._dynamo.reset()
    layer, x = make(24, 5), torch.randn(6, 24)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    parameters = list(layer.parameters())
    assert torch.equal(compiled(x), layer(x))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x).square().sum(), parameters),
        torch.autograd.grad(layer(x).square().sum(), parameters),
    )
    with torch.no_grad():
        assert torch.equal(compiled(x), layer(x))
        assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))


MISUSES = {
    "sizes": (lambda: TernaryLinear(0, 4), "in_features and out_features must be at least 1, got 0 and 4"),
    "threshold": (lambda: TernaryLinear(4, 4, threshold="median"), "one of absmean, absmax, got 'median'"),
    "encoding": (lambda: TernaryLinear(4, 4, encoding="2"), "encoding must be"),
    "activation": (lambda: BinaryLinear(4, 4, activation="int4"), "one of int8, float, got 'int4'"),
    "bits": (lambda: QuantLinear(4, 4, 9), "bits must be None .* 1 to 8, got 9"),
    "no bits": (lambda: QuantLinear(4, 4, None, activation="int8"), "bits=None, whose weights are no integers"),
    "nothing to pack": (lambda: QuantLinear(4, 4, None).freeze(), "QuantLinear has bits=None"),
    "rotation": (lambda: TernaryLinear(12, 4, rotate=8), "block_size .* got 8"),
    "width": (lambda: TernaryLinear(12, 4)(torch.randn(2, 13)), "13"),
    "integers": (lambda: TernaryLinear(4, 4)(torch.ones(2, 4).long()), "torch.float32, got a int64 tensor"),
    "float64": (lambda: TernaryLinear(4, 4).double()(torch.ones(2, 4).double()), 'activation must be "float"'),
}


@pytest.mark.parametrize("call, message", MISUSES.values(), ids=MISUSES.keys())
def test_misuse_is_explained(call: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_text_names_the_options() -> None:
    assert repr(TernaryLinear(4, 8)) == "TernaryLinear(4, 8, bias=True)"
    assert "bias=False, threshold='absmax', per_row=True" in repr(LAYERS["ternary, options"](4, 8))
    assert repr(QuantLinear(4, 8, 3, activation="int8").freeze()).endswith("bits=3, activation='int8', frozen)")
