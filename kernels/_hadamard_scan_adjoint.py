"""The adjoint λ_t = g_t + S̃ (s ∘ λ_{t+1}) on GPUs: it walks back while the states are rebuilt.

A program owns the same COLUMNS states of a row as in the forward, for the whole sequence, all in registers:

    back     S̃ (s ∘ λ) of the step processed before; at the end it is the gradient of h0
    h        state at t: read where states are kept in full precision, else h_{t-1} = S̃ (s ∘ (h_t - z_t - b)), replaced
             by a checkpoint every 64 steps
    sums     of λ ∘ s ∘ (h_t - z_t - b) for sign and of λ for the bias: 64 steps, then into the total

The two transforms of a step do not depend on each other, so one hides latency of the other. Nobody adds to the sums of
a program but itself: they leave as (B, D), and torch adds the rows in an order that the shape fixes.

An activation cannot be undone: the states of 64 steps are computed again from the checkpoint before them. A read-out's
g_t is made of dy_t for 64 steps at once, and so is what they add to dV. Both put these steps into arrays (B, 64, D).
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import hadamard, scaled
from ._drive import Drive, Piece, constants, drive_at, held_weights, plan
from ._readout import add_outer, read_back, segment, tile
from ._recurrence import MODRELU, Recurrence, clear, onward, row_at, run_steps, sequence, steps_within


@triton.jit
def _walk(sums, begin, end, first, grads, grads_step, drive, drive_step, weight, held, s, shift, beta, states,
          states_step, keep, adjoint, adjoint_step, checkpoints, checkpoint_step, kept, columns, D, hi, lo,
          REBUILT: tl.constexpr, READOUT: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
          ACTIVATION: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr,
          EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Steps ``end`` - 1 down to ``begin``; pointers stand at the program's row, at step 0."""
    back, h, sign_total, sign_recent, bias_total, bias_recent, act_total, act_recent = sums
    for k in tl.range(end - begin, num_stages=STAGES):
        i = end - 1 - k
        t = tl.cast(i, tl.int64)
        if states is not None:
            h = tl.load(states + t * states_step + columns)  # (COLUMNS,) of (T, B, D), or of (B, EVERY, D)
        grad = back
        if grads is not None:
            g = tl.load(grads + t * grads_step + columns).to(tl.float32)  # (COLUMNS,), as the states
            grad += tl.where(h > 0, g, 0.0) if READOUT else g
        if ACTIVATION:
            grad = tl.where(h == 0, 0.0, grad)
        if adjoint is not None:
            row = adjoint + t * adjoint_step
            tl.store(row + columns, grad.to(adjoint.dtype.element_ty))  # (COLUMNS,) of (T, B, D)
        bias_recent += grad
        if REBUILT or states is not None:
            z = drive_at(i, drive, weight, held, drive_step, columns, D, KIND, INPUTS, COLUMNS)
            if keep is not None:
                tl.store(keep + t * D + columns, h)  # (COLUMNS,) of (B, EVERY, D)
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
            bias_recent = tl.zeros([COLUMNS], tl.float32)
            sign_total += sign_recent
            sign_recent = tl.zeros([COLUMNS], tl.float32)
            act_total += act_recent
            act_recent = tl.zeros([COLUMNS], tl.float32)
            if checkpoints is not None:
                interval = (first + i) // EVERY - 1
                if interval >= 0 and interval < kept:
                    h = tl.load(checkpoints + interval * checkpoint_step + columns)  # (COLUMNS,) of (C, B, D)
    return back, h, sign_total, sign_recent, bias_total, bias_recent, act_total, act_recent


@triton.jit
def _adjoint(grad_states, drive, weight, sign, bias, act_bias, lengths, states, checkpoints, starts, hidden, incoming,
             readout, grad_outputs, grad_readout, adjoint, back_out, h_out, sign_sum, bias_sum, act_sum, total, first,
             steps, kept, batch, D, O, hi, lo, REBUILT: tl.constexpr, EXACT: tl.constexpr, KIND: tl.constexpr,
             INPUTS: tl.constexpr, ACTIVATION: tl.constexpr, REVERSE: tl.constexpr, BY_TIME: tl.constexpr,
             OUTPUTS: tl.constexpr, CHUNK: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr,
             DIGITS: tl.constexpr, EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Steps first + steps - 1 down to first; from ``back_out`` on tensors go in and out.

    REBUILT: h goes from step to step. Where nobody reads a state, there is no ``sign_sum``.
    """
    parts = D // COLUMNS
    b = (tl.program_id(0) // parts).to(tl.int64)
    part = tl.program_id(0) % parts
    columns = part * COLUMNS + tl.arange(0, COLUMNS)
    own = b * D + columns  # of (B, D)
    n, inside = steps_within(lengths, b, total, first, steps)
    s = tl.load(sign + columns).to(tl.float32)  # (COLUMNS,)
    held = () if sign_sum is None else held_weights(weight, columns, KIND, INPUTS)
    shift = None if bias is None else tl.load(bias + columns).to(tl.float32)  # (COLUMNS,)
    beta = None if act_bias is None else tl.load(act_bias + columns).to(tl.float32)  # (COLUMNS,)
    zeros = tl.zeros([COLUMNS], tl.float32)
    h = tl.load(h_out + own) if REBUILT else zeros  # (COLUMNS,), as the four below
    sign_total = zeros if sign_sum is None else tl.load(sign_sum + own)
    act_total = zeros if act_sum is None else tl.load(act_sum + own)
    sums = (tl.load(back_out + own), h, sign_total, zeros, tl.load(bias_sum + own), zeros, act_total, zeros)
    z = row_at(drive, b, 0, n, BY_TIME)
    z_step = onward(drive.step, BY_TIME)
    to = None if adjoint.data is None else row_at(adjoint, b, 0, n, BY_TIME)
    to_step = onward(adjoint.step, BY_TIME)
    kept_at = None if checkpoints is None else checkpoints + b * D
    given = None if states.data is None else row_at(states, b, first, n, REVERSE)
    given_step = onward(states.step, REVERSE)
    g = None if grad_states.data is None else row_at(grad_states, b, first, n, REVERSE)
    g_step = onward(grad_states.step, REVERSE)
    if hidden is None:
        sums = _walk(sums, 0, inside, first, g, g_step, z, z_step, weight, held, s, shift, beta, given, given_step, None,
                     to, to_step, kept_at, batch * D, kept, columns, D, hi, lo, REBUILT, False, EXACT, KIND, INPUTS,
                     ACTIVATION, COLUMNS, LOG_BLOCK, DIGITS, EVERY, STAGES)  # fmt: skip
    else:
        slots = hidden + b * EVERY * D
        for left in tl.range(0, tl.cdiv(inside, EVERY)):
            begin = (tl.cdiv(inside, EVERY) - 1 - left) * EVERY
            end = tl.minimum(begin + EVERY, inside)
            before = tl.cast(begin, tl.int64) * D
            if starts is not None:
                start = tl.load(
                    starts + ((first + begin) // EVERY * batch + b) * D + columns
                )  # (COLUMNS,) of (C, B, D)
                run_steps(start, begin, end, first, z, z_step, weight, held, s * hi, s * lo, shift, beta,
                          slots - before, D, None, 0, 0, columns, D, EXACT, KIND, INPUTS, ACTIVATION, COLUMNS,
                          LOG_BLOCK, DIGITS, EVERY, STAGES)  # fmt: skip
            if readout is not None:
                dy = row_at(grad_outputs, b, first + begin, n, REVERSE)
                dy_step = onward(grad_outputs.step, REVERSE)
                read_back(incoming + b * EVERY * D + part * COLUMNS, end - begin, readout, dy, dy_step, part, D, O,
                          COLUMNS, OUTPUTS, CHUNK)  # fmt: skip
            tl.debug_barrier()
            sums = _walk(sums, begin, end, first,
                         g if readout is None else incoming + b * EVERY * D - before, g_step if readout is None else D,
                         z, z_step, weight, held, s, shift, beta, given if starts is None else slots - before,
                         given_step if starts is None else D, None if readout is None or starts is not None else
                         slots - before, to, to_step, kept_at, batch * D, kept, columns, D, hi, lo, REBUILT,
                         readout is not None, EXACT, KIND, INPUTS, ACTIVATION, COLUMNS, LOG_BLOCK, DIGITS, EVERY,
                         STAGES)  # fmt: skip
            tl.debug_barrier()
            if readout is not None:
                add_outer(grad_readout + b * O * D, slots + part * COLUMNS, end - begin, dy, dy_step, part, D, O,
                          COLUMNS, OUTPUTS, CHUNK)  # fmt: skip
                tl.debug_barrier()
    back, h, sign_total, sign_recent, bias_total, bias_recent, act_total, act_recent = sums
    tl.store(back_out + own, back)  # (COLUMNS,), as the four below
    tl.store(bias_sum + own, bias_total + bias_recent)
    if REBUILT:
        tl.store(h_out + own, h)
    if sign_sum is not None:
        tl.store(sign_sum + own, sign_total + sign_recent)
    if act_sum is not None:
        tl.store(act_sum + own, act_total + act_recent)
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
    """(T, B, D)"""
    outputs: Tensor | None
    """(T, B, O)"""
    readout: Tensor | None
    """(O, D), with outputs"""


class Carried(NamedTuple):
    """(B, D) in float32, from one launch to the next."""

    back: Tensor
    h: Tensor
    sign_sum: Tensor | None
    """None: nobody reads a state"""
    bias_sum: Tensor
    act_sum: Tensor | None
    readout_sum: Tensor | None
    """(B, O, D)"""


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
    kept, readout = 0 if checkpoints is None else len(checkpoints), incoming.readout
    rebuilt = carried.sign_sum is not None and states is None and starts is None
    blocks.launch(
        _adjoint, rows * (width // shape.columns),
        sequence(incoming.states), sequence(piece.drive), source.weight, r.sign, r.bias, r.act_bias, r.lengths,
        sequence(states), checkpoints if kept else None, starts,
        None if readout is None and starts is None else segment(carried.back),
        None if readout is None else segment(carried.back),
        readout, sequence(incoming.outputs), carried.readout_sum, sequence(adjoint), *carried[:5],
        r.steps, piece.first, piece.steps, kept, rows, width, 0 if readout is None else len(readout),
        hi, lo, REBUILT=rebuilt, EXACT=lo == 0.0, **tile(readout, shape.columns),
        **constants(piece, source, shape, r.block_size, r.activation, r.reverse),
    )  # fmt: skip
