"""Blocks of m·2^k elements on GPUs: y = scale · post ∘ ((I_q ⊗ H_m ⊗ S) (pre ∘ x)).

A block is a matrix of m rows and 2^k columns.

    m <= 28                  _factor_rows.py
    larger                   _factor_products.py
    what no program holds    ``_across``: the products with H_m, in float32; hadamard_transform.py transforms the rows

Cost of ``_across``: x read once for every 64 rows of H_m (the second time from the L2 cache), y written once in float32
and read again; 2·m flops an element, on tensor cores with float32's accuracy.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from . import _factor_products as products
from . import _factor_rows as rows
from ._blocks import product

COLUMNS, INPUTS = 64, 32


@triton.jit
def _across(x, y, pre, factor, columns, part, q, m, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INPUTS: tl.constexpr):
    tiles = tl.cdiv(m, ROWS)
    row = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)  # (ROWS,)
    column = tl.cast(tl.program_id(0) // tiles, tl.int64) * COLUMNS + tl.arange(0, COLUMNS)  # (COLUMNS,)
    block, lane = column // part, column % part
    start = block * (m * part) + lane  # of each column
    inside = column < columns
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in range(0, m, INPUTS):
        k = first + tl.arange(0, INPUTS)  # (INPUTS,)
        known = (k < m)[:, None] & inside[None, :]
        tile = tl.load(x + start[None, :] + k[:, None] * part, mask=known, other=0.0).to(
            tl.float32
        )  # (INPUTS, COLUMNS)
        if pre is not None:
            place = (block % q * (m * part) + lane)[None, :] + k[:, None] * part
            tile *= tl.load(pre + place, mask=known, other=0.0).to(tl.float32)  # (INPUTS, COLUMNS)
        signs = (row < m)[:, None] & (k < m)[None, :]
        rows = tl.load(factor + row[:, None] * m + k[None, :], mask=signs, other=0).to(tl.float32)  # (ROWS, INPUTS)
        total = product(rows, tile, total)
    place = start[None, :] + row[:, None] * part
    tl.store(y + place, total, mask=(row < m)[:, None] & inside[None, :])  # (ROWS, COLUMNS)


@cache
def order(block_size: int) -> int:
    """m; 1 for a power of two."""
    if block_size & (block_size - 1) == 0:
        return 1
    import_module("sylvester._library")  # loads the library, which constructs the factors
    return torch.ops.sylvester._hadamard_factor_of(block_size)


@cache
def _factor(m: int, transpose: bool) -> Tensor:
    """H_m or its transpose, (m, m) int8 on the CPU."""
    factor = torch.ops.sylvester._hadamard_factor(m)
    return factor.T.contiguous() if transpose else factor


@cache
def _bits(m: int, transpose: bool) -> tuple[int, ...]:
    """A row of H_m or its transpose an item, whose bit i says that entry i is -1."""
    return tuple(sum(minus << i for i, minus in enumerate(row)) for row in (_factor(m, transpose) < 0).tolist())


@cache
def _signs(m: int, log: int, transpose: bool, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """H_m ⊗ S of 2^log, or its transpose, in the corner of zeros: (size, size)."""
    factor = _factor(m, transpose)
    for _ in range(log):
        factor = torch.kron(factor, torch.tensor([[1, 1], [1, -1]], dtype=torch.int8))
    signs = torch.zeros(size, size, dtype=dtype)
    signs[: len(factor), : len(factor)] = factor
    return signs.to(device)


def at_once(
    x: Tensor,
    y: Tensor,
    block_size: int,
    pre: Tensor | None,
    post: Tensor | None,
    hi: float,
    lo: float,
    transpose: bool,
) -> bool:
    """The whole of it, where a program can hold a block; x and y contiguous, maybe the same memory."""
    m = order(block_size)
    part, parts = block_size // m, products.parts_of(x, pre)
    pre, post = (vector if vector is None else vector.contiguous() for vector in (pre, post))
    if rows.fits(m, part, x.device):
        rows.transform(x, y, _bits(m, transpose), part, pre, post, hi, lo)
        return True
    plan = products.plan(m, part, parts, blocks.chip(x.device)[1])
    if plan is None:
        return False
    dtype = x.dtype if parts == 1 else torch.bfloat16
    signs = _signs(m, plan.log, transpose, products.padded(m << plan.log), dtype, x.device)
    products.transform(x, y, signs, m, part, plan, pre, post, hi, lo)
    return True


def across(x: Tensor, block_size: int, pre: Tensor | None, transpose: bool) -> tuple[Tensor, int]:
    """(I_q ⊗ H_m ⊗ I) (pre ∘ x) in float32, and the block that is left to transform."""
    m = order(block_size)
    part = block_size // m
    y = torch.empty_like(x, dtype=torch.float32)
    height, columns = min(max(triton.next_power_of_2(m), 16), 64), x.numel() // m
    blocks.launch(
        _across, triton.cdiv(m, height) * triton.cdiv(columns, COLUMNS),
        x, y, pre if pre is None else pre.contiguous(), _signs(m, 0, transpose, m, torch.int8, x.device),
        columns, part, x.shape[-1] // block_size, m,
        ROWS=height, COLUMNS=COLUMNS, INPUTS=INPUTS, warps=4,
    )  # fmt: skip
    return y, part


def unscaled(x: Tensor, block_size: int, pre: Tensor | None) -> tuple[Tensor, int]:
    """(float32 result in the shape of x, the block that is left to transform)."""
    y = torch.empty_like(x, dtype=torch.float32)
    if at_once(x, y, block_size, pre, None, 1.0, 0.0, False):
        return y, 1
    return across(x, block_size, pre, False)
