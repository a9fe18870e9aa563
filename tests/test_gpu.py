"""Layers on a GPU: the numbers of the CPU, compiled, captured, frozen. Kernels by themselves: benchmarks/gpu.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sylvester
from sylvester.layers import BinaryLinear, HadamRNN, QuantLinear, TernaryLinear

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "states": lambda: HadamRNN(3, 64),
    "basis": lambda: HadamRNN(1, 64, last_only=True),
    "read-out, two layers": lambda: HadamRNN(3, 128, num_layers=2, output_size=5),
    "relu, both ways": lambda: HadamRNN(3, 64, activation="relu", bidirectional=True),
}
LINEAR: dict[str, Callable[[], nn.Module]] = {
    "ternary": lambda: TernaryLinear(64, 24),
    "binary": lambda: BinaryLinear(64, 24),
    "4 bits": lambda: QuantLinear(64, 24, bits=4),
    "ternary of floats": lambda: TernaryLinear(64, 24, activation="float"),
    "rotated": lambda: QuantLinear(96, 24, bits=4, rotate=96),
}
every_layer = pytest.mark.parametrize("name", [*RECURRENT, *LINEAR])


def layer_and_input(name: str) -> tuple[nn.Module, Tensor]:
    if name in LINEAR:
        layer = LINEAR[name]()
        return layer, torch.randn(7, layer.in_features)
    layer = RECURRENT[name]()
    return layer, torch.randn(130, 4, layer.input_size)


def results(layer: nn.Module, x: Tensor, call: Callable[..., Any] | None = None) -> list[Tensor]:
    """Output and the gradients of the input and of all parameters, on the CPU."""
    x = x.clone().requires_grad_()
    output = (layer if call is None else call)(x)
    output = output[0] if isinstance(output, tuple) else output
    cotangent = torch.linspace(-1, 1, output.numel(), device=x.device).view_as(output)
    return [t.detach().cpu() for t in (output, *torch.autograd.grad(output, [x, *layer.parameters()], cotangent))]


def assert_agree(got: list[Tensor], want: list[Tensor]) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g - w).abs().max() <= 2e-5 * w.abs().max() + 1e-6


@every_layer
def test_numbers_are_those_of_the_cpu(name: str) -> None:
    layer, x = layer_and_input(name)
    want = results(layer, x)
    assert_agree(results(copy.deepcopy(layer).cuda(), x.cuda()), want)


@every_layer
def test_compiled_layer_has_the_same_numbers(name: str) -> None:
    layer, x = layer_and_input(name)
    layer, x = layer.cuda(), x.cuda()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_agree(results(layer, x, compiled), results(layer, x))


@every_layer
def test_captured_layer_follows_its_input(name: str) -> None:
    layer, x = layer_and_input(name)
    layer, x = layer.cuda().eval(), x.cuda()
    with torch.no_grad():
        layer(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = layer(x)
        x.neg_()
        graph.replay()
        want = layer(x)
    for captured, eager in zip(*((o if isinstance(o, tuple) else (o,)) for o in (output, want)), strict=True):
        assert torch.equal(captured, eager)


@pytest.mark.parametrize("name", LINEAR)
def test_frozen_layer_has_the_same_numbers_on_both(name: str) -> None:
    layer, x = layer_and_input(name)
    with torch.no_grad():
        want = layer(x)
        layer.freeze()
        moved = copy.deepcopy(layer).cuda()
        got = moved(x.cuda())
        for _ in range(3):  # from the second call on weights may be fetched before the call before is done
            assert torch.equal(moved(x.cuda()), got)
    assert_agree([got.cpu()], [want])


def test_a_row_alone_has_its_bits_again_and_again() -> None:
    """Calls in turn, so that each starts while the one before still runs, on weights that differ."""
    layers = [TernaryLinear(512, 512).cuda() for _ in range(3)]
    x = torch.randn(1, 512, device="cuda")
    with torch.no_grad():
        for layer in layers:
            layer.freeze()
        want = [layer(x).clone() for layer in layers]
        torch.cuda.synchronize()
        got = [[layer(x) for layer in layers] for _ in range(50)]
    for several in got:
        assert all(torch.equal(g, w) for g, w in zip(several, want, strict=True))


def test_converted_model_learns_on_a_gpu() -> None:
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)).cuda()
    sylvester.convert(model, {nn.Linear: TernaryLinear})
    optimiser, x = torch.optim.Adam(model.parameters(), 1e-2), torch.randn(256, 64, device="cuda")
    wanted = x[:, :8].detach()
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = (model(x) - wanted).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
