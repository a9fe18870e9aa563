"""The read-out y_t = V max(h_t, 0) + b_o of a segment of steps, and its way back, as tensor-core products.

A scan waits for its own steps: it keeps few of a multiprocessor's warps, and products between its steps would lengthen
them. So scans only exchange the states, or what comes back into them, with an array of some hundred steps, and kernels
of the whole machine multiply between two launches of the scan. The array, (steps, B, D) in float32 and in the order of
processing, is written over and over: it stays in the second-level cache, and the time axis of states reaches no memory.

Tensor cores cut off what they add to a sum, so every tile of a sum starts at zero and is added outside of them. Tiles
and their order are the same for every batch, and so are a row's bits; dV is added up in an order that the shape fixes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from . import _blocks as blocks
from ._blocks import product
from ._drive import CHECKPOINT_EVERY, Plan, steps_of
from ._recurrence import Recurrence, relu, sequence

SEGMENT_BYTES = 32 << 20
"""Of the states of a segment: they fit the cache of a large chip."""
LONGEST_SEGMENT = 512
"""Steps: more would hide no more of the launches between."""

STATES, COLUMNS = 128, 32
"""Of a tile that is read out."""


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
        v = tl.load(readout + o[:, None] * D + d[None, :], mask=(d < D)[None, :], other=0.0)  # of (OUTPUTS, D)
        sums += product(h, tl.trans(v), tl.zeros([ROWS, OUTPUTS], tl.float32))
    if readout_bias is not None:
        sums += tl.load(readout_bias + o, mask=o < outputs, other=0.0).to(tl.float32)[None, :]  # (OUTPUTS,) of (O,)
    to = y.data + (t * y.step + b * y.row)[:, None] + o[None, :]
    sums = tl.where(taken[:, None], sums, 0.0).to(y.data.dtype.element_ty)
    tl.store(to, sums, mask=exists[:, None] & (o < outputs)[None, :])  # (ROWS, OUTPUTS) of (T, B, O)


def segment(last: Tensor, steps: int) -> Tensor:
    """Room for the states of some of ``steps`` steps, (R, B, D) in float32; R is a multiple of CHECKPOINT_EVERY."""
    some = min(steps_of(SEGMENT_BYTES, *last.shape), LONGEST_SEGMENT, -(-steps // CHECKPOINT_EVERY) * CHECKPOINT_EVERY)
    return last.new_empty((max(some, CHECKPOINT_EVERY), *last.shape))


def read_out(
    states: Tensor, weight: Tensor, bias: Tensor | None, output: Tensor, r: Recurrence, first: int, steps: int
) -> None:
    """Of ``steps`` states, in the order of processing from step ``first`` on, into ``output`` (T, B, O)."""
    rows, width = states.shape[1:]
    v = padded(weight)
    blocks.launch(
        _read_out, triton.cdiv(steps * rows, STATES),
        states, v, bias if bias is None else bias.contiguous(), sequence(output), r.lengths, r.steps, first, steps,
        rows, width, len(weight),
        REVERSE=r.reverse, OUTPUTS=len(v), ROWS=STATES, COLUMNS=COLUMNS, warps=4,
    )  # fmt: skip


def padded(weight: Tensor) -> Tensor:
    """V in float32 with as many outputs as a product has, which are 16 or 32: (OUTPUTS, D)."""
    return pad(weight.float(), (0, 0, 0, (16 if len(weight) <= 16 else 32) - len(weight)))


STEPS = tl.constexpr(16)
"""Of one product."""


@triton.jit
def _within(d, COLUMNS: tl.constexpr, CHUNK: tl.constexpr):
    """Which of the columns ``d`` the program has: where they come out even, all, and the compiler knows it."""
    return tl.full(d.shape, True, tl.int1) if COLUMNS % CHUNK == 0 else d < COLUMNS


@triton.jit
def _weights(readout, o, d, D, part, COLUMNS: tl.constexpr, CHUNK: tl.constexpr):
    """V of outputs ``o`` and columns ``d`` of the program, both already spread out."""
    inside = _within(o * 0 + d, COLUMNS, CHUNK)
    return tl.load(readout + o * D + part * COLUMNS + d, mask=inside, other=0.0)  # (o, d) of (OUTPUTS, D)


@triton.jit
def _grads(grad, i, o, grad_step, count, outputs):
    """dy of steps ``i`` and outputs ``o``, both already spread out."""
    inside = (i < count) & (o < outputs)
    rows = grad + tl.cast(i, tl.int64) * grad_step
    return tl.load(rows + o, mask=inside, other=0.0).to(tl.float32)  # (i, o) of (T, B, O)


@triton.jit
def read_back(incoming, count, readout, grad, grad_step, part, D, outputs, COLUMNS: tl.constexpr, OUTPUTS: tl.constexpr,
              CHUNK: tl.constexpr):  # fmt: skip
    """dy V of ``count`` steps into ``incoming``, which like ``grad`` stands at the first."""
    o = tl.arange(0, OUTPUTS)
    for start in tl.range(0, count, STEPS, num_stages=1):
        i = start + tl.arange(0, STEPS)
        dy = _grads(grad, i[:, None], o[None, :], grad_step, count, outputs)
        for c in tl.range(0, COLUMNS, CHUNK, num_stages=1):
            d = c + tl.arange(0, CHUNK)
            v = _weights(readout, o[:, None], d[None, :], D, part, COLUMNS, CHUNK)
            g = product(dy, v, tl.zeros([STEPS, CHUNK], tl.float32))
            inside = (i < count)[:, None] & _within(d, COLUMNS, CHUNK)[None, :]
            tl.store(incoming + i[:, None] * D + d[None, :], g, mask=inside)  # (STEPS, CHUNK) of (B, EVERY, D)


@triton.jit
def add_outer(grad_readout, hidden, count, grad, grad_step, part, D, outputs, COLUMNS: tl.constexpr,
              OUTPUTS: tl.constexpr, CHUNK: tl.constexpr):  # fmt: skip
    """Adds Σ dy_t max(h_t, 0)ᵀ over ``count`` steps to dV of the row."""
    o = tl.arange(0, OUTPUTS)[:, None]
    for c in tl.range(0, COLUMNS, CHUNK, num_stages=1):
        d = c + tl.arange(0, CHUNK)[None, :]
        at = grad_readout + o * D + part * COLUMNS + d
        own = _within(o * 0 + d, COLUMNS, CHUNK)
        total = tl.load(at, mask=own, other=0.0)  # (OUTPUTS, CHUNK) of (B, OUTPUTS, D)
        for start in tl.range(0, count, STEPS, num_stages=1):
            i = start + tl.arange(0, STEPS)
            inside = (i < count)[:, None] & _within(d, COLUMNS, CHUNK)
            h = tl.load(hidden + i[:, None] * D + d, mask=inside, other=0.0)  # (STEPS, CHUNK) of (B, EVERY, D)
            total = product(_grads(grad, i[None, :], o, grad_step, count, outputs), relu(h), total)
        tl.store(at, total, mask=own)  # (OUTPUTS, CHUNK) of (B, OUTPUTS, D)


def segment_of_64(last: Tensor) -> Tensor:
    """Room for the states of the steps between two checkpoints, (B, EVERY, D) in float32."""
    rows, width = last.shape
    return last.new_empty((rows, CHECKPOINT_EVERY, width))


def tile(weight: Tensor | None, shape: Plan, most: int) -> dict[str, int]:
    """Outputs and columns (``most`` of them) of a product with the padded V that fits the registers of its warps."""
    if weight is None:
        return {"OUTPUTS": 0, "CHUNK": 0}
    return {"OUTPUTS": len(weight), "CHUNK": min(max(8 * shape.warps, 16), most)}
