"""The three kinds of drive z_t, as the kernels of the scan read them and as its launchers prepare them.

    GIVEN   (T, B, D)  z itself, any strides over T and B, in the order of time
    FUSED   (T, B, I)  z = weight · x, I <= 16; the steps of a row lie together, so that they share cache lines
    TOKENS  (T, B)     z = weight[token], int32, -1 for a token out of range; the steps of a row lie together

The last two are copied anyway, and that in the order of processing; x after a row's end is 0. A wider fused drive is
multiplied by torch, a chunk of steps at a time, and read as GIVEN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._blocks import digits

GIVEN, FUSED, TOKENS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
CHECKPOINT_EVERY = 64

WIDEST_FUSED = 16
NARROWER_FUSED = 8
"""Where the backward does more than rebuild states."""
CHUNK_BYTES = 64 << 20
"""Of a float32 array (steps, B, D) that has to exist: it is made for so many steps at a time."""


@triton.jit
def held_weights(weight, columns, KIND: tl.constexpr, INPUTS: tl.constexpr):
    """A fused drive's weights: INPUTS vectors (COLUMNS,) in float32. Other kinds hold none."""
    held = ()
    if KIND == FUSED:
        for i in tl.static_range(INPUTS):
            held = held + (tl.load(weight + columns * INPUTS + i).to(tl.float32),)  # (COLUMNS,) of (D, I)
    return held


@triton.jit
def drive_at(t, drive, weight, held, stride, columns, D, KIND: tl.constexpr, INPUTS: tl.constexpr,
             COLUMNS: tl.constexpr):  # fmt: skip
    """z_t in float32, (COLUMNS,); ``drive`` stands at the program's row."""
    row = drive + tl.cast(t, tl.int64) * stride
    if KIND == FUSED:
        z = tl.zeros([COLUMNS], tl.float32)
        for i in tl.static_range(INPUTS):
            x = tl.load(row + i).to(tl.float32)  # one number of (T, B, I)
            z = tl.fma(held[i], tl.full([COLUMNS], x, tl.float32), z)
    elif KIND == TOKENS:
        token = tl.load(row)  # one number of (T, B)
        values = weight + tl.cast(token, tl.int64) * D + columns
        z = tl.load(values, mask=token >= 0, other=float("nan")).to(tl.float32)  # (COLUMNS,) of (V, D)
    else:
        z = tl.load(row + columns).to(tl.float32)  # (COLUMNS,) of (T, B, D)
    return z


class Plan(NamedTuple):
    """How the states of a row are shared out."""

    columns: int
    """States of a program: whole blocks, a power of two that divides the width."""
    warps: int
    stages: int
    """Rows of the drive on the way or in use."""


def plan(width: int, block: int) -> Plan:
    columns = block
    while columns < 256 and width % (2 * columns) == 0:
        columns *= 2
    # More short steps than long ones fit into the latency of memory; small chips bound what waits in shared memory.
    stages = 6 if columns <= 512 else 4 if columns <= 1024 else 3 if columns <= 2048 else 2
    return Plan(columns, max(columns // 256, 1), stages)


class Piece(NamedTuple):
    """Consecutive steps for one launch."""

    first: int
    steps: int
    kind: tl.constexpr
    drive: Tensor
    """(steps, B, ...)"""
    by_time: bool
    """The drive is a given one, whole and in the order of time."""

    @property
    def start(self) -> int:
        """The first step in the drive, and in its gradient."""
        return self.first if self.by_time else 0

    @property
    def part(self) -> slice:
        """Of an array in the order of processing."""
        return slice(self.first, self.first + self.steps)


class Drive(NamedTuple):
    rows: Tensor
    """(T, B, D), (T, B, I) or (T, B)"""
    weight: Tensor | None
    kind: tl.constexpr
    wide: bool
    """A fused drive whose weights don't fit the registers."""

    @property
    def inputs(self) -> int:
        return self.rows.shape[2] if self.kind is FUSED and not self.wide else 0

    def at(self, step: Any) -> Tensor:
        """z of one step, (B, D) float32."""
        if self.weight is None:
            return self.rows[step].float()
        if self.kind is FUSED:
            return self.rows[step].float() @ self.weight.float().t()
        token = self.rows[step].long()
        return torch.where(token[:, None] >= 0, self.weight[token.clamp(min=0)].float(), float("nan"))

    def pieces(
        self, chunked: bool, multiplied: bool = True, backward: bool = False, most: int | None = None
    ) -> Iterator[Piece]:
        """The whole sequence, or where an array (steps, B, D) has to exist, chunks of whole checkpoint intervals.

        multiplied: a wide drive's z is read; most: steps of a chunk. A sequence without steps is one piece too.
        """
        steps, rows = self.rows.shape[:2]
        at_once = max(steps, 1) if most is None else most
        if self.weight is not None and (chunked or self.wide):
            width = self.weight.shape[0 if self.kind is FUSED else 1]
            at_once = min(at_once, steps_of(CHUNK_BYTES, rows, width))
        starts = range(0, max(steps, 1), at_once)
        for first in reversed(starts) if backward else starts:
            count = min(at_once, steps - first)
            drive = self.rows if self.weight is None else self.rows[first : first + count]
            if self.wide and multiplied:
                drive = drive.float() @ self.weight.float().t()
            yield Piece(first, count, GIVEN if self.wide else self.kind, drive, self.weight is None)


def steps_of(size: int, rows: int, width: int) -> int:
    """Whole checkpoint intervals, as many as a float32 array (steps, rows, width) of ``size`` bytes has room for."""
    return max(size // (4 * CHECKPOINT_EVERY * max(rows * width, 1)), 1) * CHECKPOINT_EVERY


def prepare(
    drive: Tensor,
    weight: Tensor | None,
    lengths: Tensor | None,
    reverse: bool,
    batch_first: bool,
    shape: Plan,
    widest: int = WIDEST_FUSED,
) -> Drive:
    """``widest``: inputs whose weights a thread can hold for each of 8 states."""
    rows = by_time(drive, batch_first)
    if weight is None:
        return Drive(rows if rows.stride(-1) == 1 else rows.contiguous(), None, GIVEN, False)
    kind = FUSED if drive.is_floating_point() else TOKENS
    if kind is TOKENS:
        rows = torch.where((rows >= 0) & (rows < weight.shape[0]), rows, -1).to(torch.int32)
    elif lengths is not None:
        rows = rows.masked_fill(after_end(rows, lengths)[:, :, None], 0)
    rows = in_order(rows, lengths, reverse).transpose(0, 1).contiguous().transpose(0, 1)
    # 16 weights for each of a thread's 8 states fill half of its registers.
    held = rows.shape[2] * triton.cdiv(shape.columns, 32 * shape.warps) if kind is FUSED else 0
    wide = kind is FUSED and (shape.columns > 2048 or rows.shape[2] > WIDEST_FUSED or held > 8 * widest)
    return Drive(rows, weight.contiguous(), kind, wide)


def after_end(rows: Tensor, lengths: Tensor) -> Tensor:
    """(T, B): times at which a row takes no step."""
    return torch.arange(len(rows), device=rows.device)[:, None] >= lengths


def in_order(rows: Tensor, lengths: Tensor | None, reverse: bool) -> Tensor:
    """(T, B, ...) from the order of time to that of processing, or back: it is its own inverse."""
    if not reverse:
        return rows
    if lengths is None:
        return rows.flip(0)
    times = torch.arange(len(rows), device=rows.device)[:, None]
    times = torch.where(times < lengths, lengths - 1 - times, times)
    return rows[times, torch.arange(rows.shape[1], device=rows.device)]


def by_time(x: Tensor, batch_first: bool) -> Tensor:
    return x.transpose(0, 1) if batch_first else x


def constants(
    piece: Piece, source: Drive, shape: Plan, block_size: int, activation: int, reverse: bool, in_order: bool
) -> dict[str, Any]:
    """What both kernels are compiled for. in_order: states, or their gradients, lie in the order of processing."""
    return {
        "KIND": piece.kind,
        "INPUTS": source.inputs,
        "ACTIVATION": activation,
        "REVERSE": reverse and not in_order,
        "BY_TIME": reverse and piece.by_time,
        "COLUMNS": shape.columns,
        "LOG_BLOCK": block_size.bit_length() - 1,
        "DIGITS": digits(block_size, shape.warps),
        "EVERY": CHECKPOINT_EVERY,
        "STAGES": shape.stages,
        "warps": shape.warps,
    }
