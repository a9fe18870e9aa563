"""Derived tensors (signs, quantised weights) are remembered, and never outlive the parameter they come from."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from sylvester.layers import HadamRNN, _parameters


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def changed_in_place(layer: HadamRNN) -> HadamRNN:
    with torch.no_grad():
        layer.sign_latent.neg_()
        for name in {"weight_ih", "weight_ih_l1", "weight_ho"} & dict(layer.named_parameters()).keys():
            getattr(layer, name).mul_(0.5)
    return layer


def changed_in_inference_mode(layer: HadamRNN) -> HadamRNN:
    with torch.inference_mode():
        layer.sign_latent.neg_()
    return layer


def optimised(layer: HadamRNN) -> HadamRNN:
    with torch.enable_grad():
        layer(torch.randn(3, 2, 4))[0].sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    return layer


def loaded(layer: HadamRNN, assign: bool = False) -> HadamRNN:
    other = copy.deepcopy(layer)
    other.reset_parameters()
    layer.load_state_dict(other.state_dict(), assign=assign)
    return layer


def changed_through_data(layer: HadamRNN) -> HadamRNN:
    layer.sign_latent.data.neg_()
    return layer.eval()


def replaced_data(layer: HadamRNN) -> HadamRNN:
    layer.sign_latent.data = -layer.sign_latent.data
    return layer


def copied(layer: HadamRNN) -> HadamRNN:
    return changed_in_place(copy.deepcopy(layer))


def pickled(layer: HadamRNN) -> HadamRNN:
    return changed_in_place(pickle.loads(pickle.dumps(layer)))


CHANGES = [
    changed_in_place,
    changed_in_inference_mode,
    optimised,
    loaded,
    lambda layer: loaded(layer, assign=True),
    changed_through_data,
    replaced_data,
    copied,
    pickled,
    HadamRNN.double,
]


OPTIONS = [
    {},
    {"last_only": True},
    {"last_only": True, "output_size": 3},
    {"num_layers": 2, "bidirectional": True, "output_size": 3},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_derived_tensors_never_outlive_their_parameter(change: object, mode: object, options: dict) -> None:
    """The signs and U_q; with last_only the basis, with output_size V_q too."""
    layer, x, tokens = HadamRNN(4, 16, **options), torch.randn(5, 2, 4), torch.randint(0, 4, (5, 2))
    with mode():
        before = layer(x)[0], layer(tokens)[0]
    layer = change(layer)
    fresh = HadamRNN(4, 16, dtype=layer.bias.dtype, **options)
    fresh.load_state_dict(layer.state_dict())
    with mode():
        after, expected = layer(x.to(layer.bias.dtype))[0], fresh(x.to(layer.bias.dtype))[0]
        assert torch.equal(after, expected)
        assert torch.equal(layer(tokens)[0], fresh(tokens)[0])
    assert not torch.equal(before[0], after.float()) or change is HadamRNN.double


def test_derived_tensors_are_remembered_without_gradients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []
    for name in ("sign_ste", "fake_quantize"):
        original = getattr(_parameters, name)
        monkeypatch.setattr(_parameters, name, lambda *a, f=original: derived.append(f) or f(*a))
    layer, x = HadamRNN(4, 16), torch.randn(3, 2, 4)
    for mode in (torch.inference_mode, torch.no_grad):  # what inference mode remembered serves under no_grad too
        for _ in range(2):
            with mode():
                layer(x)
    assert len(derived) == 2
    layer(x)
    assert len(derived) == 4
    assert list(layer.buffers()) == []
    layer.requires_grad_(False)
    layer(x.requires_grad_())[0].sum().backward()
    assert x.grad is not None and len(derived) == 6


def test_parametrised_weights_are_followed() -> None:
    layer, x = HadamRNN(4, 16), torch.randn(3, 2, 4)
    negative = copy.deepcopy(layer)
    with torch.no_grad():
        layer(x)
        torch.nn.utils.parametrize.register_parametrization(layer, "weight_ih", Negated())
        negative.weight_ih.neg_()
        assert torch.equal(layer(x)[0], negative(x)[0])


class Negated(torch.nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return -weight


def test_copies_and_pickles_answer_alike() -> None:
    layer, x = HadamRNN(4, 16), torch.randn(5, 2, 4)
    expected = layer(x)[0]
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x)[0], expected)
