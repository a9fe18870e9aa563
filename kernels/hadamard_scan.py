"""The recurrence h_t = σ(s ∘ S̃ h_{t-1} + z_t + b) on GPUs, whole sequences and one step.

A program owns COLUMNS consecutive states (whole blocks) of one row for a whole sequence; no program needs another.

    state    (COLUMNS,) float32 in registers, 8 a thread (16 above 4096 columns), from the first step to the last
    drive    given, tokens: a row is on its way to shared memory STAGES - 1 steps before its use
             fused: the weights stay in registers, the I numbers of a step are loaded ahead of its transform
    states   stored as they come; nothing waits for them
    outputs  of a read-out: the states of some hundred steps go to an array, and a second kernel reads it: _readout.py

Cost of a step: the additions of one transform and one or two FMAs a state; the row of the drive in and the row of
states out are all that leaves the chip. Its latency, the exchanges in hadamard() first of all, bounds the whole: the
time does not depend on the number of rows until they fill the machine.

Read on: _recurrence.py, _readout.py, _drive.py, _hadamard_scan_backward.py, _hadamard_scan_steps.py (blocks that don't
fit a program).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from . import _hadamard_scan_steps as by_steps
from ._drive import CHECKPOINT_EVERY, GIVEN, Drive, Piece, by_time, constants, plan, prepare
from ._hadamard_scan_backward import hadamard_scan_backward
from ._readout import padded, read_out, segment
from ._recurrence import Recurrence, clear, onward, recurrence, row_at, run_steps, sequence, steps_within

__all__ = ["hadamard_scan", "hadamard_scan_backward", "hadamard_step", "run_free"]


@triton.jit
def _scan(drive, weight, sign, bias, act_bias, h0, lengths, states, last, checkpoints, total, first, steps, batch, D,
          hi, lo, EXACT: tl.constexpr, KIND: tl.constexpr, INPUTS: tl.constexpr, ACTIVATION: tl.constexpr,
          REVERSE: tl.constexpr, BY_TIME: tl.constexpr, COLUMNS: tl.constexpr, LOG_BLOCK: tl.constexpr,
          DIGITS: tl.constexpr, EVERY: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """``steps`` steps of ``total``, from ``first`` on, from ``h0`` to ``last``."""
    parts = D // COLUMNS
    b = (tl.program_id(0) // parts).to(tl.int64)
    part = tl.program_id(0) % parts
    columns = part * COLUMNS + tl.arange(0, COLUMNS)
    n, inside = steps_within(lengths, b, total, first, steps)
    if h0 is not None:
        h = tl.load(h0 + b * D + columns)  # (COLUMNS,) of (B, D)
    else:
        h = tl.zeros([COLUMNS], tl.float32)
    z = row_at(drive, b, n, BY_TIME)
    out = None if states.data is None else row_at(states, b, n, REVERSE)
    kept_at = None if checkpoints is None else checkpoints + b * D
    interval = tl.cast(batch, tl.int64) * D  # of (C, B, D)
    h = run_steps(h, 0, inside, first, z, onward(drive.step, BY_TIME), weight, sign, bias, act_bias, out,
                  onward(states.step, REVERSE), kept_at, interval, n, columns, D, hi, lo, EXACT, KIND, INPUTS,
                  ACTIVATION, COLUMNS, LOG_BLOCK, DIGITS, EVERY, STAGES)  # fmt: skip
    tl.store(last + b * D + columns, h)  # (COLUMNS,) of (B, D)
    if lengths is not None and states.data is not None:
        clear(states, b, columns, inside, steps, D)


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
    io, width = (drive if weight is None else weight).dtype, sign.shape[0]
    blocks.require_floats("drive" if weight is None else "weight", io)
    blocks.require_block(block_size)
    steps, rows = (drive.shape[1], drive.shape[0]) if batch_first else drive.shape[:2]
    r = recurrence(sign, bias, act_bias, lengths, steps, block_size, activation, reverse)
    last = sign.new_empty((rows, width), dtype=torch.float32)
    kept = (steps - 1) // CHECKPOINT_EVERY if keep and steps else 0
    checkpoints = last.new_zeros((kept, rows, width)) if r.lengths is not None else last.new_empty((kept, rows, width))
    if h0 is not None:
        last.copy_(h0)
    shape = plan(width, block_size)
    run = by_steps.scan if block_size > by_steps.ABOVE else _launch
    columns = width if readout is None else readout.shape[0]
    size = (*drive.shape[:2], columns) if not last_only else (0,) if readout is None else (rows, columns)
    output = sign.new_empty(size, dtype=io)
    v, most, states = None, None, None if last_only or readout is not None else by_time(output, batch_first)
    if readout is not None:
        v = padded(readout)
        if not last_only:
            states = segment(last, steps)
            most = len(states)
    source = prepare(drive, weight, r.lengths, reverse, batch_first, shape)
    for piece in source.pieces(chunked=False, most=most):
        start = last if h0 is not None or piece.first else None
        run(piece, source, r, start, states, most is not None, last, checkpoints if kept else None)
        if v is not None and states is not None:
            read_out(states, v, readout_bias, by_time(output, batch_first), r, piece.first, piece.steps)
    if v is not None and last_only:
        read_out(last[None], v, readout_bias, output[None], r._replace(lengths=None, steps=1), 0, 1)
    return output, last, checkpoints


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


def run_free(start: Tensor, sign: Tensor, block_size: int, steps: int, states: Tensor | None = None) -> Tensor:
    """The state after ``steps`` steps without a drive, (rows, D) as ``start``, which is dense and in float32.

    ``states``: where all of them go, (steps, rows, D) with dense rows.
    """
    blocks.require_block(block_size)
    last = torch.empty_like(start)
    r = recurrence(sign, None, None, None, steps, block_size, 0, False)
    source = Drive(start.new_zeros(start.shape[1]).expand(steps, *start.shape), None, GIVEN, False)
    run = by_steps.scan if block_size > by_steps.ABOVE else _launch
    for piece in source.pieces(chunked=False):
        run(piece, source, r, start, states, False, last, None)
    return last


def _launch(
    piece: Piece,
    source: Drive,
    r: Recurrence,
    h0: Tensor | None,
    states: Tensor | None,
    in_order: bool,
    last: Tensor,
    checkpoints: Tensor | None,
) -> None:
    """in_order: states are those of the piece only, in the order of processing."""
    (rows, width), shape = last.shape, plan(last.shape[1], r.block_size)
    hi, lo = blocks.split_scale(None, r.block_size)
    blocks.launch(
        _scan, rows * (width // shape.columns),
        sequence(piece.drive, piece.start), source.weight, r.sign, r.bias, r.act_bias, h0, r.lengths,
        sequence(states, 0 if in_order else piece.first), last, checkpoints, r.steps, piece.first, piece.steps,
        rows, width, hi, lo,
        EXACT=lo == 0.0, **constants(piece, source, shape, r.block_size, r.activation, r.reverse, in_order),
    )  # fmt: skip
