"""The recurrence h_t = s ∘ S̃ h_{t-1} + z_t + b on GPUs, whole sequences and one step.

A program owns COLUMNS consecutive states (whole blocks) of one row for a whole sequence; no program needs another.

    state    (COLUMNS,) float32 in registers, 8 a thread (16 above 4096 columns), from the first step to the last
    drive    given, tokens: a row is on its way to shared memory STAGES - 1 steps before its use
             fused: the weights stay in registers, the I numbers of a step are loaded ahead of its transform
    states   stored as they come; nothing waits for them

Cost of a step: the additions of one transform and one or two FMAs a state; the row of the drive in and the row of
states out are all that leaves the chip. Its latency, the exchanges in hadamard() first of all, bounds the whole: the
time does not depend on the number of rows until they fill the machine.

Read on: _hadamard_scan_backward.py, _drive.py, _hadamard_scan_steps.py (blocks that don't fit a program).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from . import _hadamard_scan_steps as by_steps
from ._blocks import hadamard, scaled_plus
from ._drive import (
    CHECKPOINT_EVERY,
    Drive,
    Piece,
    by_time,
    constants,
    drive_at,
    held_weights,
    plan,
    prepare,
    row_and_step,
)
from ._hadamard_scan_backward import hadamard_scan_backward

__all__ = ["hadamard_scan", "hadamard_scan_backward", "hadamard_step"]


@triton.jit
def _scan(drive, weight, sign, bias, h0, states, last, checkpoints, steps, kept, drive_row, drive_step, states_row,
          states_step, batch, D, hi, lo, EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr,
          REVERSE: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr,
          EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """``steps`` steps from ``h0`` to ``last``, of which the ends of the first ``kept`` intervals are checkpoints."""
    parts = D // COLUMNS
    b = (tl.program_id(0) // parts).to(tl.int64)
    columns = (tl.program_id(0) % parts) * COLUMNS + tl.arange(0, COLUMNS)
    s = tl.load(sign + columns).to(tl.float32)  # (COLUMNS,)
    s_hi = s * hi
    s_lo = s * lo
    held = held_weights(weight, columns, KIND, INPUTS)
    if bias is not None:
        shift = tl.load(bias + columns).to(tl.float32)  # (COLUMNS,)
    if h0 is not None:
        h = tl.load(h0 + b * D + columns)  # (COLUMNS,) of (B, D)
    else:
        h = tl.zeros([COLUMNS], tl.float32)
    drive += b * drive_row
    for i in tl.range(steps, num_stages=STAGES):
        t = steps - 1 - i if REVERSE else i
        z = drive_at(t, drive, weight, held, drive_step, columns, D, KIND, INPUTS, COLUMNS)
        if bias is not None:
            z += shift
        h = scaled_plus(hadamard(h, COLUMNS, LOG_BLOCK, DIGITS), s_hi, s_lo, z, EXACT)
        if states is not None:
            row = states + b * states_row + tl.cast(t, tl.int64) * states_step
            tl.store(row + columns, h.to(states.dtype.element_ty))  # (COLUMNS,) of (T, B, D)
        if checkpoints is not None:
            interval = i // EVERY
            if i % EVERY == EVERY - 1 and interval < kept:
                tl.store(checkpoints + (interval * batch + b) * D + columns, h)  # (COLUMNS,) of (C, B, D)
    tl.store(last + b * D + columns, h)  # (COLUMNS,) of (B, D)


def hadamard_scan(
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None,
    readout: Tensor | None,
    readout_bias: Tensor | None,
    act_bias: Tensor | None,
    block_size: int,
    activation: int,
    last_only: bool,
    reverse: bool,
    batch_first: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if lengths is not None or readout is not None or activation:
        raise NotImplementedError("lengths, readout and activation run on the CPU only")
    io, width = (drive if weight is None else weight).dtype, sign.shape[0]
    blocks.require_floats("drive" if weight is None else "weight", io)
    blocks.require_block(block_size)
    steps, rows = (drive.shape[1], drive.shape[0]) if batch_first else drive.shape[:2]
    states = sign.new_empty((0,) if last_only else (*drive.shape[:2], width), dtype=io)
    last = sign.new_empty((rows, width), dtype=torch.float32)
    checkpoints = last.new_empty(((steps - 1) // CHECKPOINT_EVERY if keep and steps else 0, rows, width))
    if h0 is not None:
        last.copy_(h0)
    elif steps == 0:
        last.zero_()
    source = prepare(drive, weight, batch_first, plan(width, block_size).columns)
    sign, bias = sign.contiguous(), bias if bias is None else bias.contiguous()
    run = by_steps.scan if block_size > by_steps.ABOVE else _launch
    for piece in source.pieces(reverse, chunked=False):
        start = last if h0 is not None or piece.first else None
        out = None if last_only else by_time(states, batch_first)[piece.times]
        kept = checkpoints[piece.first // CHECKPOINT_EVERY :]
        run(piece, source, sign, bias, start, out, last, kept if len(kept) else None, block_size, reverse)
    return states, last, checkpoints


def hadamard_step(
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor | None,
    h: Tensor,
    act_bias: Tensor | None,
    block_size: int,
    activation: int,
) -> Tensor:
    options = (block_size, activation, True, False, False, False)
    return hadamard_scan(drive[None], weight, sign, bias, h, None, None, None, act_bias, *options)[1]


def _launch(
    piece: Piece,
    source: Drive,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    states: Tensor | None,
    last: Tensor,
    checkpoints: Tensor | None,
    block_size: int,
    reverse: bool,
) -> None:
    (rows, width), shape = last.shape, plan(last.shape[1], block_size)
    hi, lo = blocks.split_scale(None, block_size)
    blocks.launch(
        _scan, rows * (width // shape.columns),
        piece.drive, source.weight, sign, bias, h0, states, last, checkpoints,
        piece.steps, 0 if checkpoints is None else len(checkpoints), *row_and_step(piece.drive), *row_and_step(states),
        rows, width, hi, lo,
        EXACT=lo == 0.0, **constants(piece, source, shape, block_size, reverse),
    )  # fmt: skip
