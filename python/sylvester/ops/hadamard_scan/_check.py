"""What the scan and its step take; every way in (public, fake, GPU) asks here once."""

from __future__ import annotations

import torch
from torch import Tensor

from .._dispatch import WIDE, describe, require_block, require_device, require_floats, require_vector

CHECKPOINT_EVERY = 64
"""Steps between kept states: a constant, so that symbolic T works and a row does not depend on its batch."""

TOKENS = (torch.int64, torch.int32, torch.uint8)

ACTIVATIONS = {"identity": 0, "relu": 1, "modrelu": 2}
"""Name -> code of the raw operators."""

MOST_OUTPUTS = 32
"""Widest read-out inside the scan; from there on a product over stored states costs no more."""


def check(
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    block_size: int | None,
    row_axis: int,
    state: str = "h0",
) -> int:
    """Raise on arguments the operators do not take; returns the block size.

    row_axis: where drive has its rows. state: the public name of h0, which is "h" in a step: no time axis then.
    """
    require_floats("sign", sign)
    if sign.dim() != 1 or sign.shape[0] == 0:
        raise ValueError(f"sign must have shape (D,), D at least 1, got {tuple(sign.shape)}")
    width = sign.shape[0]
    block = width if block_size is None else block_size
    require_block(block, width, sign)
    axes = "B, " if state == "h" else "B, T, " if row_axis == 0 else "T, B, "
    io = _check_drive(drive, weight, width, axes)
    if sign.device != drive.device:
        require_device("sign", sign, drive)
    if bias is not None:
        require_vector("bias", bias, width, drive)
    if h0 is not None:
        rows = drive.shape[row_axis]
        if not isinstance(h0, Tensor) or h0.dtype != WIDE[io]:
            raise TypeError(f"{state} must be {WIDE[io]} with a {io} drive, got {describe(h0)}")
        if h0.dim() != 2 or h0.shape[0] != rows or h0.shape[1] != width:
            raise ValueError(f"{state} must have shape (B, D) = ({rows}, {width}), got {tuple(h0.shape)}")
        require_device(state, h0, drive)
    return block


def _check_drive(drive: Tensor, weight: Tensor | None, width: int, axes: str) -> torch.dtype:
    """Raise unless drive (and weight) are one of the three kinds; returns the dtype of the output."""
    count = len(axes) // 3
    tokens = isinstance(drive, Tensor) and drive.dtype in TOKENS
    if not tokens:
        require_floats("drive", drive, " (or of int32, int64, uint8 tokens)")
    if weight is None:
        if tokens:
            raise TypeError(f"an integer drive holds tokens and needs weight (V, {width}), got {describe(drive)}")
        if drive.dim() != count + 1 or drive.shape[-1] != width:
            raise ValueError(f"drive must have shape ({axes}{width}), as sign has, got {tuple(drive.shape)}")
        return drive.dtype
    require_floats("weight", weight)
    require_device("weight", weight, drive)
    if tokens:
        if drive.dim() != count:
            raise ValueError(f"a drive of tokens must have shape ({axes[:-2]}), got {tuple(drive.shape)}")
        if weight.dim() != 2 or weight.shape[1] != width:
            raise ValueError(f"weight must have shape (V, {width}) for tokens, got {tuple(weight.shape)}")
        return weight.dtype
    if drive.dim() != count + 1:
        raise ValueError(f"drive must have shape ({axes}I) when weight is given, got {tuple(drive.shape)}")
    if weight.dim() != 2 or weight.shape[0] != width or weight.shape[1] != drive.shape[-1]:
        raise ValueError(f"weight must have shape (D, I) = ({width}, {drive.shape[-1]}), got {tuple(weight.shape)}")
    if weight.dtype != drive.dtype:
        raise TypeError(f"weight must have the dtype of drive, {drive.dtype}, got {weight.dtype}")
    return weight.dtype


def check_options(
    drive: Tensor,
    sign: Tensor,
    lengths: Tensor | None,
    readout: tuple[Tensor, Tensor | None] | None,
    activation: str,
    act_bias: Tensor | None,
    row_axis: int,
) -> None:
    """Raise on options the scan does not take, beside its arrays."""
    rows, width = drive.shape[row_axis], sign.shape[0]
    if lengths is not None:
        if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"lengths must be an int64 or int32 tensor, got {describe(lengths)}")
        if lengths.dim() != 1 or lengths.shape[0] != rows:
            raise ValueError(f"lengths must have shape (B,) = ({rows},), got {tuple(lengths.shape)}")
        require_device("lengths", lengths, drive)
    check_activation(activation, act_bias, width, drive)
    if readout is not None:
        if not isinstance(readout, tuple) or len(readout) != 2:
            raise TypeError(f"readout must be a tuple (readout_weight, readout_bias or None), got {describe(readout)}")
        check_readout(*readout, width, drive)


def check_activation(activation: str, act_bias: Tensor | None, width: int, like: Tensor) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if (act_bias is not None) != (activation == "modrelu"):
        needs = "needs act_bias (D,)" if act_bias is None else "takes no act_bias, which belongs to modrelu"
        raise ValueError(f"activation {activation!r} {needs}")
    if act_bias is not None:
        require_vector("act_bias", act_bias, width, like)


def check_readout(weight: Tensor, bias: Tensor | None, width: int, like: Tensor) -> None:
    require_floats("readout_weight", weight)
    if weight.dim() != 2 or weight.shape[1] != width or weight.shape[0] < 1:
        raise ValueError(f"readout_weight must have shape (O, D) = (O, {width}), got {tuple(weight.shape)}")
    if weight.shape[0] > MOST_OUTPUTS:
        raise ValueError(
            f"readout_weight must have at most {MOST_OUTPUTS} outputs, got {weight.shape[0]}; "
            "leave readout out and apply torch.nn.functional.linear to relu of the states"
        )
    require_device("readout_weight", weight, like)
    if bias is not None:
        require_vector("readout_bias", bias, weight.shape[0], like)


def check_plan(
    plan: str, weight: Tensor | None, h0: Tensor | None, last_only: bool, lengths: Tensor | None, activation: str
) -> None:
    """Raise unless ``plan`` can evaluate the call."""
    if plan == "scan":
        return
    if plan not in ("basis", "chunked"):
        raise ValueError(f'plan must be "scan", "basis" or "chunked", got {plan!r}')
    if activation != "identity":
        raise ValueError(f'plan="{plan}" needs a linear recurrence, got activation {activation!r}: set plan="scan"')
    if lengths is not None:
        raise ValueError(f'plan="{plan}" takes rows of equal length: leave lengths out, or set plan="scan"')
    if plan == "chunked":
        return
    if not last_only:
        raise ValueError('plan="basis" sums up the last state alone: set last_only=True, or plan="scan"')
    if h0 is not None:
        raise ValueError('plan="basis" starts from zeros: leave h0 out, or set plan="scan"')
    if weight is None:
        raise ValueError('plan="basis" needs weight, whose columns the basis grows from: give it, or set plan="scan"')
