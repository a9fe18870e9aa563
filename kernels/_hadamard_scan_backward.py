"""Gradients of the scan on GPUs: the adjoint λ_t = g_t + S̃ (s ∘ λ_{t+1}) walks back while the states are rebuilt.

A program owns the same COLUMNS states of a row as in the forward, for the whole sequence, all in registers:

    back     S̃ (s ∘ λ) of the step processed before; at the end it is the gradient of h0
    h        state at t: read where states are kept in full precision, else h_{t-1} = S̃ (s ∘ (h_t - z_t - b)), replaced
             by a checkpoint every 64 steps
    sums     of λ ∘ s ∘ (h_t - z_t - b) for sign and of λ for the bias: 64 steps, then into the total

The two transforms of a step do not depend on each other, so one hides latency of the other. Nobody adds to the sums of
a program but itself: they leave as (B, D), and torch adds the rows in an order that the shape fixes.

    given    λ is the gradient of the drive, stored in its dtype
    fused    λ is stored in float32, a chunk of steps at a time: times U for the drive, times x for U (torch GEMMs)
    tokens   likewise, then added up by token: times one-hot rows where the vocabulary is small, else sorted
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from . import _hadamard_scan_steps as by_steps
from ._blocks import hadamard, scaled
from ._drive import FUSED, Drive, Piece, by_time, constants, drive_at, held_weights, plan, prepare, row_and_step

SMALL_VOCABULARY = 256


@triton.jit
def _adjoint(grad_states, drive, weight, sign, bias, states, checkpoints, adjoint, back_out, h_out, sign_sum, bias_sum,
             first, steps, kept, grad_row, grad_step, drive_row, drive_step, states_row, states_step, adjoint_row,
             adjoint_step, batch, D, hi, lo, EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
             REVERSE: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr,
             EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """Steps first + steps - 1 down to first; the four last tensors go in and out. Without sign_sum no state is read."""
    parts = D // COLUMNS
    b = (tl.program_id(0) // parts).to(tl.int64)
    columns = (tl.program_id(0) % parts) * COLUMNS + tl.arange(0, COLUMNS)
    own = b * D + columns  # of (B, D)
    s = tl.load(sign + columns).to(tl.float32)  # (COLUMNS,)
    back = tl.load(back_out + own)  # (COLUMNS,)
    bias_total = tl.load(bias_sum + own)  # (COLUMNS,)
    bias_recent = tl.zeros([COLUMNS], tl.float32)
    if sign_sum is not None:
        held = held_weights(weight, columns, KIND, INPUTS)
        h = tl.load(h_out + own)  # (COLUMNS,)
        sign_total = tl.load(sign_sum + own)  # (COLUMNS,)
        sign_recent = tl.zeros([COLUMNS], tl.float32)
        if bias is not None:
            shift = tl.load(bias + columns).to(tl.float32)  # (COLUMNS,)
        drive += b * drive_row
    for k in tl.range(steps, num_stages=STAGES):
        i = steps - 1 - k
        t = tl.cast(k if REVERSE else i, tl.int64)
        grad = back
        if grad_states is not None:
            row = grad_states + b * grad_row + t * grad_step
            grad += tl.load(row + columns).to(tl.float32)  # (COLUMNS,) of (T, B, D)
        if adjoint is not None:
            row = adjoint + b * adjoint_row + t * adjoint_step
            tl.store(row + columns, grad.to(adjoint.dtype.element_ty))  # (COLUMNS,) of (T, B, D)
        bias_recent += grad
        if sign_sum is not None:
            z = drive_at(t, drive, weight, held, drive_step, columns, D, KIND, INPUTS, COLUMNS)
            if states is not None:
                h = tl.load(states + b * states_row + t * states_step + columns)  # (COLUMNS,) of (T, B, D)
            before = h - z
            if bias is not None:
                before -= shift
            before *= s
            sign_recent += grad * before
            if states is None:
                h = scaled(hadamard(before, COLUMNS, LOG_BLOCK, DIGITS), hi, lo, EXACT)
        back = scaled(hadamard(s * grad, COLUMNS, LOG_BLOCK, DIGITS), hi, lo, EXACT)
        if (first + i) % EVERY == 0:
            bias_total += bias_recent
            bias_recent = tl.zeros([COLUMNS], tl.float32)
            if sign_sum is not None:
                sign_total += sign_recent
                sign_recent = tl.zeros([COLUMNS], tl.float32)
                if checkpoints is not None:
                    interval = (first + i) // EVERY - 1
                    if interval >= 0 and interval < kept:
                        h = tl.load(checkpoints + (interval * batch + b) * D + columns)  # (COLUMNS,) of (C, B, D)
    tl.store(back_out + own, back)  # (COLUMNS,), as the three below
    tl.store(bias_sum + own, bias_total + bias_recent)
    if sign_sum is not None:
        tl.store(sign_sum + own, sign_total + sign_recent)
        tl.store(h_out + own, h)


class Carried(NamedTuple):
    """(B, D) in float32, from one launch to the next."""

    back: Tensor
    h: Tensor
    sign_sum: Tensor | None
    bias_sum: Tensor


def hadamard_scan_backward(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None,
    readout: Tensor | None,
    act_bias: Tensor | None,
    states: Tensor | None,
    last: Tensor,
    checkpoints: Tensor,
    block_size: int,
    activation: int,
    last_only: bool,
    reverse: bool,
    batch_first: bool,
    need_drive: bool,
    need_weight: bool,
    need_sign: bool,
) -> tuple[Tensor, ...]:
    if lengths is not None or readout is not None or activation:
        raise NotImplementedError("lengths, readout and activation run on the CPU only")
    io = (drive if weight is None else weight).dtype
    blocks.require_floats("drive" if weight is None else "weight", io)
    blocks.require_block(block_size)
    tokens = not drive.is_floating_point()
    need_drive, need_weight = need_drive and not tokens, need_weight and weight is not None
    source = prepare(drive, weight, batch_first, plan(last.shape[1], block_size).columns)
    grad_drive = drive.new_empty(drive.shape if need_drive else (0,), dtype=io)
    grad_weight = last.new_zeros(weight.shape if need_weight else (0,))
    carried = Carried(
        torch.zeros_like(last) if grad_last is None else grad_last.clone(memory_format=torch.contiguous_format),
        last.clone(memory_format=torch.contiguous_format),
        last.new_zeros(last.shape) if need_sign else None,
        last.new_zeros(last.shape),
    )
    grad_states, states = (_rows(x, batch_first) for x in (grad_states, states))
    checkpoints = checkpoints.contiguous()
    run = by_steps.adjoint if block_size > by_steps.ABOVE else _launch
    array_needed = weight is not None and (need_drive or need_weight)
    for piece in reversed(list(source.pieces(reverse, array_needed, multiplied=need_sign))):
        adjoint = None
        if array_needed:
            adjoint = last.new_empty((piece.steps, *last.shape))
        elif need_drive:
            adjoint = by_time(grad_drive, batch_first)[piece.times]
        of_piece = (x if x is None else x[piece.times] for x in (grad_states, states))
        run(piece, source, sign.contiguous(), bias if bias is None else bias.contiguous(), *of_piece, checkpoints,
            adjoint, carried, block_size, reverse)  # fmt: skip
        if array_needed and need_drive:
            by_time(grad_drive, batch_first)[piece.times] = adjoint @ weight.float()
        if array_needed and need_weight:
            _add_weight_gradient(grad_weight, adjoint, source, piece)
    grad_sign = sign.new_empty(0) if carried.sign_sum is None else carried.sign_sum.sum(0).to(sign.dtype)
    grad_bias = carried.bias_sum.sum(0).to((sign if bias is None else bias).dtype)
    nothing = sign.new_empty(0)
    return grad_drive, grad_weight.to(io), grad_sign, grad_bias, carried.back, nothing, nothing, nothing


def _rows(x: Tensor | None, batch_first: bool) -> Tensor | None:
    """(T, B, D) with a dense last axis."""
    if x is None:
        return None
    return by_time(x if x.stride(-1) == 1 else x.contiguous(), batch_first)


def _add_weight_gradient(grad_weight: Tensor, adjoint: Tensor, source: Drive, piece: Piece) -> None:
    """Adds Σ λ_t x_tᵀ, or λ_t to the row of its token, over the steps of a piece."""
    adjoint, rows = adjoint.flatten(0, 1), source.rows[piece.times].flatten(0, 1)
    if source.kind is FUSED:
        grad_weight += adjoint.t() @ rows.float()
    elif len(grad_weight) <= SMALL_VOCABULARY:
        one_hot = rows == torch.arange(len(grad_weight), device=rows.device, dtype=rows.dtype)[:, None]
        grad_weight += one_hot.float() @ adjoint
    else:  # index_put_ sorts the tokens before it adds, so the order is theirs; index_add_ would use atomics
        inside = torch.where(rows >= 0, rows, len(grad_weight)).long()
        with_rest = torch.cat((grad_weight, grad_weight.new_zeros(1, grad_weight.shape[1])))
        grad_weight.copy_(with_rest.index_put_((inside,), adjoint, accumulate=True)[:-1])


def _launch(
    piece: Piece,
    source: Drive,
    sign: Tensor,
    bias: Tensor | None,
    grad_states: Tensor | None,
    states: Tensor | None,
    checkpoints: Tensor,
    adjoint: Tensor | None,
    carried: Carried,
    block_size: int,
    reverse: bool,
) -> None:
    (rows, width), shape = carried.back.shape, plan(carried.back.shape[1], block_size)
    hi, lo = blocks.split_scale(None, block_size)
    kept = checkpoints if len(checkpoints) and states is None else None
    blocks.launch(
        _adjoint, rows * (width // shape.columns),
        grad_states, piece.drive, source.weight, sign, bias, states, kept, adjoint, *carried,
        piece.first, piece.steps, len(checkpoints),
        *row_and_step(grad_states), *row_and_step(piece.drive), *row_and_step(states), *row_and_step(adjoint),
        rows, width, hi, lo,
        EXACT=lo == 0.0, **constants(piece, source, shape, block_size, reverse),
    )  # fmt: skip
