"""The public functions.

Every implementation of a raw operator checks its arguments: C++ on the CPU, ``check`` on the GPU and in the fakes. So
an eager call checks only after a refusal, to say it in its caller's words: a check is a third of a step's time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .._dispatch import WIDE, call, explain
from ._check import ACTIVATIONS, check, check_activation, check_options

_scan = torch.ops.sylvester.hadamard_scan.default
_step = torch.ops.sylvester.hadamard_step.default


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

    plan: how the sum is evaluated; "scan" walks the steps one after another.

    >>> hadamard_scan(torch.tensor([[[1.0]], [[1.0]], [[1.0]]]), torch.tensor([-1.0]))[0].flatten()
    tensor([1., 0., 1.])
    """
    if plan != "scan":
        raise ValueError(f'plan must be "scan", got {plan!r}')
    row_axis = 0 if batch_first else 1
    if is_compiling():
        check(drive, weight, sign, bias, h0, block_size, row_axis)
        check_options(drive, sign, lengths, readout, activation, act_bias, row_axis)
    try:
        block = sign.shape[0] if block_size is None else block_size
        io = drive.dtype if weight is None else weight.dtype
        read, shift = (None, None) if readout is None else readout
        # Full-precision states are the output already; otherwise a backward builds them again from checkpoints.
        hidden = last_only or read is not None or io != WIDE.get(io)
        keep = hidden and torch.is_grad_enabled() and sign.requires_grad
        if hidden and not keep and ((read is not None and not last_only) or activation != "identity"):
            keep = torch.is_grad_enabled() and _any_needs_grad(drive, weight, bias, h0, read, shift, act_bias)
        output, last, _ = call(
            _scan, _as_signed(drive), weight, sign, bias, h0, lengths, read, shift, act_bias,
            block, ACTIVATIONS[activation], last_only, reverse, batch_first, keep,
        )  # fmt: skip
        return last.to(io) if last_only and read is None else output, last
    except Exception:
        explain(check, drive, weight, sign, bias, h0, block_size, row_axis)
        explain(check_options, drive, sign, lengths, readout, activation, act_bias, row_axis)
        raise


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
