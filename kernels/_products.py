"""Products of matrices that lie anywhere in memory: an axis may be two nested ones, and any step may be negative.

Products run on tensor cores with operands split in three, which keeps 22 bits of 24. The sum over the depth goes in one
order, a tile of it at a time, so the bits of a row don't depend on the rows beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import product

ROWS, COLUMNS, DEPTH = 32, 64, 32
"""Of a program's tile."""

Steps = tuple[int, int]
"""In memory, of the outer and of the inner one of two nested axes."""


@triton.jit
def _place(k, outer_step, inner_step, INNER: tl.constexpr):
    return (k // INNER).to(tl.int64) * outer_step + (k % INNER) * inner_step


@triton.jit
def _product(a, b, c, rows, columns, depth, a_row, a_row_inner, a_depth, a_depth_inner, b_depth, b_depth_inner,
             b_column, b_column_inner, c_row, c_row_inner, c_column, c_column_inner, ROW_INNER: tl.constexpr,
             DEPTH_INNER: tl.constexpr, COLUMN_INNER: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr,
             COLUMNS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """c (rows, columns) (+)= a (rows, depth) · b (depth, columns)."""
    across = tl.cdiv(columns, COLUMNS)
    m = (tl.program_id(0) // across) * ROWS + tl.arange(0, ROWS)
    n = (tl.program_id(0) % across) * COLUMNS + tl.arange(0, COLUMNS)
    a_m = _place(m, a_row, a_row_inner, ROW_INNER)
    b_n = _place(n, b_column, b_column_inner, COLUMN_INNER)
    c_m = _place(m, c_row, c_row_inner, ROW_INNER)
    c_n = _place(n, c_column, c_column_inner, COLUMN_INNER)
    target = c + c_m[:, None] + c_n[None, :]
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    if ADD:
        total = tl.load(target, mask=inside, other=0.0).to(tl.float32)  # (ROWS, COLUMNS) of c
    else:
        total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, depth, DEPTH):
        r = first + tl.arange(0, DEPTH)
        a_r = _place(r, a_depth, a_depth_inner, DEPTH_INNER)
        b_r = _place(r, b_depth, b_depth_inner, DEPTH_INNER)
        a_mask = (m < rows)[:, None] & (r < depth)[None, :]
        b_mask = (r < depth)[:, None] & (n < columns)[None, :]
        x = tl.load(a + a_m[:, None] + a_r[None, :], mask=a_mask, other=0.0).to(tl.float32)  # (ROWS, DEPTH) of a
        y = tl.load(b + b_r[:, None] + b_n[None, :], mask=b_mask, other=0.0).to(tl.float32)  # (DEPTH, COLUMNS) of b
        total = product(x, y, total)
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
    blocks.launch(
        _product, tiles,
        a.start, b.start, c.start, rows.count, columns.count, depth.count,
        *a.rows, *a.columns, *b.rows, *b.columns, *c.rows, *c.columns,
        ROW_INNER=rows.inner, DEPTH_INNER=depth.inner, COLUMN_INNER=columns.inner, ADD=add,
        ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=DEPTH, warps=4,
    )  # fmt: skip


def matrix(x: Tensor) -> Factor:
    return Factor(x, (x.stride(0), 0), (x.stride(1), 0))
