"""Products of matrices that lie anywhere in memory: an axis may be two nested ones, and any step may be negative.

Products run on tensor cores with operands split in three, which keeps 22 bits of 24. The sum over the depth is a sum of
parts, in order: each is made from zero, a tile of the depth at a time. Who makes the parts shows in no bit, so where
tiles of the result are few, programs make one each and a second kernel adds them: what is left is latency. The bits of
a row don't depend on the rows beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import product

ROWS, COLUMNS, DEPTH = 32, 64, 32
"""Of a program's tile."""
PART, MOST_PARTS = 128, 16
"""Least depth of a part, and how many there are at most."""
SUMS = 512
"""Elements that a program adds up."""

Steps = tuple[int, int]
"""In memory, of the outer and of the inner one of two nested axes."""


@triton.jit
def _place(k, outer_step, inner_step, INNER: tl.constexpr):
    return (k // INNER).to(tl.int64) * outer_step + (k % INNER) * inner_step


@triton.jit
def _product(a, b, c, parts, rows, columns, depth, part, a_row, a_row_inner, a_depth, a_depth_inner, b_depth,
             b_depth_inner, b_column, b_column_inner, c_row, c_row_inner, c_column, c_column_inner,
             ROW_INNER: tl.constexpr, DEPTH_INNER: tl.constexpr, COLUMN_INNER: tl.constexpr, ADD: tl.constexpr,
             ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """c (rows, columns) (+)= a (rows, depth) · b (depth, columns), or one of its parts into ``parts``."""
    across = tl.cdiv(columns, COLUMNS)
    tiles = tl.cdiv(rows, ROWS) * across
    tile = tl.program_id(0) % tiles
    m = (tile // across) * ROWS + tl.arange(0, ROWS)
    n = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    a_m = _place(m, a_row, a_row_inner, ROW_INNER)
    b_n = _place(n, b_column, b_column_inner, COLUMN_INNER)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    begin = 0
    end = depth
    if parts is not None:
        begin = (tl.program_id(0) // tiles) * part
        end = tl.minimum(begin + part, depth)
    sums = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(begin, end, DEPTH):
        r = first + tl.arange(0, DEPTH)
        a_r = _place(r, a_depth, a_depth_inner, DEPTH_INNER)
        b_r = _place(r, b_depth, b_depth_inner, DEPTH_INNER)
        a_mask = (m < rows)[:, None] & (r < depth)[None, :]
        b_mask = (r < depth)[:, None] & (n < columns)[None, :]
        x = tl.load(a + a_m[:, None] + a_r[None, :], mask=a_mask, other=0.0).to(tl.float32)  # (ROWS, DEPTH) of a
        y = tl.load(b + b_r[:, None] + b_n[None, :], mask=b_mask, other=0.0).to(tl.float32)  # (DEPTH, COLUMNS) of b
        sums = product(x, y, sums)
        if parts is None:
            ends = (first + DEPTH) % part == 0
            total += tl.where(ends, sums, 0.0)
            sums = tl.where(ends, 0.0, sums)
    total += sums
    if parts is not None:
        own = parts + (tl.program_id(0) // tiles).to(tl.int64) * rows * columns
        tl.store(own + m.to(tl.int64)[:, None] * columns + n, total, mask=inside)  # (ROWS, COLUMNS) of (rows, columns)
    else:
        c_m = _place(m, c_row, c_row_inner, ROW_INNER)
        target = c + c_m[:, None] + _place(n, c_column, c_column_inner, COLUMN_INNER)[None, :]
        if ADD:
            total += tl.load(target, mask=inside, other=0.0).to(tl.float32)  # (ROWS, COLUMNS) of c
        tl.store(target, total.to(c.dtype.element_ty), mask=inside)


@triton.jit
def _sum(parts, c, rows, columns, c_row, c_row_inner, c_column, c_column_inner, ROW_INNER: tl.constexpr,
         COLUMN_INNER: tl.constexpr, ADD: tl.constexpr, PARTS: tl.constexpr, SIZE: tl.constexpr):  # fmt: skip
    """c (+)= parts, one after another."""
    elements = tl.cast(rows, tl.int64) * columns
    i = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = i < elements
    m, n = i // columns, i % columns
    target = c + _place(m, c_row, c_row_inner, ROW_INNER) + _place(n, c_column, c_column_inner, COLUMN_INNER)
    total = tl.zeros([SIZE], tl.float32)
    for k in tl.static_range(PARTS):
        total += tl.load(parts + k * elements + i, mask=inside, other=0.0)  # (SIZE,) of (rows, columns)
    if ADD:
        total += tl.load(target, mask=inside, other=0.0).to(tl.float32)  # (SIZE,) of c
    tl.store(target, total.to(c.dtype.element_ty), mask=inside)


class Axis(NamedTuple):
    count: int
    inner: int = 1


class Factor(NamedTuple):
    """A matrix: a tensor that starts at its first element, and the steps of its axes."""

    start: Tensor
    rows: Steps
    columns: Steps

    def t(self) -> Factor:
        return Factor(self.start, self.columns, self.rows)


def multiply(rows: Axis, depth: Axis, columns: Axis, a: Factor, b: Factor, c: Factor, add: bool) -> None:
    tiles = triton.cdiv(rows.count, ROWS) * triton.cdiv(columns.count, COLUMNS)
    part = max(PART, triton.cdiv(depth.count, MOST_PARTS * DEPTH) * DEPTH)
    count = triton.cdiv(depth.count, part)
    split = count > 1 and tiles < blocks.chip(c.start.device)[0]
    parts = c.start.new_empty((count, rows.count, columns.count), dtype=torch.float32) if split else None
    blocks.launch(
        _product, tiles * (count if split else 1),
        a.start, b.start, c.start, parts, rows.count, columns.count, depth.count, part,
        *a.rows, *a.columns, *b.rows, *b.columns, *c.rows, *c.columns,
        ROW_INNER=rows.inner, DEPTH_INNER=depth.inner, COLUMN_INNER=columns.inner, ADD=add,
        ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=DEPTH, warps=4,
    )  # fmt: skip
    if parts is not None:
        blocks.launch(
            _sum, triton.cdiv(rows.count * columns.count, SUMS),
            parts, c.start, rows.count, columns.count, *c.rows, *c.columns,
            ROW_INNER=rows.inner, COLUMN_INNER=columns.inner, ADD=add, PARTS=count, SIZE=SUMS, warps=4,
        )  # fmt: skip


def matrix(x: Tensor) -> Factor:
    return Factor(x, (x.stride(0), 0), (x.stride(1), 0))
