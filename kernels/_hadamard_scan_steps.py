"""The scan and its adjoint as one transform a step, for blocks whose state does not fit the registers of a program.

Arguments and results are those of the launches they stand in for. A state has 8192 numbers or more here, so a step
is no longer a matter of latency.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._drive import CHECKPOINT_EVERY, Drive, Piece
from ._recurrence import MODRELU, RELU, Recurrence
from .hadamard_transform import hadamard_transform

ABOVE = 1 << 12


def scan(
    piece: Piece,
    source: Drive,
    r: Recurrence,
    h0: Tensor | None,
    states: Tensor | None,
    in_order: bool,
    last: Tensor,
    checkpoints: Tensor | None,
) -> None:
    h = last.new_zeros(last.shape) if h0 is None else h0
    for k in range(piece.first, piece.first + piece.steps):
        at, after = k - piece.first if in_order else _time(r, k, last), _step(piece, source, r, h, k)
        inside = _taken(r, k, last)
        h, shown = torch.where(inside, after, h), torch.where(inside, after, 0.0)
        if states is not None:
            states[at] = shown.to(states.dtype)
        if checkpoints is not None and (k + 1) % CHECKPOINT_EVERY == 0 and k // CHECKPOINT_EVERY < len(checkpoints):
            checkpoints[k // CHECKPOINT_EVERY] = torch.where(_taken(r, k + 1, last), h, 0.0)
    last.copy_(h)


def adjoint(
    piece: Piece,
    source: Drive,
    r: Recurrence,
    incoming: Any,
    known: Any,
    out: Tensor | None,
    carried: Any,
) -> None:
    back, h, s = carried.back, carried.h, r.sign.float()
    end, segment = piece.first + piece.steps, []
    for k in reversed(range(piece.first, end)):
        at, inside = _time(r, k, back), _taken(r, k, back)
        if known.states is not None:
            h = known.states[at]
        elif known.starts is not None:
            segment = segment or _segment(piece, source, r, known.starts, k)
            h = segment.pop()
        grad = back
        if incoming.readout:
            place = incoming.states[k - piece.first]
            grad = back + torch.where(h > 0, place, 0.0)
            place.copy_(h)
        elif incoming.states is not None:
            grad = back + incoming.states[at]
        grad = torch.where(inside & (h != 0) if r.activation else inside, grad, 0.0)
        if out is not None:
            out[at if piece.by_time else k - piece.first] = grad.to(out.dtype)
        carried.bias_sum.add_(grad)
        if carried.sign_sum is not None:
            a = h
            if r.act_bias is not None:
                carried.act_sum.add_(grad * h.sign())
                a = h - h.sign() * r.act_bias.float()
            before = s * (a - _drive(piece, source, r, k))
            carried.sign_sum.add_(grad * before)
            if known.checkpoints is not None:
                h = torch.where(inside, _before(known.checkpoints, k, before, r), h)
        back = torch.where(inside, hadamard_transform(grad, r.block_size, None, s, None, False), back)
    carried.back.copy_(back)
    carried.h.copy_(h)


def _time(r: Recurrence, k: int, like: Tensor) -> Any:
    """Where step ``k`` of every row lies in an array (T, B, ...); its time again where a row has ended."""
    if not r.reverse:
        return k
    if r.lengths is None:
        return r.steps - 1 - k
    times = torch.where(k < r.lengths, r.lengths - 1 - k, k)
    return times, torch.arange(len(like), device=like.device)


def _taken(r: Recurrence, k: int, like: Tensor) -> Tensor:
    """(B, 1): rows that take step ``k``."""
    if r.lengths is None:
        return like.new_ones((len(like), 1), dtype=torch.bool)
    return (k < r.lengths)[:, None]


def _step(piece: Piece, source: Drive, r: Recurrence, h: Tensor, k: int) -> Tensor:
    a = hadamard_transform(h, r.block_size, None, None, r.sign.float(), False) + _drive(piece, source, r, k)
    if r.activation == RELU.value:
        return a.relu()
    if r.activation == MODRELU.value and r.act_bias is not None:
        return a.sign() * (a.abs() + r.act_bias.float()).relu()
    return a


def _drive(piece: Piece, source: Drive, r: Recurrence, k: int) -> Tensor:
    """z + b of step ``k``, (B, D) float32."""
    at = _time(r, k, source.rows[0]) if piece.by_time else k
    z = source.at(at)
    return z if r.bias is None else z + r.bias.float()


def _segment(piece: Piece, source: Drive, r: Recurrence, starts: Tensor, k: int) -> list[Tensor]:
    """The states from the checkpoint before step ``k`` up to it, computed again."""
    first = k // CHECKPOINT_EVERY * CHECKPOINT_EVERY
    h, found = starts[k // CHECKPOINT_EVERY], []
    for step in range(first, k + 1):
        h = _step(piece, source, r, h, step)
        found.append(h)
    return found


def _before(checkpoints: Tensor, k: int, before: Tensor, r: Recurrence) -> Tensor:
    """h of step ``k`` - 1."""
    interval, rest = divmod(k, CHECKPOINT_EVERY)
    if rest == 0 and 0 < interval <= len(checkpoints):
        return checkpoints[interval - 1]
    return hadamard_transform(before, r.block_size, None, None, None, False)
