"""What the forward and the backward kernel share of the recurrence: where a step lies, its activation, its stretch.

Steps are counted in the order of processing. A row of n steps takes step k at time k, or at n - 1 - k when reversed;
what lies at time n and later is no step, so both orders agree there, and the outputs are zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._blocks import hadamard, scaled_plus
from ._drive import drive_at, held_weights

IDENTITY, RELU, MODRELU = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


class Sequence(NamedTuple):
    """An array (T, B, n) with dense rows, its strides, and where a launch starts in it, counted in steps."""

    data: Tensor | None
    row: int
    step: int
    first: int


def sequence(x: Tensor | None, first: int = 0) -> Sequence:
    return Sequence(None, 0, 0, 0) if x is None else Sequence(x, x.stride(1), x.stride(0), first)


class Recurrence(NamedTuple):
    """What is the same for every step."""

    sign: Tensor
    bias: Tensor | None
    act_bias: Tensor | None
    lengths: Tensor | None
    """(B,) int32 in [0, T]; None: all rows take T steps."""
    steps: int
    """T"""
    block_size: int
    activation: int
    reverse: bool


def recurrence(
    sign: Tensor,
    bias: Tensor | None,
    act_bias: Tensor | None,
    lengths: Tensor | None,
    steps: int,
    block_size: int,
    activation: int,
    reverse: bool,
) -> Recurrence:
    """Lengths out of range are cut: looking at their values would wait for the GPU."""
    bias, act_bias = (x if x is None else x.contiguous() for x in (bias, act_bias))
    if lengths is not None:
        lengths = lengths.clamp(0, steps).to(torch.int32).contiguous()
    return Recurrence(sign.contiguous(), bias, act_bias, lengths, steps, block_size, activation, reverse)


@triton.jit
def steps_within(lengths, b, total, first, steps):
    """(steps that row ``b`` takes, how many of them are among ``steps`` from step ``first`` on)."""
    if lengths is None:
        n = total
        inside = steps
    else:
        n = tl.load(lengths + b)  # one number of (B,)
        inside = tl.minimum(tl.maximum(n - first, 0), steps)
    return n, inside


@triton.jit
def row_at(x, b, n, REVERSE: tl.constexpr):
    """Where the sequence ``x`` has a launch's first step of row ``b``, which takes ``n``."""
    t = n - 1 - x.first if REVERSE else x.first
    return x.data + b * x.row + tl.cast(t, tl.int64) * x.step


@triton.jit
def onward(step, REVERSE: tl.constexpr):
    """From a step to the one processed next."""
    return -step if REVERSE else step


@triton.jit
def clear(x, b, columns, begin, end, width):
    """Zeros in row ``b`` of the sequence ``x`` at the times from ``begin`` to ``end``, counted from its first."""
    for t in tl.range(x.first + begin, x.first + end, num_stages=1):
        row = x.data + b * x.row + tl.cast(t, tl.int64) * x.step
        nothing = tl.zeros_like(columns).to(x.data.dtype.element_ty)
        tl.store(row + columns, nothing, mask=columns < width)  # (COLUMNS,) of (T, B, n)


@triton.jit
def relu(a):
    """max(a, 0), and NaN stays NaN."""
    return tl.where(a < 0, 0.0, a)


@triton.jit
def activate(a, beta, ACTIVATION: tl.constexpr):
    if ACTIVATION == RELU:
        h = relu(a)
    elif ACTIVATION == MODRELU:
        size = relu(tl.abs(a) + beta)
        h = tl.where(a == 0, 0.0, tl.where(a < 0, -size, size))
    else:
        h = a
    return h


@triton.jit
def vector(x, columns):
    """The program's columns of x in float32."""
    return tl.load(x + columns).to(tl.float32)  # (COLUMNS,) of (D,)


@triton.jit
def run_steps(h, begin, end, first, drive, drive_step, weight, sign, bias, act_bias, states, states_step, checkpoints,
              checkpoint_step, n, columns, D, hi, lo, EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
              ACTIVATION: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr,
              EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """The state after steps ``begin`` to ``end`` from ``h``; pointers stand at the program's row, at step 0.

    ``first``: what step 0 is to the whole sequence of ``n`` steps, in which every interval but the last ends with a
    checkpoint.
    """
    s = vector(sign, columns)
    s_hi = s * hi
    s_lo = s * lo
    held = held_weights(weight, columns, KIND, INPUTS)
    shift = None if bias is None else vector(bias, columns)
    beta = None if act_bias is None else vector(act_bias, columns)
    for i in tl.range(begin, end, num_stages=STAGES):
        z = drive_at(i, drive, weight, held, drive_step, columns, D, KIND, INPUTS, COLUMNS)
        if shift is not None:
            z += shift
        h = activate(scaled_plus(hadamard(h, COLUMNS, LOG_BLOCK, DIGITS), s_hi, s_lo, z, EXACT), beta, ACTIVATION)
        if states is not None:
            row = states + tl.cast(i, tl.int64) * states_step
            tl.store(row + columns, h.to(states.dtype.element_ty))  # (COLUMNS,) of (T, B, D), or of (B, EVERY, D)
        if checkpoints is not None:
            done = first + i + 1
            if done % EVERY == 0 and done < n:
                tl.store(checkpoints + (done // EVERY - 1) * checkpoint_step + columns, h)  # (COLUMNS,) of (C, B, D)
    return h
