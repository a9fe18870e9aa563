"""``plan="chunked"``: long sequences in few rows, cut into chunks that run side by side.

    h at the end of a chunk = W^L (h before it) + (what L steps make of zero)

The recurrence is linear and does not change with time, so a chunk may start from zero: a first pass over all chunks,
as rows of one scan, gives the second term; W^L, a dense matrix by repeated squaring in float64, joins them; a second
pass starts every chunk from its true state and writes the output. With last_only there is no second pass.

Cost: two scans over rows C times as many, and log2(L) products of D x D matrices, remembered while the signs stand
still: for hardware that one row leaves mostly idle (B small, T in the ten thousands). On two cores, at T = 100,000 and
D = 128, the last state of one input takes a quarter of the time of the plain scan on one; a read-out of all states,
which needs both passes, two thirds; all states no less.
Determinism: the joining products are torch's, so bits may differ from the plain scan's and between thread counts.
Differentiable through every part.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from .. import hadamard_transform as transform
from .._remembered import Remembered

FEWEST_STEPS = 256
"""Of a chunk: shorter ones cost more to join than they save."""

MOST_BASIS_INPUTS = 16
"""Up to here the first pass is a product with the basis that all chunks share."""

CHUNKS = range(32, 15, -1)
"""Numbers of chunks, best first: enough for two rows a tile; the first that divides T is taken."""


JOIN_STEPS = 32
"""On a GPU, about half the steps that a join takes the time of: C joins and 2 · T / C steps are fewest then."""


def chunks_of(steps: int, gpu: bool = False) -> int:
    """How many chunks T steps are cut into: a function of T and the kind of device; 1 where they are too few."""
    if steps < FEWEST_STEPS * (CHUNKS[-1] if not gpu else 8):
        return 1
    if gpu:
        return isqrt(steps // JOIN_STEPS)
    return next((count for count in CHUNKS if steps % count == 0), CHUNKS[0])


def chunked(
    scan: Callable[..., tuple[Tensor, Tensor]],
    drive: Tensor,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    *,
    weight: Tensor | None,
    block_size: int,
    readout: tuple[Tensor, Tensor | None] | None,
    last_only: bool,
    reverse: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """``(output, last)`` of ``scan``, the public function with its plan "scan", but for rounding."""
    options: dict[str, Any] = {"weight": weight, "block_size": block_size, "reverse": reverse, "batch_first": True}
    rows_first = drive if batch_first else drive.transpose(0, 1)
    count = chunks_of(rows_first.shape[1], drive.is_cuda)
    length, rest = divmod(rows_first.shape[1], count)
    # The steps that fill no chunk come last, in processing order.
    sizes = [rest, count * length]
    head, tail = rows_first.split(sizes if reverse else sizes[::-1], dim=1)
    body, remainder = (tail, head) if reverse else (head, tail)
    cut = body.reshape(-1, length, *body.shape[2:])
    few = weight is not None and weight.shape[1 if drive.is_floating_point() else 0] <= MOST_BASIS_INPUTS
    few = few and not drive.is_cuda  # where rows are many, the scan takes no longer for more
    _, ends = scan(cut, sign, bias, last_only=True, plan="basis" if few else "scan", **options)
    order = range(count - 1, -1, -1) if reverse else range(count)
    before, after = _join(ends.unflatten(0, (-1, count)), _powers.get(sign, block_size, length), h0, order)
    if last_only:
        return scan(remainder, sign, bias, after, readout=readout, last_only=True, **options)
    output, states = scan(cut, sign, bias, before.flatten(0, 1), readout=readout, **options)
    output, after = output.reshape(-1, count * length, output.shape[2]), states.unflatten(0, (-1, count))[:, order[-1]]
    if rest:
        others, after = scan(remainder, sign, bias, after, readout=readout, **options)
        output = torch.cat([others, output] if reverse else [output, others], 1)
    return output if batch_first else output.transpose(0, 1), after


def _power(sign: Tensor, block_size: int, exponent: int) -> Tensor:
    """W^exponent, dense, in float64."""
    eye = torch.eye(sign.shape[0], dtype=torch.float64, device=sign.device)
    base = sign.double()[:, None] * transform.reference(eye, block_size=block_size)
    power = base if exponent & 1 else eye
    while exponent := exponent >> 1:
        base = base @ base
        power = power @ base if exponent & 1 else power
    return power


_powers = Remembered(_power)


def _join(ends: Tensor, power: Tensor, h0: Tensor | None, order: range) -> tuple[Tensor, Tensor]:
    """The state (B, C, D) before each chunk and (B, D) after the last, of what the chunks make of zero."""
    state = torch.zeros_like(ends[:, 0], dtype=torch.float64) if h0 is None else h0.double()
    before = [state] * len(order)
    wide = ends.double()
    for chunk in order:
        before[chunk] = state
        state = torch.addmm(wide[:, chunk], state, power.T)
    return torch.stack(before, 1).to(ends.dtype), state.to(ends.dtype)
