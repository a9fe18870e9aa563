"""Fakes, GPU launchers and derivatives of the three raw operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._dispatch import WIDE, derive_eager, launch, no_gradient, require_device
from ._check import CHECKPOINT_EVERY, check

_backward_scan = torch.ops.sylvester.hadamard_scan_backward.default


def _check_scan(*arguments: Any) -> None:
    drive, weight, sign, bias, h0, block_size, _last_only, _reverse, batch_first, _keep = arguments
    check(drive, weight, sign, bias, h0, block_size, 0 if batch_first else 1)


def _check_step(*arguments: Any) -> None:
    drive, weight, sign, bias, h, block_size = arguments
    check(drive, weight, sign, bias, h, block_size, 0, state="h")


def _check_backward(*arguments: Any) -> None:
    grad_states, grad_last, drive, weight, sign, bias, states, last, checkpoints, block_size, _, batch_first, *_ = (
        arguments
    )
    check(drive, weight, sign, bias, last, block_size, 0 if batch_first else 1)
    io = (drive if weight is None else weight).dtype
    every_step = (*drive.shape[:2], sign.shape[0])
    # Without need_sign, and with states, nobody reads checkpoints: they may be left out.
    kept = 0 if checkpoints.shape[0] == 0 else _checkpoint_count(drive.shape[1 if batch_first else 0])
    expected = (
        ("grad_states", grad_states, every_step, io),
        ("grad_last", grad_last, tuple(last.shape), last.dtype),
        ("states", states, every_step, WIDE[io]),
        ("checkpoints", checkpoints, (kept, *last.shape), last.dtype),
    )
    for name, tensor, shape, dtype in expected:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name} must be {dtype} {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
        require_device(name, tensor, drive)


def _checkpoint_count(steps: int) -> int:
    return torch.sym_max((steps - 1) // CHECKPOINT_EVERY, 0)


@torch.library.register_fake("sylvester::hadamard_scan")
def _fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    _check_scan(*arguments)
    drive, weight, sign, _, _, _, last_only, _, batch_first, keep = arguments
    io, width = (drive if weight is None else weight).dtype, sign.shape[0]
    steps, rows = (drive.shape[1], drive.shape[0]) if batch_first else drive.shape[:2]
    states = sign.new_empty((0,) if last_only else (*drive.shape[:2], width), dtype=io)
    last = sign.new_empty((rows, width), dtype=WIDE[io])
    return states, last, last.new_empty((_checkpoint_count(steps) if keep else 0, rows, width))


@torch.library.register_fake("sylvester::hadamard_step")
def _fake_step(*arguments: Any) -> Tensor:
    _check_step(*arguments)
    return torch.empty_like(arguments[4], memory_format=torch.contiguous_format)


@torch.library.register_fake("sylvester::hadamard_scan_backward")
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _check_backward(*arguments)
    _, _, drive, weight, sign, bias, _, last, *_, need_drive, need_weight, need_sign = arguments
    shift, io = sign if bias is None else bias, (drive if weight is None else weight).dtype
    tokens = not drive.is_floating_point()
    return (
        drive.new_empty(drive.shape if need_drive and not tokens else (0,), dtype=io),
        drive.new_empty((0,) if weight is None or not need_weight else weight.shape, dtype=io),
        sign.new_empty(sign.shape if need_sign else (0,)),
        shift.new_empty(shift.shape),
        last.new_empty(last.shape),
    )


def _cuda(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    _check_scan(*arguments)
    return launch("hadamard_scan", "hadamard_scan", *arguments)


def _cuda_step(*arguments: Any) -> Tensor:
    _check_step(*arguments)
    return launch("hadamard_scan", "hadamard_step", *arguments)


def _cuda_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _check_backward(*arguments)
    return launch("hadamard_scan", "hadamard_scan_backward", *arguments)


LAUNCHERS = {"hadamard_scan": _cuda, "hadamard_step": _cuda_step, "hadamard_scan_backward": _cuda_backward}
for _name, _launcher in LAUNCHERS.items():
    torch.library.impl(f"sylvester::{_name}", "CUDA")(_launcher)


def _setup_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    drive, weight, sign, bias, _, ctx.block_size, ctx.last_only, ctx.reverse, ctx.batch_first, _ = inputs
    states, last, checkpoints = output
    full_precision = not ctx.last_only and states.dtype == last.dtype
    reused = states if full_precision and ctx.needs_input_grad[2] else None
    ctx.save_for_backward(drive, weight, sign, bias, reused, last, checkpoints)
    ctx.mark_non_differentiable(checkpoints)
    # An output that nobody used would otherwise arrive as T·B·D zeros.
    ctx.set_materialize_grads(False)


def _derivative_scan(
    ctx: Any, grad_states: Tensor | None, grad_last: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    grad_states = None if ctx.last_only else grad_states
    if grad_states is None and grad_last is None:
        return (None,) * 10
    drive, weight, sign, bias, states, last, checkpoints = ctx.saved_tensors
    needs = ctx.needs_input_grad
    gradients = _backward_scan(
        grad_states, grad_last, drive, weight, sign, bias, states, last, checkpoints,
        ctx.block_size, ctx.reverse, ctx.batch_first, *needs[:3],
    )  # fmt: skip
    wanted = (gradient if need else None for gradient, need in zip(gradients, needs, strict=False))
    return (*wanted, None, None, None, None, None)


def _setup_step(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    drive, weight, sign, bias, _, ctx.block_size = inputs
    ctx.save_for_backward(drive, weight, sign, bias, output)


def _derivative_step(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    drive, weight, sign, bias, last = ctx.saved_tensors
    needs = ctx.needs_input_grad
    # A scan of one step: its state before the step needs no rebuilding, only last - z - b.
    gradients = _backward_scan(
        None, grad, drive[None], weight, sign, bias, None, last, last.new_empty((0, *last.shape)),
        ctx.block_size, False, False, *needs[:3],
    )  # fmt: skip
    grad_drive, *others = gradients
    found = (grad_drive.squeeze(0) if needs[0] else None, *others)
    return (*(gradient if need else None for gradient, need in zip(found, needs, strict=False)), None)


torch.library.register_autograd("sylvester::hadamard_scan", _derivative_scan, setup_context=_setup_scan)
torch.library.register_autograd("sylvester::hadamard_step", _derivative_step, setup_context=_setup_step)
derive_eager(torch.ops.sylvester.hadamard_scan.default, _derivative_scan, _setup_scan)
derive_eager(torch.ops.sylvester.hadamard_step.default, _derivative_step, _setup_step)
no_gradient(_backward_scan, "second derivatives are not implemented")
