"""Fakes, GPU launchers and derivatives of the three raw operators."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._dispatch import WIDE, derive_eager, launch, no_gradient, require_device
from ._check import ACTIVATIONS, CHECKPOINT_EVERY, check, check_activation, check_options

_backward_scan = torch.ops.sylvester.hadamard_scan_backward.default


class Scan(NamedTuple):
    """Arguments of the raw scan."""

    drive: Tensor
    weight: Tensor | None
    sign: Tensor
    bias: Tensor | None
    h0: Tensor | None
    lengths: Tensor | None
    readout: Tensor | None
    readout_bias: Tensor | None
    act_bias: Tensor | None
    block_size: int
    activation: int
    last_only: bool
    reverse: bool
    batch_first: bool
    keep: bool


class Backward(NamedTuple):
    """Arguments of the raw backward."""

    grad_output: Tensor | None
    grad_last: Tensor | None
    drive: Tensor
    weight: Tensor | None
    sign: Tensor
    bias: Tensor | None
    h0: Tensor | None
    lengths: Tensor | None
    readout: Tensor | None
    act_bias: Tensor | None
    states: Tensor | None
    last: Tensor
    checkpoints: Tensor
    block_size: int
    activation: int
    last_only: bool
    reverse: bool
    batch_first: bool
    need_drive: bool
    need_weight: bool
    need_sign: bool


def _io(a: Scan | Backward) -> torch.dtype:
    return (a.drive if a.weight is None else a.weight).dtype


def _check_all(a: Scan | Backward, h0: Tensor | None, readout_bias: Tensor | None) -> None:
    axis = 0 if a.batch_first else 1
    check(a.drive, a.weight, a.sign, a.bias, h0, a.block_size, axis)
    read = None if a.readout is None else (a.readout, readout_bias)
    check_options(a.drive, a.sign, a.lengths, read, tuple(ACTIVATIONS)[a.activation], a.act_bias, axis)


def _check_scan(a: Scan) -> None:
    _check_all(a, a.h0, a.readout_bias)


def _check_step(*arguments: Any) -> None:
    drive, weight, sign, bias, h, act_bias, block_size, activation = arguments
    check(drive, weight, sign, bias, h, block_size, 0, state="h")
    check_activation(tuple(ACTIVATIONS)[activation], act_bias, sign.shape[0], drive)


def _check_backward(a: Backward) -> None:
    _check_all(a, a.last, None)
    every_step = (*a.drive.shape[:2], a.sign.shape[0])
    outputs = every_step if a.readout is None else (*every_step[:2], a.readout.shape[0])
    if a.last_only:
        outputs = (a.last.shape[0], outputs[2])
    # Where states are given, or not needed, nobody reads checkpoints: they may be left out.
    kept = 0 if a.checkpoints.shape[0] == 0 else _checkpoint_count(a.drive.shape[1 if a.batch_first else 0])
    expected = (
        ("grad_output", a.grad_output, outputs, _io(a)),
        ("grad_last", a.grad_last, tuple(a.last.shape), a.last.dtype),
        ("h0", a.h0, tuple(a.last.shape), a.last.dtype),
        ("states", a.states, every_step, WIDE[_io(a)]),
        ("checkpoints", a.checkpoints, (kept, *a.last.shape), a.last.dtype),
    )
    for name, tensor, shape, dtype in expected:
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name} must be {dtype} {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
        require_device(name, tensor, a.drive)


def _checkpoint_count(steps: int) -> int:
    return torch.sym_max((steps - 1) // CHECKPOINT_EVERY, 0)


@torch.library.register_fake("sylvester::hadamard_scan")
def _fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    a = Scan(*arguments)
    _check_scan(a)
    drive, sign = a.drive, a.sign
    steps, rows = (drive.shape[1], drive.shape[0]) if a.batch_first else drive.shape[:2]
    columns = (sign if a.readout is None else a.readout).shape[0]
    shape = (*drive.shape[:2], columns) if not a.last_only else (0,) if a.readout is None else (rows, columns)
    output = sign.new_empty(shape, dtype=_io(a))
    last = sign.new_empty((rows, sign.shape[0]), dtype=WIDE[_io(a)])
    return output, last, last.new_empty((_checkpoint_count(steps) if a.keep else 0, *last.shape))


@torch.library.register_fake("sylvester::hadamard_step")
def _fake_step(*arguments: Any) -> Tensor:
    _check_step(*arguments)
    return torch.empty_like(arguments[4], memory_format=torch.contiguous_format)


@torch.library.register_fake("sylvester::hadamard_scan_backward")
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    a = Backward(*arguments)
    _check_backward(a)
    sign, nothing = a.sign, (0,)
    shift, tokens = sign if a.bias is None else a.bias, not a.drive.is_floating_point()
    read = sign if a.readout is None else a.readout
    return (
        a.drive.new_empty(a.drive.shape if a.need_drive and not tokens else nothing, dtype=_io(a)),
        a.drive.new_empty(nothing if a.weight is None or not a.need_weight else a.weight.shape, dtype=_io(a)),
        sign.new_empty(sign.shape if a.need_sign else nothing),
        shift.new_empty(sign.shape),
        a.last.new_empty(a.last.shape),
        read.new_empty(nothing if a.readout is None else read.shape),
        read.new_empty(nothing if a.readout is None else read.shape[:1]),
        sign.new_empty(nothing) if a.act_bias is None else a.act_bias.new_empty(sign.shape),
    )


def _cuda(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    _check_scan(Scan(*arguments))
    return launch("hadamard_scan", "hadamard_scan", *arguments)


def _cuda_step(*arguments: Any) -> Tensor:
    _check_step(*arguments)
    return launch("hadamard_scan", "hadamard_step", *arguments)


def _cuda_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _check_backward(Backward(*arguments))
    return launch("hadamard_scan", "hadamard_scan_backward", *arguments)


LAUNCHERS = {"hadamard_scan": _cuda, "hadamard_step": _cuda_step, "hadamard_scan_backward": _cuda_backward}
for _name, _launcher in LAUNCHERS.items():
    torch.library.impl(f"sylvester::{_name}", "CUDA")(_launcher)


def _setup_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)  # an output that nobody used would otherwise arrive as T·B·D zeros
    a = Scan(*inputs)
    states, last, checkpoints = output
    ctx.mark_non_differentiable(checkpoints)
    full_precision = not a.last_only and a.readout is None and states.dtype == last.dtype
    reused = states if full_precision and (a.activation or ctx.needs_input_grad[2]) else None
    h0 = a.h0 if a.activation else None
    ctx.save_for_backward(
        a.drive, a.weight, a.sign, a.bias, h0, a.lengths, a.readout, a.act_bias, reused, last, checkpoints
    )
    ctx.no_output = a.last_only and a.readout is None
    ctx.options = a.block_size, a.activation, a.last_only, a.reverse, a.batch_first


def _derivative_scan(
    ctx: Any, grad_output: Tensor | None, grad_last: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    grad_output = None if ctx.no_output else grad_output
    if grad_output is None and grad_last is None:
        return (None,) * len(Scan._fields)
    needs = Scan(*ctx.needs_input_grad)
    drive, weight, sign, bias, h0, readout, readout_bias, act_bias = _backward_scan(
        grad_output, grad_last, *ctx.saved_tensors, *ctx.options, needs.drive, needs.weight, needs.sign
    )
    gradients = (drive, weight, sign, bias, h0, None, readout, readout_bias, act_bias, *(None,) * 6)
    return tuple(gradient if need else None for gradient, need in zip(gradients, needs, strict=True))


def _setup_step(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    drive, weight, sign, bias, _, act_bias, *ctx.options = inputs
    ctx.save_for_backward(drive, weight, sign, bias, act_bias, output)


def _derivative_step(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    drive, weight, sign, bias, act_bias, last = ctx.saved_tensors
    needs = ctx.needs_input_grad
    # A scan of one step: its state before the step needs no rebuilding, only last - z - b.
    grad_drive, *others = _backward_scan(
        None, grad, drive[None], weight, sign, bias, None, None, None, act_bias, last[None], last,
        last.new_empty((0, *last.shape)), *ctx.options, True, False, False, *needs[:3],
    )  # fmt: skip
    found = (grad_drive.squeeze(0) if needs[0] else None, *others[:4], others[6], None, None)
    return tuple(gradient if need else None for gradient, need in zip(found, needs, strict=True))


torch.library.register_autograd("sylvester::hadamard_scan", _derivative_scan, setup_context=_setup_scan)
torch.library.register_autograd("sylvester::hadamard_step", _derivative_step, setup_context=_setup_step)
derive_eager(torch.ops.sylvester.hadamard_scan.default, _derivative_scan, _setup_scan)
derive_eager(torch.ops.sylvester.hadamard_step.default, _derivative_step, _setup_step)
no_gradient(_backward_scan, "second derivatives are not implemented")
