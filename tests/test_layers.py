"""Layers: the maths of HadamRNN and QuantLinear, their nn.RNN manners, every way in, clear errors."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from definition import states_of
from sylvester.layers import BlockHadamRNN, HadamRNN, QuantLinear
from sylvester.ste import fake_quantize

VERSION_1 = Path(__file__).parent / "data" / "hadam_rnn_v1.pt"


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("hidden_size, block_size", [(8, None), (1, None), (24, 8), (12, 4), (16, 1)])
@pytest.mark.parametrize("input_size", [1, 10, 33])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"input_bits": 1}, {"input_bits": None}], ids=str)
def test_states_are_those_of_the_definition(
    hidden_size: int, block_size: int | None, input_size: int, options: dict
) -> None:
    layer = HadamRNN(input_size, hidden_size, block_size=block_size, **options)
    x, h0 = torch.randn(9, 3, input_size), torch.randn(1, 3, hidden_size)
    output, last = layer(x, h0)
    expected = states_of(layer.double(), x.double(), h0.double())
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last[0].double(), expected[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sign_clip", [None, 0.2])
def test_gradients_are_those_of_the_definition(sign_clip: float | None) -> None:
    layer = HadamRNN(3, 8, block_size=4, sign_clip=sign_clip, dtype=torch.float64)
    x = torch.randn(70, 2, 3, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(1, 2, 8, dtype=torch.float64, requires_grad=True)
    inputs = [x, h0, *layer.parameters()]
    cotangent = torch.randn(70, 2, 8, dtype=torch.float64)
    got = torch.autograd.grad((layer(x, h0)[0] * cotangent).sum(), inputs)
    expected = torch.autograd.grad((states_of(layer, x, h0) * cotangent).sum(), inputs)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batch", [None, 0, 1, 4])
def test_shapes_are_those_of_nn_rnn(batch_first: bool, batch: int | None) -> None:
    shape = (7, 5) if batch is None else (batch, 7, 5) if batch_first else (7, batch, 5)
    x = torch.randn(shape)
    layer, model = HadamRNN(5, 16, batch_first=batch_first), nn.RNN(5, 16, batch_first=batch_first)
    for h0 in (None, torch.randn(1, 16) if batch is None else torch.randn(1, batch, 16)):
        output, last = layer(x, h0)
        if batch == 0:  # nn.RNN refuses an empty batch
            assert output.shape == (*shape[:-1], 16) and last.shape == (1, 0, 16)
            continue
        expected_output, expected_last = model(x, h0)
        assert output.shape == expected_output.shape
        assert last.shape == expected_last.shape
        assert torch.equal(output.select(-2 if batch_first or batch is None else 0, -1), last[0])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_last_only_returns_the_last_state(batch_first: bool, batched: bool) -> None:
    layer = HadamRNN(5, 16, batch_first=batch_first)
    x = torch.randn((4, 7, 5) if batched else (7, 5))
    expected = layer(x)[1]
    layer.last_only = True
    output, last = layer(x)
    assert output.shape == ((4 if batch_first else 7, 16) if batched else (16,))
    assert last.shape == (1, *output.shape)
    assert torch.equal(last, expected) and torch.equal(output, last[0])


@pytest.mark.parametrize("bits", [1, 4, None])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_tokens_equal_their_one_hot_vectors(bits: int | None, dtype: torch.dtype) -> None:
    layer = HadamRNN(6, 16, input_bits=bits)
    tokens = torch.randint(0, 6, (20, 3))
    cotangent = torch.randn(20, 3, 16)
    results = []
    for x in (tokens.to(dtype), F.one_hot(tokens, 6).float()):
        output, last = layer(x)
        results.append((output, last, *torch.autograd.grad((output * cotangent).sum(), list(layer.parameters()))))
    for name, by_token, by_vector in zip(("output", "last"), *results, strict=False):
        assert torch.equal(by_token, by_vector), name
    torch.testing.assert_close(results[0][2:], results[1][2:], rtol=1e-5, atol=1e-5)
    assert torch.equal(layer(tokens[:, 0])[0], layer(tokens[:, :1])[0][:, 0])


@pytest.mark.parametrize("hidden_size, block_size", [(64, None), (64, 16), (96, 32)])
def test_weight_is_orthogonal_and_only_a_view(hidden_size: int, block_size: int | None) -> None:
    layer = HadamRNN(2, hidden_size, block_size=block_size)
    weight = layer.weight
    assert (weight @ weight.T - torch.eye(hidden_size)).abs().max() <= 1e-6
    assert (weight != 0).float().mean().item() == pytest.approx((block_size or hidden_size) / hidden_size)
    assert weight.abs().max().item() == pytest.approx((block_size or hidden_size) ** -0.5, rel=1e-6)
    assert not weight.requires_grad
    assert list(layer.state_dict()) == ["weight_ih", "sign_latent", "bias"]


def test_initial_values_are_those_of_the_paper() -> None:
    layer = HadamRNN(10, 512)
    assert layer.sign_latent.abs().max().item() == pytest.approx(0.1081, abs=2e-3)
    assert layer.weight_ih.abs().max().item() == pytest.approx((6 / 522) ** 0.5, rel=1e-2)
    assert layer.bias.abs().max().item() == pytest.approx(512**-0.5, rel=2e-2)


@pytest.mark.parametrize("bits", [1, 4, 8, None])
def test_quant_linear_is_linear_on_the_quantised_weight(bits: int | None) -> None:
    layer, x = QuantLinear(12, 5, bits), torch.randn(2, 7, 12, requires_grad=True)
    weight = layer.weight if bits is None else fake_quantize(layer.weight, bits)
    assert torch.equal(layer(x), F.linear(x, weight, layer.bias))
    layer(x).sum().backward()
    assert torch.allclose(layer.weight.grad, x.detach().sum((0, 1)).expand(5, 12), atol=1e-5)
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_layer_runs_in_other_dtypes(dtype: torch.dtype) -> None:
    layer, x = HadamRNN(4, 16).to(dtype), torch.randn(5, 2, 4).to(dtype)
    output, last = layer(x)
    assert output.dtype == dtype
    assert last.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = states_of(copy.deepcopy(layer).double(), x.double())
    torch.testing.assert_close(output.double(), expected, rtol=2e-2, atol=2e-2)
    output.float().sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in layer.parameters())
    assert torch.equal(
        layer(torch.ones(5, 2, dtype=torch.long))[1], layer(F.one_hot(torch.ones(5, 2).long(), 4).to(dtype))[1]
    )


def test_autocast_is_neutral() -> None:
    layer, x = HadamRNN(4, 16), torch.randn(5, 2, 4)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x)[0], expected)
        output, last = layer(x.bfloat16())
    assert output.dtype == torch.bfloat16 and last.dtype == torch.float32
    torch.testing.assert_close(output.float(), expected, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("tokens", [False, True])
def test_layer_compiles_in_one_graph(tokens: bool) -> None:
    layer, readout = HadamRNN(4, 16), QuantLinear(16, 3)
    x = torch.randint(0, 4, (5, 2)) if tokens else torch.randn(5, 2, 4)

    def call(x: Tensor) -> Tensor:
        return readout(torch.relu(layer(x)[0]))

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), call(x))
    parameters = [*layer.parameters(), *readout.parameters()]
    gradients = torch.autograd.grad(compiled(x).square().sum(), parameters)
    torch.testing.assert_close(gradients, torch.autograd.grad(call(x).square().sum(), parameters))
    with torch.no_grad():
        call(x)
        torch.testing.assert_close(compiled(x), call(x))


@pytest.mark.parametrize("strict", [False, True])
def test_layer_exports(strict: bool) -> None:
    layer, x = HadamRNN(4, 16, last_only=True).eval(), torch.randn(5, 2, 4)
    with torch.no_grad():
        expected = layer(x)[0]
    program = torch.export.export(layer, (x,), strict=strict)
    assert torch.equal(program.module()(x)[0], expected)


def test_state_of_version_1_still_loads() -> None:
    stored = torch.load(VERSION_1, weights_only=True)
    assert stored["state"]._metadata[""]["version"] == 1
    layer = HadamRNN(3, 12, block_size=4)
    layer.load_state_dict(stored["state"])
    torch.testing.assert_close(layer(stored["x"])[0], stored["output"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", [HadamRNN(4, 16), QuantLinear(4, 16)], ids=lambda layer: type(layer).__name__)
def test_state_of_a_newer_version_is_refused(layer: nn.Module) -> None:
    state = layer.state_dict()
    state._metadata[""]["version"] = 2
    with pytest.raises(RuntimeError, match="version 2 of .* reads up to version 1"):
        layer.load_state_dict(state)


MISUSES = {
    "width": (lambda: HadamRNN(4, 16)(torch.randn(5, 2, 3)), "x must have width input_size = 4"),
    "dimensions": (lambda: HadamRNN(4, 16)(torch.randn(4)), r"x must have shape \(T,B,I\) or \(T,I\)"),
    "dimensions, batch first": (lambda: HadamRNN(4, 16, batch_first=True)(torch.randn(1, 2, 3, 4)), r"\(B,T,I\)"),
    "token dimensions": (lambda: HadamRNN(4, 16)(torch.ones(2, 2, 2).long()), r"\(T,B\) or \(T,\) for tokens"),
    "bool": (lambda: HadamRNN(4, 16)(torch.ones(5, 2).bool()), "torch.bool"),
    "complex": (lambda: HadamRNN(4, 16)(torch.ones(5, 2, 4) * 1j), "complex64"),
    "dtype": (lambda: HadamRNN(4, 16)(torch.randn(5, 2, 4).double()), "parameters, torch.float32, got torch.float64"),
    "token range": (lambda: HadamRNN(4, 16)(torch.full((5, 2), 4)), "4"),
    "negative token": (lambda: HadamRNN(4, 16)(torch.full((5, 2), -1)), "-1"),
    "h0 shape": (lambda: HadamRNN(4, 16)(torch.randn(5, 2, 4), torch.randn(2, 16)), r"h0 must have shape \(1, 2, 16\)"),
    "h0 batch": (lambda: HadamRNN(4, 16)(torch.randn(5, 2, 4), torch.randn(1, 3, 16)), r"h0 must have shape"),
    "h0 unbatched": (lambda: HadamRNN(4, 16)(torch.randn(5, 4), torch.randn(1, 1, 16)), r"shape \(1, 16\)"),
    "h0 dtype": (lambda: HadamRNN(4, 16)(torch.randn(5, 2, 4), torch.randn(1, 2, 16).double()), "h0"),
    "sizes": (lambda: HadamRNN(0, 16), "at least 1"),
    "power of two": (lambda: HadamRNN(4, 24), "divides the width 24, got 24; the largest that fits is 8"),
    "block": (lambda: HadamRNN(4, 24, block_size=16), "got 16"),
    "block missing": (lambda: BlockHadamRNN(4, 24, block_size=None), "needs block_size"),
    "bits": (lambda: HadamRNN(4, 16, input_bits=9), "input_bits must be None .* 1 to 8, got 9"),
    "unknown": (lambda: HadamRNN(4, 16, depth=2), "HadamRNN takes no depth; its options are num_layers, block_size,"),
    "nonlinearity": (lambda: HadamRNN(4, 16, nonlinearity="relu"), "takes no nonlinearity; use activation="),
    "projection": (
        lambda: BlockHadamRNN(4, 16, block_size=4, proj_size=2),
        "BlockHadamRNN takes no proj_size; use out",
    ),
    "layers": (lambda: HadamRNN(4, 16, 0), "num_layers must be an integer of at least 1, got 0"),
    "a float of layers": (lambda: HadamRNN(4, 16, 2.0), "num_layers must be an integer .* got 2.0"),
    "activation": (lambda: HadamRNN(4, 16, activation="tanh"), "must be one of identity, relu, modrelu, got 'tanh'"),
    "dropout": (lambda: HadamRNN(4, 16, 2, dropout=1.5), "dropout must be from 0 to 1, got 1.5"),
    "outputs": (lambda: HadamRNN(4, 16, output_size=33), "None or 1 to 32, got 33; for more .* QuantLinear to relu"),
    "no outputs": (lambda: HadamRNN(4, 16, output_size=0), "output_size must be None or 1 to 32, got 0"),
    "output bits": (lambda: HadamRNN(4, 16, output_bits=0), "output_bits must be None .* 1 to 8, got 0"),
    "clip": (lambda: HadamRNN(4, 16, sign_clip=0.0), "sign_clip must be positive"),
    "linear sizes": (lambda: QuantLinear(4, 0), "at least 1"),
    "linear bits": (lambda: QuantLinear(4, 4, 0), "bits must be None"),
}


@pytest.mark.parametrize("call, message", MISUSES.values(), ids=MISUSES.keys())
def test_misuse_is_explained(call: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError, IndexError), match=message):
        call()


def test_block_hadam_rnn_is_hadam_rnn_with_blocks() -> None:
    with pytest.raises(TypeError, match="block_size"):
        BlockHadamRNN(4, 24)
    layer = BlockHadamRNN(4, 24, block_size=8, last_only=True)
    twin = HadamRNN(4, 24, block_size=8, last_only=True)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(5, 2, 4)
    assert torch.equal(layer(x)[0], twin(x)[0])
    assert "block_size=8" in repr(layer)
