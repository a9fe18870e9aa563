"""What benchmarks/gpu.py asks of every kernel before it times one: the values of float64, and the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from .gpu_device import Bench, Check


def transform64(x: Tensor, block: int) -> Tensor:
    """Orthogonal transform of blocks of the last axis in float64, differentiable."""
    y = x.double().unflatten(-1, (-1, block))
    for stage in range(block.bit_length() - 1):
        a, b = y.unflatten(-1, (block >> stage + 1, 2, 1 << stage)).unbind(-2)
        y = torch.stack((a + b, a - b), -2).flatten(-3)
    return y.flatten(-2) * block**-0.5


def scan64(
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor,
    h: Tensor,
    block: int,
    lengths: Tensor | None = None,
    activation: int = 0,
    act_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All states, (T, B, D), zeros after a row's end, and the last, (B, D), in float64, differentiable."""
    z = drive
    if weight is not None:
        z = drive @ weight.t() if drive.is_floating_point() else weight[drive]
    states = []
    for t, z_t in enumerate(z.unbind(0)):
        a = sign * transform64(h, block) + z_t + bias
        if activation:
            a = a.relu() if act_bias is None else a.sign() * (a.abs() + act_bias).relu()
        inside = torch.full((len(h), 1), True, device=h.device) if lengths is None else (t < lengths)[:, None]
        h = torch.where(inside, a, h)
        states.append(torch.where(inside, a, 0.0))
    return torch.stack(states), h


def error(got: Tensor, want: Tensor, stages: int, steps: int = 1) -> float:
    """Largest error as a fraction of what is allowed: a rounding a stage, adding like random numbers over steps."""
    info = torch.finfo(got.dtype)
    largest = max(want.abs().max().item(), 1e-3)
    # The interpreter cuts 16-bit values off where a GPU rounds; gradients pass through two roundings.
    rounding = (want.abs() + largest) * info.eps if info.bits == 16 else 0.0
    allowed = (stages + 8) * 4 * steps**0.5 * 2.0**-24 * largest + rounding
    fraction = ((got.double() - want).abs() / allowed).max().item()
    return fraction if fraction == fraction else float("inf")


def check_transforms(b: Bench) -> Iterator[Check]:
    for stages in range(0, 11, 5) if b.tiny else range(16):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            yield f"transform {1 << stages} {dtype}", partial(_transform, b, stages, dtype)


def _transform(b: Bench, stages: int, dtype: torch.dtype) -> Iterator[tuple[str, float]]:
    block = 1 << stages
    x, pre, post = b.normal(7, 3 * block, dtype=dtype), b.normal(3 * block), b.normal(3 * block)
    want = post.double() * transform64(pre * x.double(), block)
    results = {"apart": b.transforms.hadamard_transform(x, block, None, pre, post, False)}
    b.transforms.hadamard_transform_(x, block, None, pre, post, False)
    for name, got in (results | {"in place": x}).items():
        yield name, error(got, want, stages)


def check_scans(b: Bench) -> Iterator[Check]:
    for block in (16,) if b.tiny else (1, 16, 128, 256, 512, 1024, 2048, 4096, 8192):
        # Every kernel takes seconds to compile, so not every block meets every kind of drive.
        for kind in ("given", "10", "40", "tokens") if block in (16, 256, 1024) else ("given", "10"):
            for dtype, reverse in ((torch.float32, False), (torch.bfloat16, True)):
                yield f"scan {kind} {block} {dtype}", partial(_scan, b, block, kind, dtype, reverse)


def _scan(b: Bench, block: int, kind: str, dtype: torch.dtype, reverse: bool) -> Iterator[tuple[str, float]]:
    """Forward, backward with rebuilt states, and the same bits twice."""
    steps, rows = (5, 2) if b.tiny else (150, 3)
    drive, weight = b.drive(kind, steps, rows, 3 * block, dtype)
    sign, bias, h0 = b.signs(3 * block), b.normal(3 * block), b.normal(rows, 3 * block)
    inputs, flags = (drive, weight, sign, bias, h0), (block, 0, False, reverse, False)
    run = partial(b.scans.hadamard_scan, *inputs, *(None,) * 4, *flags, True)
    states, last, kept = run()
    grad = b.normal(*states.shape, dtype=dtype)
    found = b.scans.hadamard_scan_backward(grad, None, *inputs, *(None,) * 4, last, kept, *flags, True, True, True)
    leaves = {name: x.double().requires_grad_() for name, x in
              {"drive": drive, "weight": weight, "sign": sign, "bias": bias, "h0": h0}.items()
              if x is not None and x.is_floating_point()}  # fmt: skip
    turn = partial(torch.flip, dims=(0,)) if reverse else partial(torch.clone)
    z = turn(leaves.get("drive", drive))
    want, end = scan64(z, leaves.get("weight"), leaves["sign"], leaves["bias"], leaves["h0"], block)
    stages = block.bit_length() - 1
    yield "states", max(error(states, turn(want), stages, steps), error(last, end, stages, steps))
    yield "bits again", 0.0 if torch.equal(run()[0], states) else float("inf")
    grads = torch.autograd.grad(turn(want), list(leaves.values()), grad.double())
    for name, got, wanted in zip(leaves, (g for g in found if g.numel()), grads, strict=True):
        yield f"gradient of {name}", error(got, wanted, stages, steps * rows)


OPTIONS = ((0, 9, False), (1, 0, False), (2, 9, True), (1, 30, False))
"""Activation, outputs of a read-out (0: none), last state only."""


def check_options(b: Bench) -> Iterator[Check]:
    """Lengths, read-outs and activations, forward and backward, over a checkpoint and over a segment."""
    for block in (16,) if b.tiny else (128, 1024):
        for i, kind in enumerate(("given", "10", "tokens")):
            for activation, outputs, last_only in OPTIONS:
                label = f"scan {kind} {block}, activation {activation}, {outputs} outputs"
                flags = (block, activation, last_only, i % 2 == 0)
                yield label, partial(_with_options, b, kind, outputs, flags)


def _inputs(b: Bench, kind: str, outputs: int, block: int, activation: int) -> dict[str, Any]:
    steps = 5 if b.tiny else 70
    drive, weight = b.drive(kind, steps, 3, block, torch.float32)
    return {
        "drive": drive, "weight": weight, "sign": b.signs(block), "bias": b.normal(block), "h0": b.normal(3, block),
        "lengths": torch.tensor([0, steps // 2, steps], device=b.device),
        "readout": b.normal(outputs, block) / block**0.5 if outputs else None,
        "readout_bias": b.normal(outputs) if outputs else None,
        "act_bias": -b.normal(block).abs() / 4 if activation == 2 else None,
    }  # fmt: skip


def _with_options(b: Bench, kind: str, outputs: int, flags: tuple[Any, ...]) -> Iterator[tuple[str, float]]:
    block, activation, last_only, reverse = flags
    x = _inputs(b, kind, outputs, block, activation)
    steps, stages = len(x["drive"]), block.bit_length() + int(block**0.5)
    given = [value for name, value in x.items() if name != "readout_bias"]
    with patch.object(b.readouts, "LONGEST_SEGMENT", 64):
        output, last, kept = b.scans.hadamard_scan(*x.values(), *flags, False, True)
        grad = b.normal(*output.shape)
        found = b.scans.hadamard_scan_backward(grad, None, *given, None, last, kept, *flags, False, True, True, True)
    leaves = {name: value.double().requires_grad_() for name, value in x.items()
              if value is not None and value.is_floating_point()}  # fmt: skip
    get, lengths = leaves.get, x["lengths"]
    times = torch.arange(steps, device=b.device)[:, None]
    inside = times < lengths
    turn = (torch.where(inside, lengths - 1 - times, times) if reverse else times, torch.arange(3, device=b.device))
    z = leaves.get("drive", x["drive"])[turn]
    recurrence = (leaves["sign"], leaves["bias"], leaves["h0"], block, lengths, activation, get("act_bias"))
    states, want = scan64(z, get("weight"), *recurrence)
    yield "last", error(last, want, stages, steps)
    if not last_only:
        want = states[turn]
    if "readout" in leaves:
        want = want.relu() @ leaves["readout"].t() + leaves["readout_bias"]
        want = want if last_only else torch.where(inside[:, :, None], want, 0.0)
    yield "output", error(output, want, stages, steps)
    grads = torch.autograd.grad(want, list(leaves.values()), grad.double(), materialize_grads=True)
    for name, got, wanted in zip(leaves, (g for g in found if g.numel()), grads, strict=True):
        yield f"gradient of {name}", error(got, wanted, stages, steps * 3)


def check_bases(b: Bench) -> Iterator[Check]:
    for kind in ("1", "3", "tokens"):
        for width in (32,) if b.tiny else (128, 512):
            yield f"basis {kind} {width}", partial(_basis, b, kind, width)


def _basis(b: Bench, kind: str, width: int) -> Iterator[tuple[str, float]]:
    """The last state of the plan of few inputs, and its gradients, over more steps than a block of the basis has."""
    steps = 9 if b.tiny else 784
    drive, weight = b.drive(kind, steps, 5, width, torch.float32)
    assert weight is not None
    inputs = {"drive": drive, "weight": weight, "sign": b.signs(width), "bias": b.normal(width)}
    flags = (width, kind == "3", False)
    last, kept = b.bases.hadamard_basis_scan(*inputs.values(), *flags, True)
    leaves = {name: x.double().requires_grad_() for name, x in inputs.items() if x.is_floating_point()}
    z, h = leaves.get("drive", drive), torch.zeros(5, width, dtype=torch.float64, device=b.device)
    z = z.flip(0) if kind == "3" else z
    want = scan64(z, leaves["weight"], leaves["sign"], leaves["bias"], h, width)[1]
    stages = width.bit_length()
    yield "last", error(last, want, stages, steps)
    grad = b.normal(5, width)
    back = partial(b.bases.hadamard_basis_scan_backward, need_drive=True, need_weight=True, need_sign=True)
    found = back(grad, *inputs.values(), kept, *flags)
    made = b.bases.hadamard_basis(*list(inputs.values())[1:], width, steps, kind == "tokens")
    many = 8 if b.tiny else 128  # times the rows: enough for the other way to split a product
    inputs["drive"] = torch.cat([drive] * many, 1)
    pairs = [
        (b.bases.hadamard_basis_apply(drive, *made, *flags[1:]), last),
        (b.bases.hadamard_basis_scan(*inputs.values(), *flags, True)[0][:5], last),
    ]
    if kind != "tokens":
        pairs.append((back(torch.cat([grad] * many), *inputs.values(), kept, *flags)[0][:, :5], found[0]))
    same = all(torch.equal(got, wanted) for got, wanted in pairs)
    yield "bits of a basis that is there, and among many rows", 0.0 if same else float("inf")
    grads = torch.autograd.grad(want, list(leaves.values()), grad.double())
    for name, got, wanted in zip(leaves, (g for g in found if g.numel()), grads, strict=True):
        yield f"gradient of {name}", error(got, wanted, stages, steps * 5)
