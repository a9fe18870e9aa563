"""Gradients over long sequences against an adjoint written by hand in float64, and what training keeps in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from sylvester import hadamard_scan
from sylvester.ops._spec import Arguments, Make
from sylvester.ops.hadamard_scan._cases import SOURCES, make_arguments

Array = np.ndarray[Any, np.dtype[np.float64]]


def dense(stages: int) -> Array:
    """The orthonormal Hadamard matrix of 2^stages."""
    s = np.ones((1, 1))
    for _ in range(stages):
        s = np.block([[s, s], [s, -s]]) / math.sqrt(2)
    return s


def adjoint(a: Arguments, grad_states: Array | None, grad_last: Array) -> dict[str, Array]:
    """Gradients of (states · grad_states + last · grad_last) with dense matrices and every state stored.

    Shares nothing with the library: dsign is taken from S̃ h_{t-1}, not from rebuilt states.
    """
    drive, weight, sign, bias, h0 = (np.asarray(a[n].double()) for n in ("drive", "weight", "sign", "bias", "h0"))
    rows, width = h0.shape
    block = a.get("block_size", width)
    stages = block.bit_length() - 1
    left, right = dense(stages - stages // 2), dense(stages // 2)  # their Kronecker product, in a 16th of the time

    def transform(h: Array) -> Array:
        return (left @ h.reshape(-1, len(left), len(right)) @ right).reshape(rows, width)

    z, h = drive @ weight.T + bias, h0
    moved = np.empty_like(z)
    for t in range(len(z)):
        moved[t] = transform(h)
        h = sign * moved[t] + z[t]
    back, later = np.empty_like(z), grad_last
    for t in reversed(range(len(z))):
        back[t] = later if grad_states is None else later + grad_states[t]
        later = transform(sign * back[t])
    return {
        "drive": back @ weight,
        "weight": np.einsum("tbd,tbi->di", back, drive),
        "sign": (back * moved).sum((0, 1)),
        "bias": back.sum((0, 1)),
        "h0": later,
        "terms of bias": np.abs(back).sum((0, 1)),
    }


def gradients(a: Arguments, names: list[str], grad_states: torch.Tensor | None, grad_last: torch.Tensor) -> Arguments:
    leaves = {name: a[name].clone().requires_grad_() for name in names}
    output, last = hadamard_scan(**a | leaves, last_only=grad_states is None)
    outputs, grads = ([last], [grad_last]) if grad_states is None else ([output, last], [grad_states, grad_last])
    return dict(zip(names, torch.autograd.grad(outputs, list(leaves.values()), grads), strict=True))


def over(bound: float, got: Arguments, want: dict[str, Array]) -> dict[str, float]:
    """The gradients whose largest error, relative to the largest value, is over the bound.

    The bias's adds T adjoints that turn around and cancel, up to 100-fold for some signs. Where they cancel more than
    10-fold, its error is relative to a tenth of what is added.
    """
    found = {}
    for name, gradient in got.items():
        scale = np.abs(want[name]).max()
        if name == "bias":
            scale = max(scale, want["terms of bias"].max() / 10)
        found[name] = float(np.abs(np.asarray(gradient.double()) - want[name]).max() / scale)
    return {name: error for name, error in found.items() if not error <= bound}


def long_call(
    steps: int, rows: int, width: int, blocks: int, inputs: int, dtype: torch.dtype
) -> tuple[Arguments, Make]:
    m = Make.seeded(3, dtype)
    a = make_arguments(m, "fused", steps, rows, width, "bias h0", inputs)
    return a | {"block_size": width // blocks, "bias": a["bias"].float() * 0.1}, m


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("all_states", [False, True], ids=["last only", "all states"])
@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize("width", [64, 128, 512])
def test_a_thousand_steps(width: int, blocks: int, all_states: bool, dtype: torch.dtype) -> None:
    """A 16-bit drive is exact input to a float32 computation; its own 16-bit gradients are not asked for."""
    a, m = long_call(1000, 2, width, blocks, 10, dtype)
    grad_states = m.normal(1000, 2, width) if all_states else None
    grad_last = m.normal(2, width, dtype=torch.float32)
    names = ["drive", "weight", "sign", "bias", "h0"] if dtype == torch.float32 else ["sign", "bias", "h0"]
    got = gradients(a, names, grad_states, grad_last)
    want = adjoint(a, None if grad_states is None else np.asarray(grad_states.double()), np.asarray(grad_last.double()))
    assert over(5e-6, got, want) == {}


@pytest.mark.parametrize(("width", "blocks"), [(64, 1), (64, 4), (128, 1)])
def test_a_hundred_thousand_steps(width: int, blocks: int) -> None:
    """A scale rounded to float32 would miss by 1.7e-3 here; rebuilt states lean on 1562 checkpoints."""
    a, m = long_call(100_000, 1, width, blocks, 2, torch.float32)
    grad_last = m.normal(1, width)
    names = ["drive", "weight", "sign", "bias", "h0"]
    got = gradients(a, names, None, grad_last)
    want = adjoint(a, None, np.asarray(grad_last.double()))
    assert over(5e-5, got, want) == {}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("options", ["bias h0", "bias h0 reverse batch_first"])
def test_rebuilt_states_agree_with_stored_ones(source: str, options: str) -> None:
    """The gradient of the last state, through checkpoints and through the full-precision output."""
    a = make_arguments(Make.seeded(4, torch.float32), source, 150, 3, 64, options, 6)
    names = [name for name, value in a.items() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    leaves = {name: a[name].requires_grad_() for name in names}
    found = []
    for last_only in (True, False):
        _, last = hadamard_scan(**a, last_only=last_only)
        found.append(torch.autograd.grad(last.square().sum(), list(leaves.values())))
    for rebuilt, stored in zip(*found, strict=True):
        assert (rebuilt - stored).abs().max() <= 5e-6 * stored.abs().max()


def test_only_the_sign_needs_states() -> None:
    """What backward keeps: the inputs, the last state, and for the sign's gradient one state in 64 or the output."""
    a = make_arguments(Make.seeded(5, torch.float32), "given", 640, 3, 16, "bias", 0)

    def kept(leaf: str, **flags: bool) -> list[tuple[int, ...]]:
        leaves = {leaf: a[leaf].clone().requires_grad_()}
        output, _ = hadamard_scan(**a | leaves, **flags)
        saved = output.grad_fn.saved_tensors  # type: ignore[union-attr]
        return sorted(tuple(tensor.shape) for tensor in saved if tensor is not None and tensor.numel())

    inputs = [(3, 16), (16,), (16,), (640, 3, 16)]
    assert kept("drive") == kept("bias", last_only=True) == sorted(inputs)
    assert kept("sign", last_only=True) == sorted([*inputs, (9, 3, 16)])
    assert kept("sign") == sorted([*inputs, (640, 3, 16)])


def test_changing_an_output_that_backward_needs_is_seen() -> None:
    a = make_arguments(Make.seeded(6, torch.float32), "given", 5, 3, 16, "", 0)
    output, _ = hadamard_scan(**a | {"sign": a["sign"].clone().requires_grad_()})
    loss = output.square().sum()
    with torch.no_grad():
        output.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_outputs_nobody_uses() -> None:
    """Gradient of one output, of the other, of none."""
    a = make_arguments(Make.seeded(7, torch.float32), "given", 70, 3, 16, "h0", 0)
    drive = a["drive"].clone().requires_grad_()
    output, last = hadamard_scan(**a | {"drive": drive})
    (by_last,) = torch.autograd.grad(last.sum(), drive, retain_graph=True)
    (by_output,) = torch.autograd.grad(output[-1].sum(), drive, retain_graph=True)
    assert torch.equal(by_last, by_output)
    untouched = torch.autograd.grad(output[:0].sum(), drive)[0]
    assert untouched.count_nonzero() == 0


def test_second_derivatives_are_refused_by_name() -> None:
    a = make_arguments(Make.seeded(8, torch.float32), "given", 5, 3, 16, "", 0)
    drive = a["drive"].clone().requires_grad_()
    output, _ = hadamard_scan(**a | {"drive": drive})
    (first,) = torch.autograd.grad(output.square().sum(), drive, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        first.sum().backward()


def test_three_compiled_graphs_train_on_any_length() -> None:
    """T and B are symbolic. torch itself tells apart tensors of 0, 1 and more rows, here the kept checkpoints."""
    a = make_arguments(Make.seeded(9, torch.float32), "fused", 1, 1, 32, "bias last_only", 7)
    a.pop("drive")
    a["sign"].requires_grad_()

    def score(drive: torch.Tensor) -> torch.Tensor:
        return hadamard_scan(drive, **a)[0].sum()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(score, fullgraph=True, dynamic=True, backend=counter)
    for steps, rows in ((5, 2), (63, 3), (64, 6), (65, 3), (128, 8), (130, 3), (200, 4), (400, 9)):
        drive = torch.randn(steps, rows, 7)
        (got,), (want,) = (torch.autograd.grad(function(drive), a["sign"]) for function in (compiled, score))
        assert torch.equal(got, want)
    assert counter.frame_count <= 3


def test_a_raw_backward_refuses_narrower_checkpoints() -> None:
    """They would be read past their end."""
    drive, sign, marks = torch.zeros(130, 2, 8), torch.ones(8), torch.zeros(2, 2, 8, dtype=torch.float16)
    last, given = torch.zeros(2, 8), (None, torch.ones(2, 8), drive, None, sign, *(None,) * 6)
    flags = (True, False, False, True, False, True)
    with pytest.raises(ValueError, match="checkpoints must have the dtype of last"):
        torch.ops.sylvester.hadamard_scan_backward(*given, last, marks, 8, 0, *flags)
    torch.ops.sylvester.hadamard_scan_backward(*given, last, marks.float(), 8, 0, *flags)
