"""Weights named as the authors' code names them, and what a model made of them computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sylvester.models import from_reference

INPUTS, STATES = 5, 16


class Parametrised(nn.Module):
    """Stands for a quantiser, or for the Hadamard matrix, which keeps the sign vector as well."""

    def __init__(self, sign_vector: nn.Parameter | None = None) -> None:
        super().__init__()
        self.sign_vector = sign_vector

    def forward(self, weight: Tensor) -> Tensor:
        return weight


def weights(outputs: int = 3, bits: int | None = 4) -> dict[str, Tensor]:
    """torch's own names for parametrised layers of their kinds."""
    model = nn.Module()
    model.input_layer = nn.Linear(INPUTS, STATES, bias=False)
    model.recurrent_layer = nn.Linear(STATES, STATES)
    model.recurrent_layer.sign_vector = nn.Parameter(torch.randn(1, STATES))
    model.output_layer = nn.Linear(STATES, outputs)
    sign_vector = model.recurrent_layer.sign_vector
    parametrize.register_parametrization(model.recurrent_layer, "weight", Parametrised(sign_vector))
    for layer in (model.input_layer, model.output_layer) if bits is not None else ():
        parametrize.register_parametrization(layer, "weight", Parametrised())
    return dict(model.state_dict())


def quantised(weight: Tensor, bits: int | None) -> Tensor:
    if bits is None:
        return weight
    alpha, steps = weight.abs().max(), 2.0 ** (bits - 1)
    return (weight * (steps / alpha)).round().clamp(-steps, 1 if bits == 1 else steps - 1) * (alpha / steps)


def published_formula(state: dict[str, Tensor], x: Tensor, block_size: int, bits: int | None) -> Tensor:
    """h = W h + b_i + U x with W = diag(sign u) 2^(-k/2) (I ⊗ S), y = V ReLU(h) + b_o: (B,T,I) → (B,T,O)."""
    factor, block = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5, torch.ones(1, 1)
    while len(block) < block_size:
        block = torch.kron(factor, block)
    recurrent = torch.diag(state["recurrent_layer.sign_vector"][0].sign()) @ torch.kron(
        torch.eye(STATES // block_size), block
    )
    kept = "weight" if bits is None else "parametrizations.weight.original"
    inputs, outputs = (quantised(state[f"{side}_layer.{kept}"], bits) for side in ("input", "output"))
    state_t, answers = torch.zeros(len(x), STATES), []
    for step in x.unbind(1):
        state_t = state_t @ recurrent.T + state["recurrent_layer.bias"] + step @ inputs.T
        answers.append(state_t.relu() @ outputs.T + state["output_layer.bias"])
    return torch.stack(answers, dim=1)


@pytest.mark.parametrize("bits", [4, 1, None])
@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("outputs", [3, 33])
def test_the_model_computes_what_the_paper_says(bits: int | None, block_size: int | None, outputs: int) -> None:
    state, x = weights(outputs, bits), torch.randn(2, 20, INPUTS)
    expected = published_formula(state, x, block_size or STATES, bits)
    model = from_reference(state, block_size=block_size, bits=bits)
    torch.testing.assert_close(model(x)[0], expected, rtol=1e-4, atol=1e-4)
    last = from_reference(state, block_size=block_size, bits=bits, last_only=True)
    torch.testing.assert_close(last(x)[0], expected[:, -1], rtol=1e-4, atol=1e-4)
    assert not model.training


def test_weights_without_what_is_never_used_are_taken_too() -> None:
    state, x = weights(), torch.randn(2, 6, INPUTS)
    least = {name: value for name, value in state.items() if "recurrent_layer.parametrizations" not in name}
    assert len(least) == 5 and len(state) == 7
    assert torch.equal(from_reference(least)(x)[0], from_reference(state)(x)[0])


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({name: change(state[name])})


SIGNS, AGAIN = "recurrent_layer.sign_vector", "recurrent_layer.parametrizations.weight.0.sign_vector"
KEPT = "parametrizations.weight.original"
DAMAGES = {
    "missing": (lambda state: state.pop("recurrent_layer.bias"), "recurrent_layer.bias is missing; with bits=4 the"),
    "full precision": (
        lambda state: state.update({"output_layer.weight": state.pop(f"output_layer.{KEPT}")}),
        "output_layer.parametrizations.weight.original is missing",
    ),
    "left over": (lambda state: state.update(scale=torch.ones(1)), "scale is left over; the weights are input_layer"),
    "embedding": (
        lambda state: state.update({"word_embedding.weight": torch.ones(9, INPUTS)}),
        "word_embedding.weight is left over; the model begins behind the embedding",
    ),
    "second layer": (
        lambda state: state.update({"recurrent_layer_2.bias": torch.ones(STATES)}),
        "recurrent_layer_2.bias is left over; it belongs to the second layer",
    ),
    "flat signs": (changed(SIGNS, torch.flatten), r"sign_vector must have shape \(1, 16\), got \(16,\)"),
    "two vectors": (changed(AGAIN, torch.neg), "must be equal to recurrent_layer.sign_vector"),
    "a sign of 0": (lambda state: state[SIGNS][0, 3].zero_(), "sign_vector holds a 0"),
    "wide bias": (changed("output_layer.bias", lambda bias: bias.repeat(2)), r"output_layer.bias must .* \(3,\)"),
    "narrow read-out": (
        changed(f"output_layer.{KEPT}", lambda weight: weight[:, :8]),
        r"output_layer.parametrizations.weight.original must have shape \(3, 16\), got \(3, 8\)",
    ),
    "a vector": (changed(f"input_layer.{KEPT}", torch.flatten), r"shapes \(D,I\) and \(O,D\), got \(80,\) and \(3, 16"),
}


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES.keys())
def test_weights_that_do_not_fit_are_named(damage: Callable[[dict], object], message: str) -> None:
    state = weights()
    damage(state)
    with pytest.raises(ValueError, match=message):
        from_reference(state)


def test_a_block_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="block_size must be a power of two that divides the width 16, got 5"):
        from_reference(weights(), block_size=5)
