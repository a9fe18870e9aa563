"""The read-out y_t = V max(h_t, 0) + b_o of a segment of steps, and its way back, as tensor-core products.

A program keeps the states of EVERY steps of its row in ``hidden`` (B, EVERY, D), float32, and multiplies them when the
segment is done. A state passes through shared memory once, and so does V for every 16 of them: 16 bytes of exchange an
element for up to 16 outputs, 24 for 32. A reduction an output and step would take 5 shuffles a thread, 20 · O bytes for
its 8 states (22 an element for 9 outputs, 80 for 32), and registers for V that 32 outputs exceed. The array is written
over and over, so it stays in the second-level cache, and the time axis of states reaches no memory.

Whoever reads what other threads of the program wrote waits at a barrier first. Where a row has several programs each
multiplies its own columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from ._blocks import product
from ._drive import CHECKPOINT_EVERY, Plan
from ._recurrence import relu

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
def read_out(hidden, count, readout, readout_bias, out, out_step, part, D, outputs, COLUMNS: tl.constexpr,
             OUTPUTS: tl.constexpr, CHUNK: tl.constexpr):  # fmt: skip
    """Outputs of ``count`` states; ``hidden`` and ``out`` stand at the first. Part 0 of a row adds the bias."""
    o = tl.arange(0, OUTPUTS)
    for start in tl.range(0, count, STEPS, num_stages=1):
        i = start + tl.arange(0, STEPS)
        y = tl.zeros([STEPS, OUTPUTS], tl.float32)
        for c in tl.range(0, COLUMNS, CHUNK, num_stages=1):
            d = c + tl.arange(0, CHUNK)
            inside = (i < count)[:, None] & _within(d, COLUMNS, CHUNK)[None, :]
            h = tl.load(hidden + i[:, None] * D + d[None, :], mask=inside, other=0.0)  # (STEPS, CHUNK) of (B, EVERY, D)
            y = product(relu(h), _weights(readout, o[None, :], d[:, None], D, part, COLUMNS, CHUNK), y)
        if readout_bias is not None:
            shift = tl.load(readout_bias + o, mask=(o < outputs) & (part == 0), other=0.0)  # (OUTPUTS,) of (O,)
            y += shift.to(tl.float32)[None, :]
        rows = out + tl.cast(i, tl.int64)[:, None] * out_step + o[None, :]
        tl.store(rows, y.to(out.dtype.element_ty), mask=(i < count)[:, None] & (o < outputs)[None, :])  # of (T, B, O)


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


def padded(weight: Tensor) -> Tensor:
    """V in float32 with as many outputs as a product has, which are 16 or 32: (OUTPUTS, D)."""
    return pad(weight.float(), (0, 0, 0, (16 if len(weight) <= 16 else 32) - len(weight)))


class ReadOut(NamedTuple):
    """A read-out and where it goes."""

    weight: Tensor
    """(OUTPUTS, D)"""
    bias: Tensor | None
    outputs: Tensor
    """(parts, T, B, O): the output, or parts of it to be added, in float32; T is 1 for the last state only"""
    output: Tensor
    """(T, B, O)"""
    last_only: bool

    @staticmethod
    def into(output: Tensor, weight: Tensor, bias: Tensor | None, parts: int, last_only: bool) -> ReadOut:
        outputs = output[None] if parts == 1 else output.new_empty((parts, *output.shape), dtype=torch.float32)
        return ReadOut(padded(weight), bias if bias is None else bias.contiguous(), outputs, output, last_only)

    def hidden(self, last: Tensor) -> Tensor | None:
        return None if self.last_only else segment(last)

    def add_parts(self) -> None:
        """One after another, so that a row's bits do not depend on the number of rows."""
        if len(self.outputs) > 1:
            self.output.copy_(sum(self.outputs.unbind(0)))


def segment(last: Tensor) -> Tensor:
    """Room for the states of the steps between two checkpoints, (B, EVERY, D) in float32."""
    rows, width = last.shape
    return last.new_empty((rows, CHECKPOINT_EVERY, width))


def tile(weight: Tensor | None, shape: Plan, most: int) -> dict[str, int]:
    """Outputs and columns (``most`` of them) of a product with the padded V that fits the registers of its warps."""
    if weight is None:
        return {"OUTPUTS": 0, "CHUNK": 0}
    return {"OUTPUTS": len(weight), "CHUNK": min(max(8 * shape.warps, 16), most)}
