"""convert: layers swapped in place and reported in bytes, rotated without a change of results; or nothing at all."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

import sylvester
from sylvester.conversion import Change
from sylvester.layers import BinaryLinear, QuantLinear, TernaryLinear
from sylvester.ops.hadamard_transform import hadamard_transform

TERNARY = {nn.Linear: TernaryLinear}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(24, 32), nn.Linear(32, 24, bias=False)
        self.attention = nn.MultiheadAttention(24, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0] + self.down(torch.relu(self.up(x)))


@pytest.fixture
def model() -> nn.Sequential:
    return nn.Sequential(Block(), nn.LayerNorm(24), nn.Linear(24, 7))


def test_layers_are_swapped_and_reported(model: nn.Sequential) -> None:
    parameters, before = dict(model.named_parameters()), sum(p.nbytes for p in model.parameters())
    report = sylvester.convert(model.eval(), TERNARY, filter=lambda name, module: name != "2")
    assert report.changes == (
        Change("0.up", "Linear", "TernaryLinear", 24 * 32 * 4 + 32 * 4, 32 * 6 + 4 + 32 * 4),
        Change("0.down", "Linear", "TernaryLinear", 32 * 24 * 4, 24 * 8 + 4),
    )
    assert type(model[0].up) is type(model[0].down) is TernaryLinear and type(model[2]) is nn.Linear
    assert (
        type(model[0].attention.out_proj) is not TernaryLinear
    )  # a subclass that nn.MultiheadAttention reads by itself
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert not model[0].up.training
    assert report.bytes_before == before
    sylvester.freeze(model)
    assert sum(tensor.nbytes for tensor in model.state_dict().values()) == report.bytes_frozen
    assert str(report).endswith(f"2 layers; the model: {before} -> {report.bytes_frozen} bytes when frozen")
    assert "0.down  Linear -> TernaryLinear  3072 -> 196 bytes" in str(report)


def test_factories_carry_options(model: nn.Sequential) -> None:
    factories = {nn.Linear: partial(TernaryLinear, activation="float", threshold="absmax"), nn.LayerNorm: None}
    with pytest.raises(ValueError, match="1 cannot be converted: its parameters are not a plain weight"):
        sylvester.convert(model, factories)
    del factories[nn.LayerNorm]
    sylvester.convert(model, factories)
    assert model[2].activation == "float" and model[2].threshold == "absmax"
    sylvester.convert(model, {TernaryLinear: partial(QuantLinear, bits=None)})
    assert type(model[0].up) is QuantLinear


@pytest.mark.parametrize("make", [TernaryLinear, BinaryLinear, partial(QuantLinear, bits=4, activation="int8")])
def test_converted_and_frozen_is_the_dequantised_dense_model(model: nn.Sequential, make: object) -> None:
    x = torch.randn(5, 3, 24)
    sylvester.convert(model, {nn.Linear: partial(make, activation="float")})
    expected = model(x)
    dense = copy.deepcopy(model)
    for parent, key in ((dense[0], "up"), (dense[0], "down"), (dense, "2")):
        layer = getattr(parent, key)
        linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        linear.load_state_dict(
            {"weight": layer.quantized_weight(), **({} if layer.bias is None else {"bias": layer.bias})}
        )
        setattr(parent, key, linear)
    torch.testing.assert_close(dense(x), expected)
    torch.testing.assert_close(sylvester.freeze(model)(x), expected, rtol=1e-5, atol=1e-5)
    fresh = nn.Sequential(Block(), nn.LayerNorm(24), nn.Linear(24, 7))
    sylvester.convert(fresh, {nn.Linear: partial(make, activation="float")})
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))


@pytest.mark.parametrize("rotate", [4, 8])
def test_rotation_changes_weights_but_no_results(model: nn.Sequential, rotate: int) -> None:
    x, weight = torch.randn(5, 3, 24), model[2].weight.detach().clone()
    expected = model(x)
    sylvester.convert(model, {nn.Linear: partial(QuantLinear, bits=None)}, rotate=rotate)
    assert torch.equal(model[2].weight, hadamard_transform(weight, block_size=rotate))
    assert (model(x) - expected).abs().max() < 1e-3
    assert model[2].weight.requires_grad and "rotate=" in repr(model[2])


def test_rotation_spreads_an_outlier() -> None:
    """What rotations are for: one large activation leaves no codes for the others, unless it is shared out."""
    x, linear = torch.randn(64, 128), nn.Linear(128, 32)
    x[:, 5] *= 200
    errors = []
    for rotate in (None, 128):
        model = nn.Sequential(copy.deepcopy(linear))
        sylvester.convert(model, {nn.Linear: partial(QuantLinear, bits=8, activation="int8")}, rotate=rotate)
        with torch.no_grad():
            errors.append((model(x) - linear(x)).norm())
    assert errors[1] < 0.5 * errors[0]


def test_one_layer_in_two_places_stays_one() -> None:
    shared = nn.Linear(24, 24)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    with pytest.raises(ValueError, match="0 and 2 are one layer, but filter takes only the first"):
        sylvester.convert(model, TERNARY, filter=lambda name, module: name == "0")
    report = sylvester.convert(model, TERNARY)
    assert model[0] is model[2] and type(model[0]) is TernaryLinear
    assert [change.name for change in report.changes] == ["0 = 2"]


def test_a_model_on_no_device_converts() -> None:
    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(24, 8))
    full = nn.Sequential(nn.Linear(24, 8))
    for model in (empty, full):
        sylvester.convert(model, TERNARY, rotate=8)
    empty.load_state_dict(sylvester.freeze(full).state_dict(), assign=True)
    x = torch.randn(2, 24)
    assert torch.equal(empty(x), full(x))


def tied(model: nn.Sequential) -> None:
    model.append(nn.Embedding(7, 24))
    model[3].weight = model[2].weight


def parametrised(model: nn.Sequential) -> None:
    nn.utils.spectral_norm(model[2])


def hooked(model: nn.Sequential) -> None:
    model[2].register_forward_hook(lambda *_: None)


REFUSALS = {
    "tied": (tied, {}, "2 cannot be converted: its parameter is also 3.weight; leave it out by filter, or untie"),
    "hooks": (hooked, {}, "2 cannot be converted: it has hooks"),
    "spectral norm": (parametrised, {}, "2 cannot be converted: its parameters are not a plain weight"),
    "rotation": (None, {"rotate": 16}, "0.up cannot be converted: block_size .* got 16"),
    "nothing": (None, {"filter": lambda *_: False}, "no layer to convert: none of type Linear that the filter takes"),
    "factory": (None, {"by": partial(TernaryLinear, bits=3)}, "0.up cannot be converted: .* 'bits'"),
    "shape": (None, {"by": lambda i, o, **rest: TernaryLinear(o, i, **rest)}, "and its replacement has"),
    "late": (None, {"by": lambda i, o, **rest: TernaryLinear(i, o + (o == 7), **rest)}, "2 cannot be converted"),
    "deaf to rotate": (
        None,
        {"by": lambda i, o, rotate, **rest: TernaryLinear(i, o, **rest), "rotate": 8},
        "0.up .* does not rotate by 8",
    ),
}


@pytest.mark.parametrize("prepare, options, message", REFUSALS.values(), ids=REFUSALS.keys())
def test_an_unconvertible_model_stays_as_it_is(
    model: nn.Sequential, prepare: object, options: dict, message: str
) -> None:
    if prepare is not None:
        prepare(model)
    modules = dict(model.named_modules())
    state = copy.deepcopy(model.state_dict())
    options = dict(options)
    with pytest.raises(ValueError, match=message):
        sylvester.convert(model, {nn.Linear: options.pop("by", TernaryLinear)}, **options)
    assert all(module is modules[name] for name, module in model.named_modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_layer_by_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="model must hold the layers to convert, got a Linear by itself"):
        sylvester.convert(nn.Linear(4, 4), TERNARY)
