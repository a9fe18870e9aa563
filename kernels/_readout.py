"""The read-out y_t = V max(h_t, 0) + b_o of a segment of steps, and its way back, as tensor-core products.

A scan waits for its own steps: it keeps few of a multiprocessor's warps, and products between its steps would lengthen
them. So scans only exchange the states, or what comes back into them, with an array of some hundred steps, and kernels
of the whole machine multiply between two launches of the scan. The array, (steps, B, D) in float32 and in the order of
processing, is written over and over: it stays in the second-level cache, and the time axis of states reaches no memory.

Cost of an element on sm_90, for up to 16 outputs: 4 bytes written and 4 read forward, twice that backward; 13
instructions of a thread for y, 23 for dy V and 29 for dV.

Tensor cores cut off what they add to a sum, so every tile of a sum starts at zero and is added outside of them. Tiles
and their order are the same for every batch, and so are a row's bits; dV is added up in an order that the shape fixes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from . import _blocks as blocks
from ._blocks import product
from ._drive import CHECKPOINT_EVERY, Piece, steps_of
from ._recurrence import Recurrence, relu, sequence

SEGMENT_BYTES = 32 << 20
"""Of the states of a segment: they fit the cache of a large chip."""
LONGEST_SEGMENT = 512
"""Steps: more would hide no more of the launches between."""

OUT, BACK, SPLIT = (128, 32), (64, 64), (32, 128)
"""States and columns of a tile: of y, of dy V, and of a sum for dV."""
WARPS = 4
SPLIT_PROGRAMS = 256
"""Among which the sums for dV are split: two for each multiprocessor of a large chip."""


@triton.jit
def _taken(m, lengths, total, first, steps, rows, REVERSE: tl.constexpr):
    """Of states ``m`` of a segment (steps, rows): (row, time, exists, is a step of its row's)."""
    k = m // rows
    b = m - k * rows
    exists = k < steps
    k += first
    n = total if lengths is None else tl.load(lengths + b, mask=exists, other=0)  # (m,) of (B,)
    taken = exists & (k < n)
    t = tl.where(taken, n - 1 - k, k) if REVERSE else k
    return b.to(tl.int64), t.to(tl.int64), exists, taken


@triton.jit
def _states(segment, m, d, D, inside):
    """max(h, 0) of states ``m`` and columns ``d``, both already spread out."""
    return relu(tl.load(segment + m.to(tl.int64) * D + d, mask=inside, other=0.0))  # (m, d) of (steps, B, D)


@triton.jit
def _weights(readout, o, d, D):
    """V of outputs ``o`` and columns ``d``, both already spread out."""
    return tl.load(readout + o * D + d, mask=d < D, other=0.0)  # (o, d) of (OUTPUTS, D)


@triton.jit
def _read_out(segment, readout, readout_bias, y, lengths, total, first, steps, rows, D, outputs, REVERSE: tl.constexpr,
              OUTPUTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Outputs of ROWS states; zeros where a row takes no step."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o = tl.arange(0, OUTPUTS)
    b, t, exists, taken = _taken(m, lengths, total, first, steps, rows, REVERSE)
    sums = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for c in tl.range(0, D, COLUMNS):
        d = c + tl.arange(0, COLUMNS)
        h = _states(segment, m[:, None], d[None, :], D, taken[:, None] & (d < D)[None, :])
        v = _weights(readout, o[:, None], d[None, :], D)
        sums += product(h, tl.trans(v), tl.zeros([ROWS, OUTPUTS], tl.float32))
    if readout_bias is not None:
        sums += tl.load(readout_bias + o, mask=o < outputs, other=0.0).to(tl.float32)[None, :]  # (OUTPUTS,) of (O,)
    to = y.data + (t * y.step + b * y.row)[:, None] + o[None, :]
    sums = tl.where(taken[:, None], sums, 0.0).to(y.data.dtype.element_ty)
    tl.store(to, sums, mask=exists[:, None] & (o < outputs)[None, :])  # (ROWS, OUTPUTS) of (T, B, O)


@triton.jit
def _grads(grad, b, t, o, taken, outputs):
    """dy of rows ``b`` at times ``t`` and outputs ``o``, all already spread out; 0 where a row takes no step."""
    at = grad.data + t * grad.step + b * grad.row + o
    return tl.load(at, mask=taken & (o < outputs), other=0.0).to(tl.float32)  # (b and t, o) of (T, B, O)


@triton.jit
def _read_back(segment, readout, grad, lengths, total, first, steps, rows, D, outputs, REVERSE: tl.constexpr,
               OUTPUTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """dy V of ROWS states and COLUMNS columns, into their places."""
    parts = tl.cdiv(D, COLUMNS)
    m = (tl.program_id(0) // parts) * ROWS + tl.arange(0, ROWS)
    d = ((tl.program_id(0) % parts) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    o = tl.arange(0, OUTPUTS)
    b, t, _, taken = _taken(m, lengths, total, first, steps, rows, REVERSE)
    dy = _grads(grad, b[:, None], t[:, None], o[None, :], taken[:, None], outputs)
    g = product(dy, _weights(readout, o[:, None], d, D), tl.zeros([ROWS, COLUMNS], tl.float32))
    to = segment + m.to(tl.int64)[:, None] * D + d
    tl.store(to, g, mask=taken[:, None] & (d < D))  # (ROWS, COLUMNS) of (steps, B, D)


@triton.jit
def _add_outer(sums, segment, grad, lengths, total, first, steps, rows, D, outputs, splits, REVERSE: tl.constexpr,
               OUTPUTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Adds Σ dy max(h, 0)ᵀ to dV: a split takes every ``splits``-th tile of ROWS states."""
    parts = tl.cdiv(D, COLUMNS)
    split = tl.program_id(0) // parts
    d = ((tl.program_id(0) % parts) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    o = tl.arange(0, OUTPUTS)[:, None]
    at = sums + (split.to(tl.int64) * OUTPUTS + o) * D + d
    own = tl.load(at, mask=d < D, other=0.0)  # (OUTPUTS, COLUMNS) of (splits, OUTPUTS, D)
    for start in tl.range(split * ROWS, steps * rows, splits * ROWS):
        m = start + tl.arange(0, ROWS)
        b, t, _, taken = _taken(m, lengths, total, first, steps, rows, REVERSE)
        dy = _grads(grad, b[None, :], t[None, :], o, taken[None, :], outputs)
        h = _states(segment, m[:, None], d, D, taken[:, None] & (d < D))
        own += product(dy, h, tl.zeros([OUTPUTS, COLUMNS], tl.float32))
    tl.store(at, own, mask=d < D)


def segment(last: Tensor, steps: int) -> Tensor:
    """Room for the states of some of ``steps`` steps, (R, B, D) in float32; R is a multiple of CHECKPOINT_EVERY."""
    some = min(steps_of(SEGMENT_BYTES, *last.shape), LONGEST_SEGMENT, -(-steps // CHECKPOINT_EVERY) * CHECKPOINT_EVERY)
    return last.new_empty((max(some, CHECKPOINT_EVERY), *last.shape))


def read_out(
    states: Tensor, weight: Tensor, bias: Tensor | None, output: Tensor, r: Recurrence, first: int, steps: int
) -> None:
    """Of ``steps`` states, in the order of processing from step ``first`` on, into ``output`` (T, B, O).

    weight: padded.
    """
    rows, width = states.shape[1:]
    blocks.launch(
        _read_out, triton.cdiv(steps * rows, OUT[0]),
        states, weight, bias if bias is None else bias.contiguous(), sequence(output), r.lengths, r.steps, first, steps,
        rows, width, output.shape[2],
        **tile(r, weight, *OUT), **blocks.all_registers(WARPS),
    )  # fmt: skip


def padded(weight: Tensor) -> Tensor:
    """V in float32 with as many outputs as a product has, which are 16 or 32: (OUTPUTS, D)."""
    return pad(weight.float(), (0, 0, 0, (16 if len(weight) <= 16 else 32) - len(weight)))


def tile(r: Recurrence, weight: Tensor, rows: int, columns: int) -> dict[str, Any]:
    """What the kernels are compiled for; ``weight``: padded."""
    return {"REVERSE": r.reverse, "OUTPUTS": len(weight), "ROWS": rows, "COLUMNS": columns, "warps": WARPS}


class ReadBack(NamedTuple):
    """The way back through a read-out, a segment at a time."""

    grad: Tensor
    """dy, (T, B, O)"""
    weight: Tensor
    """V, padded"""
    segment: Tensor
    """(R, B, D): dy V before the adjoint of these steps, which leaves their states in its place"""
    sums: Tensor
    """(splits, OUTPUTS, D): parts of dV"""

    @staticmethod
    def of(grad: Tensor, weight: Tensor, last: Tensor) -> ReadBack:
        v, states = padded(weight), segment(last, len(grad))
        tiles = triton.cdiv(len(states) * len(last), SPLIT[0])
        splits = max(min(SPLIT_PROGRAMS // triton.cdiv(last.shape[1], SPLIT[1]), tiles), 1)
        return ReadBack(grad, v, states, v.new_zeros((splits, *v.shape)))

    def fill(self, r: Recurrence, piece: Piece) -> None:
        rows, width = self.segment.shape[1:]
        programs = triton.cdiv(piece.steps * rows, BACK[0]) * triton.cdiv(width, BACK[1])
        blocks.launch(
            _read_back, programs, self.segment, self.weight, *self._steps(r, piece),
            **tile(r, self.weight, *BACK), **blocks.all_registers(WARPS),
        )  # fmt: skip

    def add(self, r: Recurrence, piece: Piece) -> None:
        splits, _, width = self.sums.shape
        blocks.launch(
            _add_outer, splits * triton.cdiv(width, SPLIT[1]), self.sums, self.segment, *self._steps(r, piece), splits,
            **tile(r, self.weight, *SPLIT),
        )  # fmt: skip

    def _steps(self, r: Recurrence, piece: Piece) -> tuple[Any, ...]:
        rows, width = self.segment.shape[1:]
        return sequence(self.grad), r.lengths, r.steps, piece.first, piece.steps, rows, width, self.grad.shape[2]
