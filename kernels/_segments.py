"""h_{j+1} = W h_j without a drive, cut into segments of L steps that run side by side, forward and back.

    power   W^L, one (block, block) matrix for each block of the width: a scan of L steps from the unit vectors
    starts  h_{aL} = W^L h_{(a-1)L}, one link after another; the adjoint goes back over the links likewise
    states  all segments are rows of one scan, whose time does not depend on their number

A link is a small product in float32, whose time is its launch's. With C segments of T steps that makes C links and
2 · T / C steps of latency instead of T.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from .hadamard_scan import hadamard_scan_backward, run_free

ELEMENTS = 1 << 22
"""Of the states that exist at once."""
FEWEST_STEPS = 192
"""Of a sequence: shorter ones cost more to cut than they save."""
LINK_STEPS = 8
"""Half the steps that one link takes the time of: links and steps are fewest together then."""
LARGEST_POWER = 1 << 20
"""Elements: where a power has more, its scan is no longer a matter of latency."""
COLUMNS = 8
"""Of a link's program, which has the whole depth."""


@triton.jit
def _link(source, power, local, target, source_row, local_row, target_row, along, across, D, BLOCK: tl.constexpr,
          COLUMNS: tl.constexpr):  # fmt: skip
    """target = source · (W^L)ᵀ, or with the steps of ``power`` exchanged local + source · W^L: COLUMNS of a row."""
    parts = D // COLUMNS
    row = (tl.program_id(0) // parts).to(tl.int64)
    first = (tl.program_id(0) % parts) * COLUMNS
    start = first // BLOCK * BLOCK
    k = tl.arange(0, BLOCK)
    n = first - start + tl.arange(0, COLUMNS)
    x = tl.load(source + row * source_row + start + k)  # (BLOCK,) of (rows, D)
    matrix = tl.load(power + start + k[:, None] * along + n[None, :] * across)  # (BLOCK, COLUMNS) of (BLOCK, D)
    y = tl.sum(x[:, None] * matrix, 0)
    if local is not None:
        y += tl.load(local + row * local_row + start + n)  # (COLUMNS,) of (rows, D)
    tl.store(target + row * target_row + start + n, y)  # (COLUMNS,) of (rows, D)


def cut(steps: int, rows: int, width: int) -> tuple[int, int]:
    """(steps of a segment, segments of a block of states), of shapes alone."""
    row = max(rows * width, 1)
    length = steps if steps < FEWEST_STEPS else triton.cdiv(steps, isqrt(steps // LINK_STEPS))
    length = max(min(length, ELEMENTS // row), 1)
    return length, max(ELEMENTS // (length * row), 1)


class Segments(NamedTuple):
    sign: Tensor
    block_size: int
    length: int
    """Steps of a segment, L"""
    at_once: int
    """Segments of a block of states"""
    power: Tensor | None
    """(block, D): row k is W^L of the k-th unit vector of every block. None: segments follow one another."""

    @staticmethod
    def of(sign: Tensor, block_size: int, steps: int, rows: int) -> Segments:
        width = sign.shape[0]
        length, at_once = cut(steps, rows, width)
        if steps < FEWEST_STEPS or at_once == 1 or block_size * width > LARGEST_POWER:
            return Segments(sign, block_size, length * at_once, 1, None)
        units = torch.eye(block_size, device=sign.device).repeat(1, width // block_size)
        return Segments(sign, block_size, length, at_once, run_free(units, sign, block_size, length))

    def blocks(self, start: Tensor, steps: int) -> Iterator[tuple[int, Tensor]]:
        """(first step, states (rows, steps, D)) of each block, from ``start`` (rows, D) on, which is the first."""
        if self.power is None:
            for first in range(0, steps, self.length):
                states = self.states(start[:, None], min(self.length, steps - first))
                yield first, states
                if first + self.length < steps:
                    start = run_free(states[:, -1].contiguous(), self.sign, self.block_size, 1)
            return
        starts = self.starts(start, steps)
        for a in range(0, starts.shape[1], self.at_once):
            first = a * self.length
            yield first, self.states(starts[:, a : a + self.at_once], self.length)[:, : steps - first]

    def starts(self, start: Tensor, steps: int) -> Tensor:
        """Of all segments, (rows, C, D)."""
        found = start.new_empty(len(start), triton.cdiv(steps, self.length), start.shape[1])
        found[:, 0] = start
        for a in range(1, found.shape[1]):
            self._link(found[:, a - 1], None, found[:, a])
        return found

    def states(self, starts: Tensor, steps: int) -> Tensor:
        """(rows, C · steps, D) of ``steps`` steps from each of some starts (rows, C, D), these themselves first."""
        rows, count, width = starts.shape
        found = starts.new_empty(rows, count, steps, width)
        found[:, :, 0] = starts
        if steps > 1:
            by_step = found.view(-1, steps, width).transpose(0, 1)
            run_free(starts.contiguous().view(-1, width), self.sign, self.block_size, steps - 1, by_step[1:])
        return found.view(rows, -1, width)

    def back(self, grads: Tensor, states: Tensor | None, carry: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(Wᵀ times the adjoint of the first of the states, gradient of sign) of ``count`` segments.

        grads: of the states (rows, count · L, D). states: the same; None: sign has no gradient. carry: (rows, D), what
        comes back into the last of them.
        """
        incoming = carry[:, None]
        if count > 1:
            local = self._adjoint(grads, None, None, count)[0].view(len(carry), count, -1)
            incoming = torch.empty_like(local)
            incoming[:, -1] = carry
            for a in range(count - 1, 0, -1):
                self._link(incoming[:, a], local[:, a], incoming[:, a - 1])
            carry = torch.empty_like(carry)
            self._link(incoming[:, 0], local[:, 0], carry)
            if states is None:
                return carry, carry.new_empty(0)
        before, of_sign = self._adjoint(grads, states, incoming, count)
        return before if count == 1 else carry, of_sign

    def _adjoint(
        self, grads: Tensor, states: Tensor | None, incoming: Tensor | None, count: int
    ) -> tuple[Tensor, Tensor]:
        """As ``back``, of every segment for itself: (rows · count, D) and (D,)."""
        rows, width = len(grads) * count, grads.shape[2]
        grads, states = (x if x is None else x.view(rows, -1, width).transpose(0, 1) for x in (grads, states))
        last = grads.new_zeros(rows, width)
        _, _, of_sign, _, before, *_ = hadamard_scan_backward(
            grads, None if incoming is None else incoming.reshape(rows, width),
            grads.new_zeros(width).expand(grads.shape), None, self.sign.float(), None, None, None, None, None, states,
            last, last.new_empty(0, rows, width), self.block_size, 0, False, False, False, False, False,
            states is not None,
        )  # fmt: skip
        return before, of_sign

    def _link(self, source: Tensor, local: Tensor | None, target: Tensor) -> None:
        """Forward without ``local``, else back."""
        assert self.power is not None
        block, width = self.power.shape
        columns = min(COLUMNS, block)
        along, across = (width, 1) if local is None else (1, width)
        blocks.launch(
            _link, len(source) * (width // columns),
            source, self.power, local, target, source.stride(0), 0 if local is None else local.stride(0),
            target.stride(0), along, across, width,
            BLOCK=block, COLUMNS=columns, warps=4,
        )  # fmt: skip
