"""The factor of blocks of m·2^k elements on GPUs: y = (I_q ⊗ H_m ⊗ I) (pre ∘ x), in float32.

A block is a matrix of m rows and 2^k columns; the columns of all blocks stand side by side. A program makes a tile of
rows of a tile of columns as a product with ±1, in tensor cores with float32's accuracy.

Cost: x read once for every 64 rows of H_m (the second time from the L2 cache), y written once in float32, and both once
more by the transform inside the columns; 2·m flops an element.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
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
def _factor(m: int, transpose: bool, device: torch.device) -> Tensor:
    """H_m or its transpose, (m, m) int8."""
    factor = torch.ops.sylvester._hadamard_factor(m)
    return (factor.T if transpose else factor).contiguous().to(device)


def across(x: Tensor, block_size: int, pre: Tensor | None, transpose: bool) -> tuple[Tensor, int]:
    """(result in the shape of ``x``, the block that is left to transform)."""
    import_module("sylvester._library")  # loads the library, which constructs the factors
    m = torch.ops.sylvester._hadamard_factor_of(block_size)
    part = block_size // m
    y = torch.empty_like(x, dtype=torch.float32)
    rows, columns = min(max(triton.next_power_of_2(m), 16), 64), x.numel() // m
    blocks.launch(
        _across, triton.cdiv(m, rows) * triton.cdiv(columns, COLUMNS),
        x, y, pre if pre is None else pre.contiguous(), _factor(m, transpose, x.device),
        columns, part, x.shape[-1] // block_size, m,
        ROWS=rows, COLUMNS=COLUMNS, INPUTS=INPUTS, warps=4,
    )  # fmt: skip
    return y, part
