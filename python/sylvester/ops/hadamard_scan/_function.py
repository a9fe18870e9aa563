"""The public functions.

Every implementation of a raw operator checks its arguments: C++ on the CPU, ``check`` on the GPU and in the fakes. So
an eager call checks only after a refusal, to say it in its caller's words: a check is a third of a step's time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .._dispatch import WIDE, call, explain
from ._check import ACTIVATIONS, check, check_activation, check_options, check_plan
from ._chunked import chunked, chunks_of

_scan = torch.ops.sylvester.hadamard_scan.default
_step = torch.ops.sylvester.hadamard_step.default
_basis = torch.ops.sylvester.hadamard_basis_scan.default


def hadamard_scan(
    drive: Tensor,
    sign: Tensor,
    bias: Tensor | None = None,
    h0: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    block_size: int | None = None,
    lengths: Tensor | None = None,
    readout: tuple[Tensor, Tensor | None] | None = None,
    activation: str = "identity",
    act_bias: Tensor | None = None,
    last_only: bool = False,
    reverse: bool = False,
    batch_first: bool = False,
    plan: str = "scan",
) -> tuple[Tensor, Tensor]:
    """``(output, last)`` of h_t = sign ∘ S̃ h_{t-1} + z_t + bias over all steps; see the module for shapes and dtypes.

    plan: how the last state is found. "scan" walks the steps one after another; "basis" sums W^j U x_{T-1-j}, which
    takes T · (I + 1) transforms in place of T · B and 2 · T · I · B · D more operations: for few inputs and many rows,
    last_only, no h0, and weight given. "chunked" cuts T into chunks that run side by side and joins them by a power of
    W: for long sequences in few rows. The sums are not the scan's, so their bits differ; scan and basis keep their own
    for any batch and thread count, chunked passes through torch's products and does not.

    >>> hadamard_scan(torch.tensor([[[1.0]], [[1.0]], [[1.0]]]), torch.tensor([-1.0]))[0].flatten()
    tensor([1., 0., 1.])
    """
    check_plan(plan, weight, h0, last_only, lengths, activation)
    row_axis = 0 if batch_first else 1
    if is_compiling():
        check(drive, weight, sign, bias, h0, block_size, row_axis)
        check_options(drive, sign, lengths, readout, activation, act_bias, row_axis)
    try:
        block = sign.shape[0] if block_size is None else block_size
        if plan == "chunked" and chunks_of(drive.shape[1 - row_axis], drive.is_cuda) > 1:
            return chunked(
                hadamard_scan, drive, sign, bias, h0, weight=weight, block_size=block, readout=readout,
                last_only=last_only, reverse=reverse, batch_first=batch_first,
            )  # fmt: skip
        if plan == "basis":
            last = _sum_basis(_as_signed(drive), weight, sign, bias, block, reverse, batch_first)
            if readout is None:
                return last.to(weight.dtype if weight is not None else last.dtype), last
            drive, h0 = drive.narrow(1 - row_axis, 0, 0), last  # no steps are left: the scan reads out
        flags = (block, activation, last_only, reverse, batch_first)
        return _walk(_as_signed(drive), weight, sign, bias, h0, lengths, readout, act_bias, *flags)
    except Exception:
        explain(check, drive, weight, sign, bias, h0, block_size, row_axis)
        explain(check_options, drive, sign, lengths, readout, activation, act_bias, row_axis)
        raise


def _sum_basis(drive: Tensor, weight: Tensor | None, sign: Tensor, bias: Tensor | None, *flags: Any) -> Tensor:
    keep = (sign.requires_grad or drive.requires_grad) and torch.is_grad_enabled()
    last, _ = call(_basis, drive, weight, sign, bias, *flags, keep)
    return last


def _walk(
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None,
    readout: tuple[Tensor, Tensor | None] | None,
    act_bias: Tensor | None,
    block: int,
    activation: str,
    last_only: bool,
    *flags: bool,
) -> tuple[Tensor, Tensor]:
    io = drive.dtype if weight is None else weight.dtype
    read, shift = (None, None) if readout is None else readout
    # Full-precision states are the output already; otherwise a backward builds them again from checkpoints.
    hidden = last_only or read is not None or io != WIDE.get(io)
    keep = hidden and torch.is_grad_enabled() and sign.requires_grad
    if hidden and not keep and ((read is not None and not last_only) or activation != "identity"):
        keep = torch.is_grad_enabled() and _any_needs_grad(drive, weight, bias, h0, read, shift, act_bias)
    arrays = (drive, weight, sign, bias, h0, lengths, read, shift, act_bias)
    output, last, _ = call(_scan, *arrays, block, ACTIVATIONS[activation], last_only, *flags, keep)
    return last.to(io) if last_only and read is None else output, last


def _any_needs_grad(*tensors: Tensor | None) -> bool:
    """Read-out and activation pass gradients where their states were not 0, so every gradient needs the states."""
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def hadamard_step(
    drive: Tensor,
    sign: Tensor,
    bias: Tensor | None = None,
    h: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    block_size: int | None = None,
    activation: str = "identity",
    act_bias: Tensor | None = None,
) -> Tensor:
    """One step from the state ``h``, (B, D), None: zeros; drive is (B, D), (B, I) or (B,). Same bits as the scan.

    >>> hadamard_step(torch.tensor([[1.0]]), torch.tensor([-1.0]), h=torch.tensor([[3.0]]))
    tensor([[-2.]])
    """
    if is_compiling():
        check(drive, weight, sign, bias, h, block_size, 0, "h")
        check_activation(activation, act_bias, sign.shape[0], drive)
    try:
        block = sign.shape[0] if block_size is None else block_size
        if h is None:
            io = drive.dtype if weight is None else weight.dtype
            h = drive.new_zeros((drive.shape[0], sign.shape[0]), dtype=WIDE.get(io))
        return call(_step, _as_signed(drive), weight, sign, bias, h, act_bias, block, ACTIVATIONS[activation])
    except Exception:
        explain(check, drive, weight, sign, bias, h, block_size, 0, "h")
        explain(check_activation, activation, act_bias, sign.shape[0], drive)
        raise


def _as_signed(drive: Tensor) -> Tensor:
    return drive.int() if drive.dtype == torch.uint8 else drive
