"""The definition in plain PyTorch: a Python loop over time, differentiable, selectable by users."""

from __future__ import annotations

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
    states = []
    for z_t in reversed(z.unbind(0)) if reverse else z.unbind(0):
        h = s * transform.reference(h, block_size=block_size) + z_t
        states.append(h)
    if last_only:
        return h.to(io), h
    output = torch.stack(states[::-1] if reverse else states) if states else z
    return (output.transpose(0, 1) if batch_first else output).to(io), h


def reference_step(
    drive: Tensor,
    sign: Tensor,
    bias: Tensor | None = None,
    h: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    block_size: int | None = None,
) -> Tensor:
    """The new state of ``hadamard_step``."""
    return reference(drive[None], sign, bias, h, weight=weight, block_size=block_size, last_only=True)[1]


def drives(drive: Tensor, weight: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """z_t + b of every step, (T, B, D) or (B, T, D) as the drive is."""
    if weight is None:
        z = drive.to(dtype)
    elif drive.is_floating_point():
        z = functional.linear(drive.to(dtype), weight.to(dtype))
    else:
        z = functional.embedding(drive.long(), weight.to(dtype))
    return z if bias is None else z + bias.to(dtype)
