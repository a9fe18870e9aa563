"""Stacks of HadamRNN cells: layers, directions, activations, lengths, the read-out, and their gradients."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from definition import run
from sylvester.layers import HadamRNN

STACKS = {
    "two layers": {"num_layers": 2},
    "both directions": {"bidirectional": True},
    "three of both": {"num_layers": 3, "bidirectional": True, "activation": "relu", "block_size": 4},
    "modrelu": {"num_layers": 2, "activation": "modrelu"},
    "read-out": {"output_size": 3},
    "ternary read-out of both": {"output_size": 5, "bidirectional": True, "output_bits": 1},
    "read-out of two": {"num_layers": 2, "output_size": 1, "activation": "relu", "output_bits": None},
    "nothing else": {"num_layers": 2, "bidirectional": True, "output_size": 2, "bias": False, "sign_clip": 0.2},
}
every_stack = pytest.mark.parametrize("options", STACKS.values(), ids=STACKS.keys())


def arguments(layer: HadamRNN, steps: int = 9, rows: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    dtype = layer.weight_ih.dtype
    cells = layer.num_layers * layer.directions
    lengths = torch.tensor([steps, 0, steps // 2] + [1] * (rows - 3))
    x, h0 = torch.randn(steps, rows, layer.input_size), torch.randn(cells, rows, layer.hidden_size)
    return x.to(dtype), h0.double() if dtype == torch.float64 else h0, lengths


@every_stack
@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_values_and_gradients_are_those_of_the_definition(options: dict, last_only: bool, cut: bool) -> None:
    layer = HadamRNN(3, 8, **options, last_only=last_only, dtype=torch.float64)
    x, h0, lengths = arguments(layer, 70)
    rest = (lengths,) if cut else ()
    inputs = [x.requires_grad_(), h0.requires_grad_(), *layer.parameters()]
    expected, got = run(layer, x, h0, *rest), layer(x, h0, *rest)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    cotangents = [torch.randn_like(part) for part in expected]
    gradients = [torch.autograd.grad(parts, inputs, cotangents) for parts in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(layer(x), run(layer, x), rtol=1e-9, atol=1e-9)


@every_stack
def test_a_layer_in_float32_is_close_to_the_definition(options: dict) -> None:
    layer = HadamRNN(5, 16, **options).eval()
    x, h0, lengths = arguments(layer, 40)
    with torch.inference_mode():
        for _ in range(2):  # derived, then remembered
            got = layer(x, h0, lengths)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, h0, lengths), got, rtol=0, atol=0)
        expected = run(layer.double(), x.double(), h0.double(), lengths)
    torch.testing.assert_close([part.double() for part in got], list(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_layers, bidirectional, bias", [(1, True, True), (2, False, False), (3, True, True)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_shapes_and_names_are_those_of_nn_rnn(
    num_layers: int, bidirectional: bool, bias: bool, batch_first: bool
) -> None:
    options = {"bidirectional": bidirectional, "bias": bias, "batch_first": batch_first}
    layer, model = HadamRNN(5, 16, num_layers, **options), nn.RNN(5, 16, num_layers, **options)
    layer.flatten_parameters()
    for shape in ((7, 4, 5), (7, 5)):
        x = torch.randn(shape)
        for got, expected in zip(layer(x), model(x), strict=True):
            assert got.shape == expected.shape
        output, last = layer(x, torch.randn_like(layer(x)[1]))
        ends = output.movedim(-2 if batch_first or x.dim() == 2 else 0, 0)
        assert torch.equal(ends[-1][..., :16], last[-2 if bidirectional else -1])
        assert not bidirectional or torch.equal(ends[0][..., 16:], last[-1])
    own = {name: tuple(value.shape) for name, value in layer.named_parameters() if "weight" in name}
    theirs = {re.sub("_l0", "", name): tuple(value.shape) for name, value in model.named_parameters() if "ih" in name}
    assert own == {name: shape for name, shape in theirs.items() if "weight" in name}
    assert sum("bias" in name for name in layer.state_dict()) == bias * num_layers * (1 + bidirectional)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{"output_size": 3}, {"bidirectional": True}], ids=str)
def test_last_only_is_the_last_output(options: dict, batch_first: bool) -> None:
    layer = HadamRNN(5, 16, 2, **options, batch_first=batch_first)
    x = torch.randn(4, 7, 5) if batch_first else torch.randn(7, 4, 5)
    whole, last = layer(x)
    whole = whole.transpose(0, 1) if batch_first else whole
    expected = torch.cat([whole[-1, :, :16], whole[0, :, 16:]], dim=-1)  # the second direction ends at the first step
    layer.last_only = True
    output, same = layer(x)
    assert torch.equal(output, expected) and torch.equal(same, last)
    alone, _ = layer(x.select(0 if batch_first else 1, 2))
    assert torch.equal(alone, output[2])


@pytest.mark.parametrize("options", [{}, {"output_size": 3}, {"bidirectional": True, "output_size": 3}], ids=str)
@pytest.mark.parametrize("tokens", [False, True])
def test_a_last_state_of_few_inputs_has_the_same_bits_with_and_without_gradients(options: dict, tokens: bool) -> None:
    """By the basis, which is remembered without gradients; the scan rounds in another order."""
    layer = HadamRNN(2, 16, **options, last_only=True)
    x = torch.randint(0, 2, (50, 3)) if tokens else torch.randn(50, 3, 2)
    learning = layer(x)
    scanned = layer(x, torch.zeros(1 + layer.bidirectional, 3, 16))
    with torch.no_grad():
        for _ in range(2):
            for got, expected, other in zip(layer(x), learning, scanned, strict=True):
                assert torch.equal(got, expected) and not torch.equal(got, other)
                torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-4)


def test_layers_are_layers_one_after_the_other() -> None:
    whole, x = HadamRNN(5, 8, 2, activation="relu", output_size=3), torch.randn(6, 2, 5)
    lower, upper = HadamRNN(5, 8, activation="relu"), HadamRNN(8, 8, activation="relu", output_size=3)
    state = whole.state_dict()
    lower.load_state_dict({name: state[name] for name in lower.state_dict()})
    upper.load_state_dict({name: state[name if "ho" in name else name + "_l1"] for name in upper.state_dict()})
    states, below = lower(x)
    output, above = upper(states)
    assert torch.equal(whole(x)[0], output) and torch.equal(whole(x)[1], torch.cat([below, above]))


def test_dropout_is_between_layers_and_in_training() -> None:
    x = torch.randn(6, 2, 5)
    layer = HadamRNN(5, 8, 2, dropout=1.0)
    silent = HadamRNN(5, 8, 2)
    silent.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x)[0], silent(x)[0])
    output, last = layer.train()(x)
    assert torch.equal(output[0], layer.bias_l1.expand(2, 8)), "a layer without input is driven by its bias"
    assert torch.equal(last[0], silent(x)[1][0]) and torch.equal(last[1], output[-1])
    layer.dropout = 0.5
    assert not torch.equal(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="dropout=0.5 acts between layers, and num_layers is 1"):
        HadamRNN(5, 8, dropout=0.5)


def test_initial_values_of_every_cell_and_of_the_read_out() -> None:
    layer = HadamRNN(10, 512, 2, bidirectional=True, activation="modrelu", output_size=8)
    for suffix in ("", "_reverse", "_l1", "_l1_reverse"):
        weight, act_bias = getattr(layer, "weight_ih" + suffix), getattr(layer, "act_bias" + suffix)
        assert weight.abs().max().item() == pytest.approx((6 / sum(weight.shape)) ** 0.5, rel=2e-2)
        assert act_bias.abs().max().item() == pytest.approx(0.01, rel=2e-2)
        assert getattr(layer, "sign_latent" + suffix).abs().max().item() == pytest.approx(0.1081, abs=2e-3)
        assert set(layer.signs(suffix).tolist()) == {-1.0, 1.0}
        assert torch.equal(layer.quantized_weight_ih(suffix), layer._quantized(weight))
    assert layer.weight_ho.abs().max().item() == pytest.approx((6 / 1032) ** 0.5, rel=2e-2)
    assert layer.bias_ho.abs().max().item() <= 1024**-0.5
    assert layer.quantized_weight_ho().unique().numel() <= 16


class Sizes(TorchDispatchMode):
    """Notes the size of every tensor that an operator returns."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def __torch_dispatch__(self, op: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        result = op(*args, **(kwargs or {}))
        parts = result if isinstance(result, (tuple, list)) else (result,)
        self.sizes |= {part.numel() for part in parts if part is not None}
        return result


@pytest.mark.parametrize("last_only", [False, True])
def test_no_array_of_the_states_exists_with_a_read_out(last_only: bool) -> None:
    layer, tokens = HadamRNN(4, 64, output_size=3, last_only=last_only), torch.randint(0, 4, (200, 5))
    with Sizes() as seen:
        layer(tokens)[0].sum().backward()
    assert 5 * 64 in seen.sizes and max(seen.sizes) < 200 * 5 * 64 / 4
    with Sizes() as seen:
        HadamRNN(4, 64)(tokens)[0].sum().backward()
    assert max(seen.sizes) == 200 * 5 * 64, "which would have been seen"


@every_stack
@pytest.mark.parametrize("tokens", [False, True])
def test_every_way_in_gives_the_same(options: dict, tokens: bool) -> None:
    layer = HadamRNN(4, 16, **options).eval()
    x, h0, lengths = arguments(layer, 6)[0], *arguments(layer, 6)[1:]
    x = torch.randint(0, 4, (6, 3)) if tokens else x
    expected = layer(x, h0, lengths)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), HadamRNN(4, 16, **options)):
        twin.load_state_dict(layer.state_dict())
        assert all(map(torch.equal, twin(x, h0, lengths), expected))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, h0, lengths), expected)
    parameters = list(layer.parameters())
    gradients = [torch.autograd.grad(f(x, h0, lengths)[0].square().sum(), parameters) for f in (compiled, layer)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        layer(x, h0, lengths)
        program = torch.export.export(layer, (x, h0, lengths), strict=tokens).module()  # the slowest: one way each
        assert all(map(torch.equal, program(x, h0, lengths), expected))


def test_autocast_is_neutral_in_a_stack() -> None:
    layer, x = HadamRNN(4, 16, 2, bidirectional=True, output_size=3), torch.randn(5, 2, 4)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x)[0], expected)
        output, last = layer(x.bfloat16())
    assert output.dtype == torch.bfloat16 and last.dtype == torch.float32
    torch.testing.assert_close(output.float(), expected, rtol=5e-2, atol=1e-1)


def test_tokens_equal_their_one_hot_vectors_in_a_stack() -> None:
    layer, tokens = HadamRNN(6, 16, 2, bidirectional=True, output_size=3), torch.randint(0, 6, (20, 3))
    for by_token, by_vector in zip(layer(tokens), layer(F.one_hot(tokens, 6).float()), strict=True):
        assert torch.equal(by_token, by_vector)


MISUSES = {
    "h0 of one layer": (
        lambda call, x: call(x, torch.zeros(1, 3, 8)),
        r"h0 must have shape \(4, 3, 8\)",
    ),
    "h0 without a batch": (lambda call, x: call(x[:, 0], torch.zeros(4, 1, 8)), r"h0 must have shape \(4, 8\)"),
    "lengths of other rows": (
        lambda call, x: call(x, None, torch.ones(2).long()),
        r"lengths must .*\(3,\)",
    ),
    "lengths as floats": (lambda call, x: call(x, None, torch.ones(3)), "lengths must be an int64 or int32 tensor"),
    "a list of lengths": (
        lambda call, x: call(x, None, [1, 2, 3]),
        "lengths must be an int64 .*, got list",
    ),
    "too long": (lambda call, x: call(x, None, torch.tensor([1, 7, 1])), "lengths.*7"),
    "negative lengths": (lambda call, x: call(x, None, torch.tensor([1, -1, 1])), "lengths.*-1"),
    "lengths without a batch": (
        lambda call, x: call(x[:, 0], None, torch.ones(1)),
        "lengths must be left out",
    ),
}


@pytest.mark.parametrize("call, message", MISUSES.values(), ids=MISUSES.keys())
def test_misuse_is_explained(call: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call(HadamRNN(5, 8, 2, bidirectional=True), torch.randn(6, 3, 5))
