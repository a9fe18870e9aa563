"""The adjoint λ_t = g_t + S̃ (s ∘ λ_{t+1}) on GPUs: it walks back while the states are rebuilt.

A program owns the same COLUMNS states of a row as in the forward, for the whole sequence, all in registers:

    back     S̃ (s ∘ λ) of the step processed before; at the end it is the gradient of h0
    h        state at t: read where states are kept in full precision, else h_{t-1} = S̃ (s ∘ (h_t - z_t - b)), replaced
             by a checkpoint every 64 steps
    sums     of λ ∘ s ∘ (h_t - z_t - b) for sign and of λ for the bias: 64 steps, then into the total

The two transforms of a step do not depend on each other, so one hides latency of the other. Nobody adds to the sums of
a program but itself: they leave as (B, D), and torch adds the rows in an order that the shape fixes.

An activation σ cannot be undone: the states of 64 steps are computed again from the checkpoint before them, and λ is 0
where they are. They are put into an array (B, 64, D), and what is carried waits in memory meanwhile. A read-out's g_t
is made of dy_t before a launch, for a segment of steps, and what they add to dV after it (_readout.py).
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import hadamard, scaled
from ._drive import CHECKPOINT_EVERY, Drive, Piece, constants, drive_at, held_weights, plan
from ._recurrence import MODRELU, Recurrence, clear, onward, row_at, run_steps, sequence, steps_within, vector


@triton.jit
def _walk(begin, end, first, grads, grads_step, drive, drive_step, weight, sign, bias, act_bias, states, states_step,
          adjoint, adjoint_step, checkpoints, checkpoint_step, kept, carried, columns, own, D, hi, lo,
          REBUILT: tl.constexpr, READOUT: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
          ACTIVATION: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr,
          EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Steps ``end`` - 1 down to ``begin``; pointers stand at the program's row, at step 0.

    Nothing stays in registers from one walk to the next, which leaves them to the steps computed again between.
    """
    zeros = tl.zeros([COLUMNS], tl.float32)
    s = vector(sign, columns)
    back = tl.load(carried.back + own)  # (COLUMNS,) of (B, D), as the four below
    bias_total = tl.load(carried.bias_sum + own)
    bias_recent = zeros
    if carried.sign_sum is not None:
        held = held_weights(weight, columns, KIND, INPUTS)
        shift = None if bias is None else vector(bias, columns)
        beta = None if act_bias is None else vector(act_bias, columns)
        sign_total = tl.load(carried.sign_sum + own)
        sign_recent = zeros
        h = tl.load(carried.h + own) if REBUILT else zeros
        act_total = tl.load(carried.act_sum + own) if ACTIVATION == MODRELU else zeros
        act_recent = zeros
    for k in tl.range(end - begin, num_stages=STAGES):
        i = end - 1 - k
        t = tl.cast(i, tl.int64)
        if states is not None:
            h = tl.load(states + t * states_step + columns)  # (COLUMNS,) of (T, B, D), or of (B, EVERY, D)
        grad = back
        if grads is not None:
            g = tl.load(grads + t * grads_step + columns).to(tl.float32)  # (COLUMNS,), as the states
            grad += tl.where(h > 0, g, 0.0) if READOUT else g
            if READOUT:
                tl.store(grads + t * grads_step + columns, h)  # (COLUMNS,) of (R, B, D)
        if ACTIVATION:
            grad = tl.where(h == 0, 0.0, grad)
        if adjoint is not None:
            row = adjoint + t * adjoint_step
            tl.store(row + columns, grad.to(adjoint.dtype.element_ty))  # (COLUMNS,) of (T, B, D)
        bias_recent += grad
        if carried.sign_sum is not None:
            z = drive_at(i, drive, weight, held, drive_step, columns, D, KIND, INPUTS, COLUMNS)
            before = h - z
            if shift is not None:
                before -= shift
            if ACTIVATION == MODRELU:
                before -= tl.where(h < 0, -beta, beta)
                act_recent += tl.where(h < 0, -grad, grad)
            before *= s
            sign_recent += grad * before
            if REBUILT:
                h = scaled(hadamard(before, COLUMNS, LOG_BLOCK, DIGITS), hi, lo, EXACT)
        back = scaled(hadamard(s * grad, COLUMNS, LOG_BLOCK, DIGITS), hi, lo, EXACT)
        if (first + i) % EVERY == 0:
            bias_total += bias_recent
            bias_recent = zeros
            if carried.sign_sum is not None:
                sign_total += sign_recent
                sign_recent = zeros
                act_total += act_recent
                act_recent = zeros
                if checkpoints is not None:
                    interval = (first + i) // EVERY - 1
                    if interval >= 0 and interval < kept:
                        h = tl.load(checkpoints + interval * checkpoint_step + columns)  # (COLUMNS,) of (C, B, D)
    tl.store(carried.back + own, back)  # (COLUMNS,) of (B, D), as the four below
    tl.store(carried.bias_sum + own, bias_total + bias_recent)
    if carried.sign_sum is not None:
        tl.store(carried.sign_sum + own, sign_total + sign_recent)
        if REBUILT:
            tl.store(carried.h + own, h)
        if ACTIVATION == MODRELU:
            tl.store(carried.act_sum + own, act_total + act_recent)


@triton.jit
def _adjoint(grad_states, drive, weight, sign, bias, act_bias, lengths, states, checkpoints, starts, again, adjoint,
             carried, total, first, steps, kept, batch, D, hi, lo, REBUILT: tl.constexpr, READOUT: tl.constexpr,
             EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr, ACTIVATION: tl.constexpr,
             REVERSE: tl.constexpr, BY_TIME: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr,
             DIGITS: tl.constexpr, EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Steps first + steps - 1 down to first. REBUILT: h goes from step to step; READOUT: as ``Incoming`` says."""
    parts = D // COLUMNS
    b = (tl.program_id(0) // parts).to(tl.int64)
    part = tl.program_id(0) % parts
    columns = part * COLUMNS + tl.arange(0, COLUMNS)
    own = b * D + columns  # of (B, D)
    n, inside = steps_within(lengths, b, total, first, steps)
    z = row_at(drive, b, n, BY_TIME)
    z_step = onward(drive.step, BY_TIME)
    to = None if adjoint.data is None else row_at(adjoint, b, n, BY_TIME)
    to_step = onward(adjoint.step, BY_TIME)
    kept_at = None if checkpoints is None else checkpoints + b * D
    interval = tl.cast(batch, tl.int64) * D  # of (C, B, D)
    h = None if states.data is None else row_at(states, b, n, REVERSE)
    h_step = onward(states.step, REVERSE)
    g = None if grad_states.data is None else row_at(grad_states, b, n, REVERSE)
    g_step = onward(grad_states.step, REVERSE)
    if starts is None:
        _walk(0, inside, first, g, g_step, z, z_step, weight, sign, bias, act_bias, h, h_step, to, to_step, kept_at,
              interval, kept, carried, columns, own, D, hi, lo, REBUILT, READOUT, EXACT, KIND, INPUTS, ACTIVATION,
              COLUMNS, LOG_BLOCK, DIGITS, EVERY, STAGES)  # fmt: skip
    else:
        slots = again + b * EVERY * D
        for left in tl.range(0, tl.cdiv(inside, EVERY), num_stages=1):
            begin = (tl.cdiv(inside, EVERY) - 1 - left) * EVERY
            end = tl.minimum(begin + EVERY, inside)
            at = slots - tl.cast(begin, tl.int64) * D
            start = tl.load(starts + (first + begin) // EVERY * interval + own)  # (COLUMNS,) of (C, B, D)
            run_steps(start, begin, end, first, z, z_step, weight, sign, bias, act_bias, at, D, None, 0, 0, columns, D,
                      hi, lo, EXACT, KIND, INPUTS, ACTIVATION, COLUMNS, LOG_BLOCK, DIGITS, EVERY, STAGES)  # fmt: skip
            tl.debug_barrier()
            _walk(begin, end, first, g, g_step, z, z_step, weight, sign, bias, act_bias, at, D, to, to_step, kept_at,
                  interval, kept, carried, columns, own, D, hi, lo, REBUILT, READOUT, EXACT, KIND, INPUTS, ACTIVATION,
                  COLUMNS, LOG_BLOCK, DIGITS, EVERY, STAGES)  # fmt: skip
            tl.debug_barrier()
    if lengths is not None and adjoint.data is not None:
        clear(adjoint, b, columns, inside, steps, D)


class Known(NamedTuple):
    """What the forward left of the states."""

    states: Tensor | None = None
    """(T, B, D), in full precision"""
    checkpoints: Tensor | None = None
    """(C, B, D)"""
    starts: Tensor | None = None
    """(C + 1, B, D), h0 before the checkpoints: where states have to be computed again"""


class Incoming(NamedTuple):
    """Gradients of what the forward returned."""

    states: Tensor | None
    """(T, B, D); of a read-out (R, B, D) in float32: for the steps of a piece, in the order of processing"""
    readout: bool
    """States are what comes through it, where h > 0, and h is left in their place"""


class Carried(NamedTuple):
    """(B, D) in float32, from one launch to the next."""

    back: Tensor
    h: Tensor
    sign_sum: Tensor | None
    """None: nobody reads a state"""
    bias_sum: Tensor
    act_sum: Tensor | None


def launch(
    piece: Piece,
    source: Drive,
    r: Recurrence,
    incoming: Incoming,
    known: Known,
    adjoint: Tensor | None,
    carried: Carried,
) -> None:
    (rows, width), shape = carried.back.shape, plan(carried.back.shape[1], r.block_size)
    hi, lo = blocks.split_scale(None, r.block_size)
    states, checkpoints, starts = known
    kept = 0 if checkpoints is None else len(checkpoints)
    again = None if starts is None else carried.back.new_empty((rows, CHECKPOINT_EVERY, width))
    rebuilt = carried.sign_sum is not None and states is None and starts is None
    blocks.launch(
        _adjoint, rows * (width // shape.columns),
        sequence(incoming.states, 0 if incoming.readout else piece.first), sequence(piece.drive, piece.start),
        source.weight, r.sign, r.bias, r.act_bias, r.lengths, sequence(states, piece.first),
        checkpoints if kept else None, starts, again, sequence(adjoint, piece.start), carried, r.steps, piece.first,
        piece.steps, kept, rows, width, hi, lo,
        REBUILT=rebuilt, READOUT=incoming.readout, EXACT=lo == 0.0,
        **constants(piece, source, shape, r.block_size, r.activation, r.reverse, incoming.readout),
        **({} if again is None else blocks.all_registers(shape.warps)),
    )  # fmt: skip
