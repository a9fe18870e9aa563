"""The public functions.

Every implementation of a raw operator checks its arguments: C++ on the CPU, ``check`` on the GPU and in the fakes. So
an eager call checks only after a refusal, to say it in its caller's words: a check is a third of a step's time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .._dispatch import WIDE, call, explain
from ._check import check, check_plan

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
    last_only: bool = False,
    reverse: bool = False,
    batch_first: bool = False,
    plan: str = "scan",
) -> tuple[Tensor, Tensor]:
    """``(output, last)`` of h_t = sign ∘ S̃ h_{t-1} + z_t + bias over all steps; see the module for shapes and dtypes.

    plan: how the last state is found. "scan" walks the steps one after another; "basis" sums W^j U x_{T-1-j}, which
    takes T · (I + 1) transforms in place of T · B and 2 · T · I · B · D more operations: for few inputs and many rows,
    last_only, no h0, and weight given. The sums are not the scan's, so their bits differ; each plan keeps its own.

    >>> hadamard_scan(torch.tensor([[[1.0]], [[1.0]], [[1.0]]]), torch.tensor([-1.0]))[0].flatten()
    tensor([1., 0., 1.])
    """
    check_plan(plan, weight, h0, last_only)
    row_axis = 0 if batch_first else 1
    if is_compiling():
        check(drive, weight, sign, bias, h0, block_size, row_axis)
    try:
        block = sign.shape[0] if block_size is None else block_size
        io = drive.dtype if weight is None else weight.dtype
        # Full-precision states are the output already; otherwise sign's gradient rebuilds them from checkpoints.
        rebuilds = last_only or io != WIDE.get(io)
        keep = rebuilds and sign.requires_grad and torch.is_grad_enabled()
        drive = _as_signed(drive)
        if plan == "basis":
            keep = (sign.requires_grad or drive.requires_grad) and torch.is_grad_enabled()
            last, _ = call(_basis, drive, weight, sign, bias, block, reverse, batch_first, keep)
            return last.to(io), last
        states, last, _ = call(_scan, drive, weight, sign, bias, h0, block, last_only, reverse, batch_first, keep)
        return last.to(io) if last_only else states, last
    except Exception:
        explain(check, drive, weight, sign, bias, h0, block_size, row_axis)
        raise


def hadamard_step(
    drive: Tensor,
    sign: Tensor,
    bias: Tensor | None = None,
    h: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    block_size: int | None = None,
) -> Tensor:
    """One step from the state ``h``, (B, D), None: zeros; drive is (B, D), (B, I) or (B,). Same bits as the scan.

    >>> hadamard_step(torch.tensor([[1.0]]), torch.tensor([-1.0]), h=torch.tensor([[3.0]]))
    tensor([[-2.]])
    """
    if is_compiling():
        check(drive, weight, sign, bias, h, block_size, 0, "h")
    try:
        block = sign.shape[0] if block_size is None else block_size
        if h is None:
            io = drive.dtype if weight is None else weight.dtype
            h = drive.new_zeros((drive.shape[0], sign.shape[0]), dtype=WIDE.get(io))
        return call(_step, _as_signed(drive), weight, sign, bias, h, block)
    except Exception:
        explain(check, drive, weight, sign, bias, h, block_size, 0, "h")
        raise


def _as_signed(drive: Tensor) -> Tensor:
    return drive.int() if drive.dtype == torch.uint8 else drive
