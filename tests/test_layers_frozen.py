"""Frozen layers: exactly the packed bytes, the same answers, states that load both ways, and no more learning."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lowbit_layers import FROZEN_BYTES, LAYERS, every_layer, every_way
from sylvester.layers import BinaryLinear, QuantLinear, TernaryLinear, _freezing
from sylvester.layers._lowbit import LowBitLinear


def same(layer: LowBitLinear, got: Tensor, expected: Tensor) -> bool:
    """Bit for bit with integers; floats are multiplied by torch while a layer learns."""
    return torch.equal(got, expected) if layer.activation == "int8" else torch.allclose(got, expected, 1e-5, 1e-5)


@every_layer
def test_frozen_layer_answers_as_the_learning_one(make: partial) -> None:
    layer, x = make(24, 5), torch.randn(2, 9, 24)
    with torch.no_grad():
        expected, weight = layer(x), layer.quantized_weight()
    assert layer.freeze() is layer and layer.frozen and not layer.training
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        with mode():
            assert same(layer, layer(x), expected)
            assert torch.equal(layer.quantized_weight(), weight)
    assert layer.freeze() is layer


@pytest.mark.parametrize("name", LAYERS)
def test_state_is_the_packed_bytes(name: str) -> None:
    layer = LAYERS[name](24, 5)
    assert layer.frozen_bytes() == FROZEN_BYTES[name]
    state = layer.freeze().state_dict()
    assert list(state) == [*([] if layer.bias is None else ["bias"]), "packed", "scale"]
    assert sum(tensor.nbytes for tensor in state.values()) == FROZEN_BYTES[name] == layer.frozen_bytes()
    assert [*layer.parameters()] == ([] if layer.bias is None else [layer.bias])
    with torch.no_grad():
        layer(torch.randn(2, 24))
    assert sum(tensor.nbytes for tensor in layer.state_dict().values()) == FROZEN_BYTES[name]


def test_a_big_layer_weighs_what_its_format_says() -> None:
    for make, row in ((TernaryLinear, 256), (partial(TernaryLinear, encoding="1.6bit"), 205), (BinaryLinear, 128)):
        state = make(1024, 512, bias=False).freeze().state_dict()
        assert sum(tensor.nbytes for tensor in state.values()) == 512 * row + 4


@every_layer
@pytest.mark.parametrize("assign", [False, True])
def test_frozen_state_freezes_the_layer_that_loads_it(make: partial, assign: bool, tmp_path: Path) -> None:
    layer, x = make(24, 5).freeze(), torch.randn(9, 24)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    fresh = make(24, 5)
    with torch.no_grad():
        fresh(x)
        fresh.load_state_dict(load_file(tmp_path / "layer.safetensors"), assign=assign)
        assert fresh.frozen and fresh.weight is None and not fresh.training
        assert torch.equal(fresh(x), layer(x))


@every_layer
def test_learning_state_makes_a_frozen_layer_learn(make: partial) -> None:
    source, layer, x = make(24, 5), make(24, 5).freeze(), torch.randn(9, 24)
    layer.load_state_dict(source.state_dict())
    assert not layer.frozen and list(layer.state_dict()) == list(source.state_dict())
    assert layer.weight.requires_grad and torch.equal(layer(x), source(x))


def test_a_model_on_no_device_takes_a_frozen_state() -> None:
    layer, x = TernaryLinear(24, 5).freeze(), torch.randn(3, 24)
    with torch.device("meta"):
        fresh = TernaryLinear(24, 5)
    fresh.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(fresh(x), layer(x))


MISFITS = {
    "row length": (TernaryLinear(28, 5), r"packed must be uint8 of shape \(5, 6\), got a uint8 tensor of shape \(5, 7"),
    "encoding": (TernaryLinear(24, 5, encoding="1.6bit"), r"shape \(5, 6\), got"),
    "scale": (TernaryLinear(24, 5, per_row=True), r"scale must be float32 of shape \(\), got"),
}


@pytest.mark.parametrize("source, message", MISFITS.values(), ids=MISFITS.keys())
def test_a_state_that_does_not_fit_leaves_the_layer_alone(source: TernaryLinear, message: str) -> None:
    layer, x = TernaryLinear(24, 5), torch.randn(3, 24)
    expected = layer(x)
    state = copy.deepcopy(source).freeze().state_dict()
    with pytest.raises(RuntimeError, match=message):
        layer.load_state_dict(state)
    with pytest.raises(RuntimeError, match="packed and scale, and no weight; the state has packed, weight"):
        layer.load_state_dict({"packed": state["packed"], "weight": layer.weight, "bias": layer.bias})
    with pytest.raises(RuntimeError, match="bits=None and cannot be frozen"):
        QuantLinear(24, 5, None).load_state_dict(state)
    state._metadata[""]["version"] = 2
    with pytest.raises(RuntimeError, match="version 2 of TernaryLinear"):
        layer.load_state_dict(state)
    assert not layer.frozen and torch.equal(layer(x), expected)


@every_layer
def test_thaw_warns_and_learns_from_the_dequantised_weights(make: partial) -> None:
    layer = make(24, 5).freeze()
    weight = layer.quantized_weight()
    with pytest.warns(UserWarning, match="lossy"):
        assert layer.thaw() is layer
    assert torch.equal(layer.weight, weight) and layer.weight.requires_grad and not layer.frozen
    layer.train()(torch.randn(3, 24)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.thaw() is layer and torch.equal(layer.weight, weight)
    with pytest.warns(UserWarning):
        assert layer.freeze().thaw(torch.float64).weight.dtype == torch.float64


def test_a_frozen_layer_refuses_to_learn_but_passes_gradients_on() -> None:
    layer, x = TernaryLinear(24, 5).freeze(), torch.randn(3, 24, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x), x, torch.ones(3, 5))
    torch.testing.assert_close(gradient, layer.quantized_weight().sum(0).expand(3, 24), rtol=1e-5, atol=1e-5)
    layer.train()
    with pytest.raises(RuntimeError, match=r"TernaryLinear is frozen and cannot be trained; call thaw\(\) .* eval\(\)"):
        layer(x)
    with pytest.raises(RuntimeError, match="frozen and has no weight to initialise"):
        layer.reset_parameters()
    with torch.no_grad():
        layer(x)


def test_weights_that_cannot_be_packed_are_refused() -> None:
    layer = TernaryLinear(24, 5)
    with torch.no_grad():
        layer.weight[2, 3] = torch.nan
    with pytest.raises(ValueError, match="weight must be finite"):
        layer.freeze()
    assert layer(torch.randn(3, 24)).isnan().all()
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", torch.nn.Identity())
    with pytest.raises(RuntimeError, match="remove its parametrisation first"):
        layer.freeze()


def test_copies_and_pickles_answer_alike() -> None:
    layer, x = TernaryLinear(24, 5).freeze(), torch.randn(3, 24)
    expected, file = layer(x), io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert twin.frozen and torch.equal(twin(x), expected)
    with torch.no_grad():
        layer.packed.copy_(TernaryLinear(24, 5).freeze().packed)
    assert not torch.equal(layer(x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_conversion_leaves_packed_and_scale_as_they_are(dtype: torch.dtype) -> None:
    layer = TernaryLinear(24, 5, activation="float").freeze()
    x, packed, scale = torch.randn(3, 24), layer.packed.clone(), layer.scale.clone()
    expected = layer(x)
    layer.to(dtype)
    assert layer.bias.dtype == dtype and layer.scale.dtype == torch.float32
    assert torch.equal(layer.packed, packed) and torch.equal(layer.scale, scale)
    output = layer(x.to(dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=2e-2, atol=2e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.to("meta").scale.is_meta


@every_way
@pytest.mark.parametrize("derived", [False, True], ids=["at once", "after a call"])
def test_frozen_layer_compiles_and_exports(make: partial, derived: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph reads the layout where it is kept; it derives none itself."""
    torch._dynamo.reset()
    derivations = []
    original = _freezing.layout
    monkeypatch.setattr(_freezing, "layout", lambda *a: derivations.append(1) or original(*a))
    layer, x = make(24, 5).freeze(), torch.randn(6, 24, requires_grad=True)
    expected = layer(x) if derived else copy.deepcopy(layer)(x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    derivations.clear()
    for _ in range(3):
        assert same(layer, compiled(x), expected)
    assert len(derivations) <= 1
    gradients = [torch.autograd.grad(call(x).square().sum(), x)[0] for call in (compiled, layer)]
    torch.testing.assert_close(*gradients)
    other = make(24, 5).freeze()
    layer.load_state_dict(other.state_dict())
    assert same(layer, compiled(x), other(x))
    with torch.no_grad():
        assert same(layer, torch.export.export(layer, (x,)).module()(x), layer(x))
