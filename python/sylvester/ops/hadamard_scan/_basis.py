"""``plan="basis"``: fakes and derivatives of the raw operators that sum h_T = Σ_j P_j x_{T-1-j}, P_j = W^j [U b].

    starts  (blocks, I + 1, D)  P_j where a block of steps starts, in float32 or float64: what a backward keeps; a
                                row an input or token, and one of the bias if there is one
    basis   (T, I, D)           P_j of the inputs, rows an odd number of cache lines apart
    shift   (D,)                Σ_j P_j of the bias

Cost: T · (I + 1) transforms of D states, and T · I · B · D fused multiply-adds; the scan takes T · B transforms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._dispatch import (
    WIDE,
    call,
    derive_eager,
    launch,
    no_gradient,
    require_block,
    require_device,
    require_floats,
    require_vector,
)
from ._check import TOKENS, check

_BLOCK_ELEMENTS = 1 << 17
"""Of a block of the basis (csrc/hadamard_basis/basis.h): where it starts depends on the parameters' shapes alone."""

_scan = torch.ops.sylvester.hadamard_basis_scan.default
_scan_backward = torch.ops.sylvester.hadamard_basis_scan_backward.default
_basis = torch.ops.sylvester.hadamard_basis.default
_apply = torch.ops.sylvester.hadamard_basis_apply.default


def make_basis(
    weight: Tensor, sign: Tensor, bias: Tensor | None, block_size: int, steps: int, tokens: bool
) -> tuple[Tensor, Tensor]:
    """``(basis, shift)`` of sequences of ``steps`` steps; without derivative."""
    return call(_basis, weight, sign, bias, block_size, steps, tokens)


def apply_basis(drive: Tensor, basis: Tensor, shift: Tensor, batch_first: bool) -> Tensor:
    """``last`` of ``hadamard_scan(..., plan="basis")``, with its bits; without derivative."""
    return call(_apply, drive, basis, shift, False, batch_first)


def block_steps(inputs: int, width: int) -> int:
    """Steps in a block of the basis of ``inputs`` inputs (or tokens) and perhaps a bias."""
    return torch.sym_max(_BLOCK_ELEMENTS // ((inputs + 1) * _padded(width)), 1)


def _padded(width: int) -> int:
    return (width + 15) // 16 * 16


def _starts_shape(drive: Tensor, weight: Tensor, bias: Tensor | None, batch_first: bool) -> tuple[int, int, int]:
    tokens = not drive.is_floating_point()
    (inputs, width) = weight.shape if tokens else weight.shape[::-1]
    steps, length = drive.shape[1 if batch_first else 0], block_steps(inputs, width)
    return (steps + length - 1) // length, inputs + (bias is not None), width


def _check_scan(*arguments: Any) -> None:
    drive, weight, sign, bias, block_size, _reverse, batch_first, _keep = arguments
    check(drive, weight, sign, bias, None, block_size, 0 if batch_first else 1)


def _check_backward(*arguments: Any) -> None:
    grad_last, drive, weight, sign, bias, starts, block_size, _, batch_first, need_drive, _, need_sign = arguments
    check(drive, weight, sign, bias, None, block_size, 0 if batch_first else 1)
    wide, shape = WIDE[weight.dtype], _starts_shape(drive, weight, bias, batch_first)
    expected: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("grad_last", grad_last, (drive.shape[0 if batch_first else 1], sign.shape[0]))
    ]
    if need_sign or (need_drive and drive.is_floating_point()):
        expected.append(("starts", starts, shape))
    for name, tensor, wanted in expected:
        if tuple(tensor.shape) != wanted or tensor.dtype != wide:
            raise ValueError(f"{name} must be {wide} {wanted}, got {tensor.dtype} {tuple(tensor.shape)}")
    for name, tensor in (("grad_last", grad_last), ("starts", starts)):
        require_device(name, tensor, drive)


def _check_basis(*arguments: Any) -> None:
    weight, sign, bias, block_size, steps, tokens = arguments
    require_floats("weight", weight)
    require_floats("sign", sign)
    if sign.dim() != 1 or weight.dim() != 2 or weight.shape[1 if tokens else 0] != sign.shape[0]:
        layout = "(V, D)" if tokens else "(D, I)"
        raise ValueError(f"weight must have shape {layout}, got {tuple(weight.shape)}, sign {tuple(sign.shape)}")
    require_device("sign", sign, weight)
    require_block(block_size, sign.shape[0], sign)
    if bias is not None:
        require_vector("bias", bias, sign.shape[0], weight)
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")


def _check_apply(*arguments: Any) -> None:
    drive, basis, shift, _reverse, batch_first = arguments
    tokens = isinstance(drive, Tensor) and drive.dtype in TOKENS
    if not tokens:
        require_floats("drive", drive, " (or of int32, int64, uint8 tokens)")
    if drive.dim() != (2 if tokens else 3):
        raise ValueError(f"drive must have shape (T, B, I), or (T, B) for tokens, got {tuple(drive.shape)}")
    wide = (torch.float32, torch.float64) if tokens else (WIDE[drive.dtype],)
    steps = drive.shape[1 if batch_first else 0]
    if basis.dtype not in wide or basis.dim() != 3 or basis.shape[0] != steps or basis.shape[2] == 0:
        raise ValueError(f"basis must be {wide[0]} ({steps}, I, D), got {basis.dtype} {tuple(basis.shape)}")
    if not tokens and basis.shape[1] != drive.shape[2]:
        raise ValueError(f"basis must have {drive.shape[2]} inputs, as drive has, got {tuple(basis.shape)}")
    if shift.dtype != basis.dtype or tuple(shift.shape) != (basis.shape[2],):
        raise ValueError(f"shift must be {basis.dtype} ({basis.shape[2]},), got {shift.dtype} {tuple(shift.shape)}")
    require_device("basis", basis, drive)
    require_device("shift", shift, drive)


@torch.library.register_fake("sylvester::hadamard_basis_scan")
def _fake_scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    _check_scan(*arguments)
    drive, weight, sign, bias, _, _, batch_first, keep = arguments
    blocks, rows, width = _starts_shape(drive, weight, bias, batch_first)
    last = sign.new_empty((drive.shape[0 if batch_first else 1], width), dtype=WIDE[weight.dtype])
    return last, last.new_empty((blocks if keep else 0, rows, width))


@torch.library.register_fake("sylvester::hadamard_basis_scan_backward")
def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _check_backward(*arguments)
    _, drive, weight, sign, bias, *_, need_drive, need_weight, need_sign = arguments
    tokens = not drive.is_floating_point()
    return (
        drive.new_empty(drive.shape if need_drive and not tokens else (0,), dtype=weight.dtype),
        weight.new_empty(weight.shape if need_weight else (0,)),
        sign.new_empty(sign.shape if need_sign else (0,)),
        sign.new_empty((0,)) if bias is None else bias.new_empty(bias.shape),
    )


def empty_basis(weight: Tensor, width: int, steps: int, tokens: bool) -> Tensor:
    """(steps, I, width), laid out as every implementation returns it."""
    row = _padded(width)
    row += 16 if row % 32 == 0 else 0
    inputs = weight.shape[0 if tokens else 1]
    return weight.new_empty_strided((steps, inputs, width), (inputs * row, row, 1), dtype=WIDE[weight.dtype])


@torch.library.register_fake("sylvester::hadamard_basis")
def _fake_basis(*arguments: Any) -> tuple[Tensor, Tensor]:
    _check_basis(*arguments)
    weight, sign, _, _, steps, tokens = arguments
    basis = empty_basis(weight, sign.shape[0], steps, tokens)
    return basis, basis.new_empty((sign.shape[0],))


@torch.library.register_fake("sylvester::hadamard_basis_apply")
def _fake_apply(*arguments: Any) -> Tensor:
    _check_apply(*arguments)
    drive, basis, _, _, batch_first = arguments
    return basis.new_empty((drive.shape[0 if batch_first else 1], basis.shape[2]))


def _cuda_scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    _check_scan(*arguments)
    return launch("hadamard_basis", "hadamard_basis_scan", *arguments)


def _cuda_backward(*arguments: Any) -> tuple[Tensor, ...]:
    _check_backward(*arguments)
    return launch("hadamard_basis", "hadamard_basis_scan_backward", *arguments)


def _cuda_basis(*arguments: Any) -> tuple[Tensor, Tensor]:
    _check_basis(*arguments)
    return launch("hadamard_basis", "hadamard_basis", *arguments)


def _cuda_apply(*arguments: Any) -> Tensor:
    _check_apply(*arguments)
    return launch("hadamard_basis", "hadamard_basis_apply", *arguments)


BASIS_LAUNCHERS = {
    "hadamard_basis_scan": _cuda_scan,
    "hadamard_basis_scan_backward": _cuda_backward,
    "hadamard_basis": _cuda_basis,
    "hadamard_basis_apply": _cuda_apply,
}
for _name, _launcher in BASIS_LAUNCHERS.items():
    torch.library.impl(f"sylvester::{_name}", "CUDA")(_launcher)


def _setup_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    drive, weight, sign, bias, ctx.block_size, ctx.reverse, ctx.batch_first, _ = inputs
    ctx.save_for_backward(drive, weight, sign, bias, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _derivative_scan(ctx: Any, grad_last: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad_last is None:
        return (None,) * 8
    needs = ctx.needs_input_grad
    gradients = _scan_backward(grad_last, *ctx.saved_tensors, ctx.block_size, ctx.reverse, ctx.batch_first, *needs[:3])
    wanted = (gradient if need else None for gradient, need in zip(gradients, needs, strict=False))
    return (*wanted, None, None, None, None)


torch.library.register_autograd("sylvester::hadamard_basis_scan", _derivative_scan, setup_context=_setup_scan)
derive_eager(_scan, _derivative_scan, _setup_scan)
no_gradient(_scan_backward, "second derivatives are not implemented")
for _op in (_basis, _apply):
    no_gradient(_op, "it serves calls without gradients; hadamard_scan(..., plan='basis') is differentiable")
