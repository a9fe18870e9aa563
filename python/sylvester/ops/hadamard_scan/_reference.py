"""The definition in plain PyTorch: a Python loop over time, differentiable, selectable by users."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import hadamard_transform as transform
from .._dispatch import WIDE


def reference(
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
    """``(output, last)`` of ``hadamard_scan``; ``plan`` is ignored."""
    io = (drive if weight is None else weight).dtype
    wide = WIDE[io]
    z = drives(drive, weight, bias, wide)
    z = z.transpose(0, 1) if batch_first else z
    s = sign.to(wide)
    h = z.new_zeros(z.shape[1:]) if h0 is None else h0
    steps = range(len(z))
    outputs: list[Tensor] = [h] * len(z)
    for t in reversed(steps) if reverse else steps:
        state = _activate(s * transform.reference(h, block_size=block_size) + z[t], activation, act_bias)
        inside = torch.ones((), dtype=torch.bool) if lengths is None else (t < lengths)[:, None]
        h = torch.where(inside, state, h)
        read = state if readout is None else _read_out(state, readout)
        outputs[t] = torch.where(inside, read, torch.zeros_like(read))
    if last_only:
        return (h if readout is None else _read_out(h, readout)).to(io), h
    width = sign.shape[0] if readout is None else readout[0].shape[0]
    output = torch.stack(outputs) if outputs else z.new_zeros((0, z.shape[1], width))
    return (output.transpose(0, 1) if batch_first else output).to(io), h


def _activate(a: Tensor, activation: str, act_bias: Tensor | None) -> Tensor:
    if activation == "relu":
        return torch.relu(a)
    if act_bias is None:
        return a
    return a.sign() * torch.relu(a.abs() + act_bias.to(a.dtype))


def _read_out(h: Tensor, readout: tuple[Tensor, Tensor | None]) -> Tensor:
    weight, bias = readout
    return functional.linear(torch.relu(h), weight.to(h.dtype), None if bias is None else bias.to(h.dtype))


def reference_step(
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
    """The new state of ``hadamard_step``."""
    options: dict[str, Any] = {"weight": weight, "block_size": block_size, "activation": activation}
    return reference(drive[None], sign, bias, h, act_bias=act_bias, last_only=True, **options)[1]


def drives(drive: Tensor, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """z_t + b of every step, (T, B, D) or (B, T, D) as the drive is."""
    if weight is None:
        z = drive.to(dtype)
    elif drive.is_floating_point():
        z = functional.linear(drive.to(dtype), weight.to(dtype))
    else:
        z = functional.embedding(drive.long(), weight.to(dtype))
    return z if bias is None else z + bias.to(dtype)
