"""Blocks of m·2^k elements on GPUs, larger m: a product with ±1 on tensor cores, and the stages that it leaves.

A block is a matrix of r = m·2^j rows and up to 128 columns, multiplied with H_m ⊗ S of 2^j, 64 rows of that at a time;
the stages inside the rows follow. ±1 is exact in 16 bits, and so is x of 16 bits without ``pre``; other x goes in three
parts of bfloat16, which hold its 24 bits.

Cost: x read once, y written once; 2·r flops an element (6·r in parts), 16-20 instructions and 20-23 bytes of exchange
(39 and 31), read off the sm_90 binary.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import hadamard, interpreted, scaled, tile_product

ROWS = 64
"""Of the factor at a time, and of its columns: what four warps multiply from shared memory."""


@triton.jit
def _in_blocks(x, y, pre, post, signs, count, q, r, hi, lo, ROWS: tl.constexpr, TILES: tl.constexpr,
               BLOCKS: tl.constexpr, LOG_PART: tl.constexpr, PARTS: tl.constexpr, DIGITS: tl.constexpr,
               STAGES: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """BLOCKS of ``count`` blocks of r · 2**LOG_PART, side by side; ``signs`` (TILES · ROWS, TILES · ROWS)."""
    COLUMNS: tl.constexpr = BLOCKS << LOG_PART
    first, size = tl.cast(tl.program_id(0), tl.int64) * BLOCKS, r << LOG_PART
    x += first * size
    y += first * size
    column = tl.arange(0, COLUMNS)
    # Divided, not shifted: the compiler sees then that neighbours lie together.
    block, lane = column // 2**LOG_PART, column % 2**LOG_PART
    inside = (block < count - first)[None, :]
    start = (block * size + lane)[None, :]
    of_row = (((first + block) % q).to(tl.int32) * size + lane)[None, :]
    chunks = ()
    for c in tl.static_range(TILES):
        k = c * ROWS + tl.arange(0, ROWS)[:, None]
        known = (k < r) & inside
        chunk = tl.load(x + start + (k << LOG_PART), mask=known, other=0.0)  # (ROWS, COLUMNS)
        if pre is not None:
            chunk = chunk.to(tl.float32) * tl.load(pre + of_row + (k << LOG_PART), mask=known, other=0.0).to(tl.float32)
        chunks = chunks + (chunk,)
    for at in tl.range(TILES, num_stages=STAGES):
        row = at * ROWS + tl.arange(0, ROWS)[:, None]
        of_tile = signs + row * (TILES * ROWS) + tl.arange(0, ROWS)[None, :]
        tile = tl.zeros([ROWS, COLUMNS], tl.float32)
        for c in tl.static_range(TILES):
            weights = tl.load(of_tile + c * ROWS)  # (ROWS, ROWS)
            if PARTS == 1:
                tile = tile_product(_multiplied(weights), chunks[c], tile, PARTS, True)
            else:
                zero = tl.zeros([ROWS, COLUMNS], tl.float32)
                tile += tile_product(_multiplied(weights), chunks[c], zero, PARTS, True)
        tile = scaled(hadamard(tl.reshape(tile, [ROWS * COLUMNS]), ROWS * COLUMNS, LOG_PART, DIGITS), hi, lo, EXACT)
        tile = tl.reshape(tile, [ROWS, COLUMNS])
        real = (row < r) & inside
        if post is not None:
            tile *= tl.load(post + of_row + (row << LOG_PART), mask=real, other=0.0).to(tl.float32)
        tl.store(y + start + (row << LOG_PART), tile.to(y.dtype.element_ty), mask=real)  # (ROWS, COLUMNS)


@triton.jit
def _multiplied(weights):
    """In a type that can be multiplied: the interpreter multiplies no bfloat16."""
    return weights.to(tl.float32) if interpreted() and weights.dtype == tl.bfloat16 else weights


class Plan(NamedTuple):
    """Of a program: log2 of r / m, blocks, and how many programs shall fit the registers of a multiprocessor."""

    log: int
    blocks: int
    programs: int


@cache
def plan(m: int, part: int, parts: int, shared: int) -> Plan | None:
    """For blocks of m · part in ``parts`` of 16 bits; None where ``shared`` bytes or the registers can't hold one.

    Blackwell's tensor memory is for the sums of 2**16 numbers held: beyond that a kernel only traps.
    """
    for most, columns in ((7, 128), (7, 64), (6, 64)):
        log = max(part.bit_length() - 1 - most, 0)
        together = triton.cdiv(columns, part >> log)
        columns = together * (part >> log)
        held = padded(m << log) * columns * parts
        if held <= 1 << 16 and 2 * (held + padded(m << log) * ROWS) + 4 * ROWS * columns <= shared:
            return Plan(log, together, 2 if parts == 1 else 1)
    return None


def padded(rows: int) -> int:
    return triton.cdiv(rows, ROWS) * ROWS


def transform(
    x: Tensor, y: Tensor, signs: Tensor, m: int, part: int, p: Plan, pre: Tensor | None, post: Tensor | None,
    hi: float, lo: float,
) -> None:  # fmt: skip
    """Blocks of m · part; ``signs`` is H_m ⊗ S of 2^p.log in the corner of zeros."""
    log, count = part.bit_length() - 1 - p.log, x.numel() // (m * part)
    tiles = len(signs) // ROWS
    blocks.launch(
        _in_blocks, triton.cdiv(count, p.blocks),
        x, y, pre, post, signs, count, x.shape[-1] // (m * part), m << p.log, hi, lo,
        ROWS=ROWS, TILES=tiles, BLOCKS=p.blocks, LOG_PART=log, PARTS=parts_of(x, pre),
        DIGITS=blocks.digits(1 << log, 4), STAGES=2 if p.programs > 1 else 1, EXACT=lo == 0.0, warps=4,
        **blocks.all_registers(4 * p.programs),
    )  # fmt: skip


def parts_of(x: Tensor, pre: Tensor | None) -> int:
    return 1 if x.itemsize == 2 and pre is None else 3
