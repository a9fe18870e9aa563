"""The factor of blocks of m·2^k elements on GPUs: y = (I_q ⊗ H_m ⊗ I) (pre ∘ x), in float32.

A block is a matrix of m rows and 2^k columns; the columns of all blocks stand side by side. A program makes a tile of
rows of a tile of columns as a product with ±1, in tensor cores with float32's accuracy.

Cost: x read once for every 64 rows of H_m (the second time from the L2 cache), y written once in float32, and both once
more by the transform inside the columns; 2·m flops an element.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import hadamard, interpreted, product, scaled, tile_product

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


@triton.jit
def _factored(x, y, pre, post, factor, blocks, q, r, hi, lo, ROWS: tl.constexpr, INPUTS: tl.constexpr,
              CHUNKS: tl.constexpr, TILES: tl.constexpr, BLOCKS: tl.constexpr, LOG_PART: tl.constexpr,
              DIGITS: tl.constexpr, STAGES: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    COLUMNS: tl.constexpr = BLOCKS << LOG_PART
    first = tl.cast(tl.program_id(0), tl.int64) * BLOCKS
    size = r << LOG_PART
    x += first * size
    y += first * size
    column = tl.arange(0, COLUMNS)
    block, lane = column >> LOG_PART, column % 2**LOG_PART
    inside = (block < blocks - first)[None, :]
    start = (block * size + lane)[None, :]
    of_row = (((first + block) % q).to(tl.int32) * size + lane)[None, :]
    tiles = ()
    for c in tl.static_range(CHUNKS):
        k = c * INPUTS + tl.arange(0, INPUTS)[:, None]
        known = (k < r) & inside
        tile = tl.load(x + start + (k << LOG_PART), mask=known, other=0.0)  # (INPUTS, COLUMNS)
        if pre is not None:
            tile = tile.to(tl.float32) * tl.load(pre + of_row + (k << LOG_PART), mask=known, other=0.0).to(tl.float32)
        tiles = tiles + (tile,)
    for at in tl.range(TILES, num_stages=STAGES):
        row = at * ROWS + tl.arange(0, ROWS)[:, None]
        signs = factor + row * (CHUNKS * INPUTS) + tl.arange(0, INPUTS)[None, :]
        total = tl.zeros([ROWS, COLUMNS], tl.float32)
        for c in tl.static_range(CHUNKS):
            rows = tl.load(signs + c * INPUTS)  # (ROWS, INPUTS)
            if interpreted() and rows.dtype == tl.bfloat16:
                total = tile_product(rows.to(tl.float32), tiles[c], total, 3, True)
            else:
                total = tile_product(rows, tiles[c], total, 3, True)
        total = hadamard(tl.reshape(total, [ROWS * COLUMNS]), ROWS * COLUMNS, LOG_PART, DIGITS)
        total = tl.reshape(scaled(total, hi, lo, EXACT), [ROWS, COLUMNS])
        real = (row < r) & inside
        if post is not None:
            total *= tl.load(post + of_row + (row << LOG_PART), mask=real, other=0.0).to(tl.float32)
        tl.store(y + start + (row << LOG_PART), total.to(y.dtype.element_ty), mask=real)  # (ROWS, COLUMNS)


class Plan(NamedTuple):
    """Of a program: lowest stages across that go with the factor (log2), rows and columns of the factor at a time,
    blocks, stages of copies ahead, warps."""

    log: int
    rows: int
    inputs: int
    blocks: int
    stages: int
    warps: int

    def shared(self, m: int, part: int, parts: int) -> int:
        """Bytes of shared memory, at most: x, rows that are copied ahead, and what a tile exchanges."""
        inputs, columns = _padded(m << self.log, self.inputs), self.blocks * (part >> self.log)
        return 2 * inputs * (columns * parts + self.rows * (self.stages - 1)) + 4 * self.rows * columns


def _padded(count: int, step: int) -> int:
    return triton.cdiv(count, step) * step


def plan(m: int, part: int, parts: int, device: torch.device) -> Plan | None:
    """None where a program can't hold a block in ``parts`` of 16 bits.

    A warp takes tiles of 16 rows while what it multiplies is small; larger blocks have tiles of 64 rows and four warps,
    which read them from shared memory (wgmma).
    """
    log, (_, shared) = part.bit_length() - 1, blocks.chip(device)
    narrow = [j for j in range(max(log - 7, 0), max(log - 3, 0) + 1) if m << j <= 112]
    if narrow and 2 * m * part * parts <= 24 << 10:
        j = min(narrow, key=lambda j: (_padded(m << j, 16) / (m << j), j))
        return Plan(j, 16, 16, triton.cdiv(64, part >> j), 2, 1)
    j = max(log - 7, 0)
    for columns in (128, 64) if parts == 1 else (64,):
        found = Plan(j, 64, 64, triton.cdiv(columns, part >> j), 1, 4)
        if found.shared(m, part, parts) <= shared:
            return found
    return None


@cache
def _factor(m: int, transpose: bool, device: torch.device) -> Tensor:
    """H_m or its transpose, (m, m) int8."""
    factor = torch.ops.sylvester._hadamard_factor(m)
    return (factor.T if transpose else factor).contiguous().to(device)


@cache
def _signs(
    m: int, log: int, transpose: bool, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """H_m ⊗ S of 2^log, or its transpose, in the corner of zeros of ``shape``."""
    factor = torch.ops.sylvester._hadamard_factor(m)
    for _ in range(log):
        factor = torch.kron(factor, torch.tensor([[1, 1], [1, -1]], dtype=torch.int8))
    signs = torch.zeros(shape, dtype=dtype)
    signs[: len(factor), : len(factor)] = factor.T if transpose else factor
    return signs.to(device)


def transform(
    x: Tensor, y: Tensor, block_size: int, scale: float | None, pre: Tensor | None, post: Tensor | None, transpose: bool
) -> bool:
    """y = scale · post ∘ ((I_q ⊗ H_m ⊗ S) (pre ∘ x)), all contiguous; whether a program can hold a block."""
    m = _order(block_size)
    part, exact = block_size // m, x.itemsize == 2 and pre is None
    p = plan(m, part, 1 if exact else 3, x.device)
    if p is None:
        return False
    r, log = m << p.log, part.bit_length() - 1 - p.log
    shape = (_padded(r, p.rows), _padded(r, p.inputs))
    signs = _signs(m, p.log, transpose, shape, x.dtype if exact else torch.bfloat16, x.device)
    hi, lo = blocks.split_scale(scale, block_size)
    count = x.numel() // block_size
    blocks.launch(
        _factored, triton.cdiv(count, p.blocks),
        x, y, pre, post, signs, count, x.shape[-1] // block_size, r, hi, lo,
        ROWS=p.rows, INPUTS=p.inputs, CHUNKS=shape[1] // p.inputs, TILES=shape[0] // p.rows, BLOCKS=p.blocks,
        LOG_PART=log, DIGITS=blocks.digits(1 << log, p.warps), STAGES=p.stages, EXACT=lo == 0.0, warps=p.warps,
    )  # fmt: skip
    return True


def _order(block_size: int) -> int:
    """m of a block of m·2^k."""
    import_module("sylvester._library")  # loads the library, which constructs the factors
    return torch.ops.sylvester._hadamard_factor_of(block_size)


def across(x: Tensor, block_size: int, pre: Tensor | None, transpose: bool) -> tuple[Tensor, int]:
    """(result in the shape of ``x``, the block that is left to transform)."""
    m = _order(block_size)
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
