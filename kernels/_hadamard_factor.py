"""Blocks of m·2^k elements on GPUs: y = scale · post ∘ ((I_q ⊗ H_m ⊗ S) (pre ∘ x)).

A block is a matrix of m rows and 2^k columns.

    m <= 28   one kernel, ``_rows``: a program holds whole blocks, a thread all rows of its columns. Sums and
              differences of pairs of rows are made once; a row of the result adds m / 2 of them. Then come the stages
              inside the rows, 2^k elements of a tile as in hadamard_transform.py, padded with rows of zeros.
    larger    two: ``_across`` makes the products with H_m in float32, hadamard_transform.py transforms the rows.

Cost of ``_rows``: x read once, y written once; m / 2 + 1 + k additions an element, 21-33 instructions and 20-31 bytes
of exchange in all (read off the sm_90 binary); 31 of either would still keep up with the memory of an H200.
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
from ._blocks import hadamard, product, scaled

COLUMNS, INPUTS = 64, 32
MOST_ROWS = 28
"""A thread holds as many elements for each of its columns, and what is made of them."""


@triton.jit
def _sum(sums, differences, SIGNS: tl.constexpr):
    """Σ ± rows; bit i of SIGNS: minus row i. ``sums`` and ``differences`` are those of rows 2i and 2i + 1."""
    total = sums[0] if SIGNS % 4 % 3 == 0 else differences[0]
    if SIGNS % 2 == 1:
        total = -total
    for i in tl.static_range(1, len(sums)):
        pair = sums[i] if (SIGNS >> 2 * i) % 4 % 3 == 0 else differences[i]
        if (SIGNS >> 2 * i) % 2 == 1:
            total -= pair
        else:
            total += pair
    return total


@triton.jit
def _stacked(rows, LOG: tl.constexpr):
    """2**LOG vectors (n,) as (2**LOG · n,), without an exchange."""
    found = ()
    for i in tl.static_range(len(rows)):
        found = found + (tl.reshape(rows[i], [rows[i].shape[0], 1]),)
    for _ in tl.static_range(LOG):
        joined = ()
        for i in tl.static_range(len(found) // 2):
            pair = tl.join(found[i], found[i + len(found) // 2])
            joined = joined + (tl.reshape(pair, [pair.shape[0], pair.shape[1] * 2]),)
        found = joined
    return tl.reshape(tl.permute(found[0], [1, 0]), [found[0].shape[0] * found[0].shape[1]])


@triton.jit
def _row(x, pre, i, place, column, inside, LOG_PART: tl.constexpr):
    row = tl.load(x + place + (i << LOG_PART), mask=inside, other=0.0).to(tl.float32)  # (COLUMNS,) of blocks (m, 2^k)
    if pre is not None:
        row *= tl.load(pre + column + (i << LOG_PART), mask=inside, other=0.0).to(tl.float32)
    return row


@triton.jit
def _rows(x, y, pre, post, blocks, q, hi, lo, SIGNS: tl.constexpr, M: tl.constexpr, LOG_M: tl.constexpr,
          LOG_PART: tl.constexpr, BLOCKS: tl.constexpr, DIGITS: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """BLOCKS blocks; SIGNS has the bits of a row of H_m an item; 2**LOG_M is m or the next power of two."""
    COLUMNS: tl.constexpr = BLOCKS << LOG_PART
    first = tl.cast(tl.program_id(0), tl.int64) * BLOCKS
    x += first * (M << LOG_PART)
    y += first * (M << LOG_PART)
    # Divided, not shifted: the compiler sees then that neighbours lie together.
    block, lane = tl.arange(0, COLUMNS) // 2**LOG_PART, tl.arange(0, COLUMNS) % 2**LOG_PART
    place = block * (M << LOG_PART) + lane
    column = ((first + block) % q).to(tl.int32) * (M << LOG_PART) + lane
    inside = first + block < blocks
    sums, differences, rows = (), (), ()
    for i in tl.static_range(0, M, 2):
        even = _row(x, pre, i, place, column, inside, LOG_PART)
        odd = _row(x, pre, i + 1, place, column, inside, LOG_PART)
        sums = sums + (even + odd,)
        differences = differences + (even - odd,)
    for j in tl.static_range(2**LOG_M):
        rows = rows + (_sum(sums, differences, SIGNS[j]) if j < M else tl.zeros_like(sums[0]),)
    tile = hadamard(_stacked(rows, LOG_M), COLUMNS << LOG_M, LOG_PART, DIGITS)
    tile = tl.reshape(scaled(tile, hi, lo, EXACT), [2**LOG_M, COLUMNS])
    i = tl.arange(0, 2**LOG_M)[:, None]
    known = (i < M) & inside[None, :]
    if post is not None:
        tile *= tl.load(post + column[None, :] + (i << LOG_PART), mask=known, other=0.0).to(tl.float32)
    tl.store(y + place[None, :] + (i << LOG_PART), tile.to(y.dtype.element_ty), mask=known)  # (2**LOG_M, COLUMNS)


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
    import_module("sylvester._library")  # loads the library, which constructs the factors
    factor = torch.ops.sylvester._hadamard_factor(m)
    return (factor.T if transpose else factor).contiguous().to(device)


@cache
def factor_of(block_size: int) -> int:
    """m; 1 for a power of two."""
    if block_size & (block_size - 1) == 0:
        return 1
    import_module("sylvester._library")
    return torch.ops.sylvester._hadamard_factor_of(block_size)


@cache
def _signs(m: int, transpose: bool) -> tuple[int, ...]:
    rows = (_factor(m, transpose, torch.device("cpu")) < 0).tolist()
    return tuple(sum(minus << i for i, minus in enumerate(row)) for row in rows)


def fits(block_size: int, device: torch.device) -> bool:
    """Whether ``at_once`` does the whole: its rows exchange through shared memory."""
    m = factor_of(block_size)
    _, shared = blocks.chip(device)
    return 1 < m <= MOST_ROWS and 4 * triton.next_power_of_2(m) * (block_size // m) <= shared


def at_once(
    x: Tensor,
    y: Tensor,
    block_size: int,
    pre: Tensor | None,
    post: Tensor | None,
    hi: float,
    lo: float,
    transpose: bool,
) -> None:
    """All of it; x and y contiguous, maybe the same memory."""
    m = factor_of(block_size)
    part, padded = block_size // m, triton.next_power_of_2(m)
    count = x.numel() // block_size
    together = max(2048 // (padded * part), 1)
    warps = max(padded * part // 2048, 1)
    pre, post = (vector if vector is None else vector.contiguous() for vector in (pre, post))
    blocks.launch(
        _rows, triton.cdiv(count, together),
        x, y, pre, post, count, x.shape[-1] // block_size, hi, lo,
        SIGNS=_signs(m, transpose), M=m, LOG_M=padded.bit_length() - 1, LOG_PART=part.bit_length() - 1,
        BLOCKS=together, DIGITS=blocks.digits(part, warps), EXACT=lo == 0.0, warps=warps,
    )  # fmt: skip


def across(x: Tensor, block_size: int, pre: Tensor | None, transpose: bool) -> tuple[Tensor, int]:
    """(I_q ⊗ H_m ⊗ I) (pre ∘ x) in float32, and the block that is left to transform."""
    m = factor_of(block_size)
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
