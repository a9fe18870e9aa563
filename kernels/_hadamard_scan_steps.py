"""The scan and its adjoint as one transform a step, for blocks whose state does not fit the registers of a program.

Arguments and results are those of the launches they stand in for. A state has 8192 numbers or more here, so a step
is no longer a matter of latency.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ._drive import CHECKPOINT_EVERY, Drive, Piece
from .hadamard_transform import hadamard_transform

ABOVE = 1 << 12


def scan(
    piece: Piece,
    source: Drive,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    states: Tensor | None,
    last: Tensor,
    checkpoints: Tensor | None,
    block_size: int,
    reverse: bool,
) -> None:
    h = last.new_zeros(last.shape) if h0 is None else h0
    for i in range(piece.steps):
        t = piece.steps - 1 - i if reverse else i
        h = hadamard_transform(h, block_size, None, None, sign.float()) + _drive(piece, source, bias, t)
        if states is not None:
            states[t] = h
        if checkpoints is not None and (i + 1) % CHECKPOINT_EVERY == 0 and i // CHECKPOINT_EVERY < len(checkpoints):
            checkpoints[i // CHECKPOINT_EVERY] = h
    last.copy_(h)


def adjoint(
    piece: Piece,
    source: Drive,
    sign: Tensor,
    bias: Tensor | None,
    grad_states: Tensor | None,
    states: Tensor | None,
    checkpoints: Tensor,
    out: Tensor | None,
    carried: Any,
    block_size: int,
    reverse: bool,
) -> None:
    back, h, s = carried.back, carried.h, sign.float()
    for i in reversed(range(piece.steps)):
        t = piece.steps - 1 - i if reverse else i
        grad = back if grad_states is None else back + grad_states[t]
        if out is not None:
            out[t] = grad
        carried.bias_sum.add_(grad)
        if carried.sign_sum is not None:
            before = s * ((h if states is None else states[t]) - _drive(piece, source, bias, t))
            carried.sign_sum.add_(grad * before)
            interval, rest = divmod(piece.first + i, CHECKPOINT_EVERY)
            kept = rest == 0 and 0 < interval <= len(checkpoints)
            h = checkpoints[interval - 1] if kept else hadamard_transform(before, block_size, None, None, None)
        back = hadamard_transform(grad, block_size, None, s, None)
    carried.back.copy_(back)
    carried.h.copy_(h)


def _drive(piece: Piece, source: Drive, bias: Tensor | None, t: int) -> Tensor:
    """z_t + b, (B, D) float32."""
    z = source.at(piece.times.start + t)
    return z if bias is None else z + bias.float()
