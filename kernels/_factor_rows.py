"""Blocks of m·2^k elements on GPUs, m <= 28: a thread holds all m rows of its columns.

Sums and differences of pairs of rows are made once; a row of the result adds m / 2 of them. Then come the stages inside
the rows, 2^k elements of a tile as in hadamard_transform.py, padded with rows of zeros to a power of two.

Cost: x read once, y written once; m / 2 + 1 + k additions an element, 21-33 instructions and 20-31 bytes of exchange in
all (read off the sm_90 binary); 31 of either would still keep up with the memory of an H200.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import hadamard, scaled

MOST_ROWS = 28


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


def fits(m: int, part: int, device: torch.device) -> bool:
    """Whether a thread can hold m rows, and all threads can exchange a block through shared memory."""
    _, shared = blocks.chip(device)
    return m <= MOST_ROWS and 4 * triton.next_power_of_2(m) * part <= shared


def transform(
    x: Tensor, y: Tensor, signs: tuple[int, ...], part: int, pre: Tensor | None, post: Tensor | None, hi: float,
    lo: float,
) -> None:  # fmt: skip
    """Blocks of m · part; ``signs``: as ``_rows`` takes them."""
    m = len(signs)
    padded, count = triton.next_power_of_2(m), x.numel() // (m * part)
    together, warps = max(2048 // (padded * part), 1), max(padded * part // 2048, 1)
    blocks.launch(
        _rows, triton.cdiv(count, together),
        x, y, pre, post, count, x.shape[-1] // (m * part), hi, lo,
        SIGNS=signs, M=m, LOG_M=padded.bit_length() - 1, LOG_PART=part.bit_length() - 1,
        BLOCKS=together, DIGITS=blocks.digits(part, warps), EXACT=lo == 0.0, warps=warps,
    )  # fmt: skip
