"""The three kinds of drive z_t, as the kernels of the scan read them and as its launchers prepare them.

    GIVEN   (T, B, D)  z itself, any strides over T and B
    FUSED   (T, B, I)  z = weight · x, I <= 16; the steps of a row lie together, so that they share cache lines
    TOKENS  (T, B)     z = weight[token], int32, -1 for a token out of range; the steps of a row lie together

A wider fused drive is multiplied by torch, a chunk of steps at a time, and read as GIVEN.
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
    """In the order of processing."""
    times: slice
    steps: int
    kind: tl.constexpr
    drive: Tensor
    """(steps, B, ...) in the order of time"""


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

    def at(self, t: int) -> Tensor:
        """z_t, (B, D) float32."""
        if self.weight is None:
            return self.rows[t].float()
        if self.kind is FUSED:
            return self.rows[t].float() @ self.weight.float().t()
        token = self.rows[t]
        return torch.where(token[:, None] >= 0, self.weight[token.clamp(min=0)].float(), float("nan"))

    def pieces(self, reverse: bool, chunked: bool, multiplied: bool = True) -> Iterator[Piece]:
        """The whole sequence, or where an array (steps, B, D) has to exist, chunks of whole checkpoint intervals.

        multiplied: a wide drive's z is read.
        """
        steps, rows = self.rows.shape[:2]
        at_once = max(steps, 1)
        if chunked or self.wide:
            width = self.rows.shape[2] if self.weight is None else self.weight.shape[0 if self.kind is FUSED else 1]
            at_once = max(CHUNK_BYTES // (256 * max(rows * width, 1)), 1) * CHECKPOINT_EVERY
        for first in range(0, steps, at_once):
            count = min(at_once, steps - first)
            start = steps - first - count if reverse else first
            times = slice(start, start + count)
            drive = self.rows[times]
            if self.wide and multiplied:
                drive = drive.float() @ self.weight.float().t()
            yield Piece(first, times, count, GIVEN if self.wide else self.kind, drive)


def prepare(drive: Tensor, weight: Tensor | None, batch_first: bool, columns: int) -> Drive:
    """``columns``: of a program."""
    rows = by_time(drive, batch_first)
    if weight is None:
        return Drive(rows if rows.stride(-1) == 1 else rows.contiguous(), None, GIVEN, False)
    kind = FUSED if drive.is_floating_point() else TOKENS
    if kind is TOKENS:
        rows = torch.where((rows >= 0) & (rows < weight.shape[0]), rows, -1).to(torch.int32)
    rows = rows.transpose(0, 1).contiguous().transpose(0, 1)
    # 16 weights for each of a thread's 8 states fill half of its registers.
    wide = kind is FUSED and (rows.shape[2] > WIDEST_FUSED or columns > 2048)
    return Drive(rows, weight.contiguous(), kind, wide)


def by_time(x: Tensor, batch_first: bool) -> Tensor:
    return x.transpose(0, 1) if batch_first else x


def row_and_step(x: Tensor | None) -> tuple[int, int]:
    """Strides over B and T of a tensor (T, B, ...)."""
    return (0, 0) if x is None else (x.stride(1), x.stride(0))


def constants(piece: Piece, source: Drive, shape: Plan, block_size: int, reverse: bool) -> dict[str, Any]:
    """What both kernels are compiled for."""
    return {
        "KIND": piece.kind,
        "INPUTS": source.inputs,
        "REVERSE": reverse,
        "COLUMNS": shape.columns,
        "LOG_BLOCK": block_size.bit_length() - 1,
        "DIGITS": digits(block_size, shape.warps),
        "EVERY": CHECKPOINT_EVERY,
        "STAGES": shape.stages,
        "warps": shape.warps,
    }
