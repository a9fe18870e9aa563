"""Codes and row scales of the Hadamard transform of the last axis on GPUs: the transform stays in registers.

A row is padded to a power of two of columns; a program takes one row, or as many as make 1024 columns, with a warp for
every 2048. Rows of more than 32768 columns go through registers twice, 16384 columns at a time (32768 in blocks of as
many), for their largest and then for codes; the second time x comes from L2. Blocks of m·2^k go through
_hadamard_factor.py first.

Cost: x read once, D or D / 2 bytes a row written. On sm_90, 4096 columns of bfloat16: 25 instructions and 19 bytes of
local exchange an element, where the memory of an H200 takes as long as 23 of either.

As integers the bits of magnitudes are in order, and above them all are those of a NaN. Adding 1.5 · 2^23 rounds half to
even and leaves the code in the lowest byte.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import assembly, hadamard, scaled
from ._hadamard_factor import across, at_once, fits

LARGEST_TILE = 1 << 14


@triton.jit
def _load(x, pre, first, left, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    offsets = tl.arange(0, ROWS * COLUMNS)  # (ROWS · COLUMNS,) rows one after the other
    row, column = offsets // COLUMNS, first + offsets % COLUMNS
    inside = (row < left) & (column < width)
    tile = tl.load(x + row * width + column, mask=inside, other=0.0).to(tl.float32)  # (ROWS · COLUMNS,)
    if pre is not None:
        tile *= tl.load(pre + column, mask=column < width, other=0.0).to(tl.float32)  # (ROWS · COLUMNS,)
    return tile


@triton.jit
def _chunk(x, pre, first, left, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, HALVES: tl.constexpr,
           LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr):  # fmt: skip
    """HALVES · COLUMNS transformed columns of each row from column ``first`` on; the second half is the first if 1."""
    CROSSES: tl.constexpr = 2**LOG_BLOCK > COLUMNS
    LOG_PART: tl.constexpr = LOG_BLOCK - 1 if CROSSES else LOG_BLOCK
    a = hadamard(_load(x, pre, first, left, width, ROWS, COLUMNS), ROWS * COLUMNS, LOG_PART, DIGITS)
    if HALVES == 2:
        b = hadamard(_load(x, pre, first + COLUMNS, left, width, ROWS, COLUMNS), ROWS * COLUMNS, LOG_PART, DIGITS)
        if CROSSES:
            a, b = a + b, a - b
        return a, b
    return a, a


@triton.jit
def _largest(tile, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Bits of each row's largest magnitude, (ROWS,) int32: of the signed order among positive, unsigned negative."""
    bits = tl.reshape(tile.to(tl.int32, bitcast=True), [ROWS, COLUMNS])
    negative = tl.max(bits.to(tl.uint32, bitcast=True), axis=1) & 0x7FFFFFFF
    return tl.maximum(tl.max(bits, axis=1), negative.to(tl.int32, bitcast=True))


@triton.jit
def _steps(bits, scales, left, limit, hi, lo, ROWS: tl.constexpr, EXACT: tl.constexpr):
    """What codes are made with, (ROWS,), 0 where all are 0; stores the rows' scales."""
    a = bits.to(tl.float32, bitcast=True)
    largest = tl.abs(scaled(a, hi, lo, EXACT))
    finite = largest - largest == 0.0
    live = finite & (a >= 2.0**-100) & (largest >= 2.0**-100)
    top = tl.full([ROWS], limit, tl.float32)
    step = tl.where(live, tl.div_rn(largest, top), tl.where(finite, 0.0, float("nan")))
    row = tl.arange(0, ROWS)  # (ROWS,)
    tl.store(scales + row, step, mask=row < left)  # (ROWS,)
    return tl.where(live, tl.div_rn(tl.where(hi < 0.0, -top, top), tl.where(live, a, 1.0)), 0.0)


@triton.jit
def _store(codes, tile, inverse, first, left, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr, NIBBLES: tl.constexpr):
    inverse = tl.expand_dims(inverse, 1)
    tile = tl.reshape(tile, [ROWS, COLUMNS])
    shifted = tile * inverse + 12582912.0
    live = tl.where(inverse != 0.0, -1, 0)
    if assembly():  # four lowest bytes at once: the compiler widens each to 16 bits before
        code = tl.inline_asm_elementwise(
            "{ .reg .b32 a, b; prmt.b32 a, $1, $2, 0x40; prmt.b32 b, $3, $4, 0x40; prmt.b32 a, a, b, 0x5410; "
            "and.b32 $0, a, $5; }",
            "=r,r,r,r,r,r,r,r,r", [shifted, live], tl.int8, is_pure=True, pack=4,
        )  # fmt: skip
    else:
        code = (shifted.to(tl.int32, bitcast=True) & live).to(tl.int8)
    if NIBBLES:
        low, high = tl.split(tl.reshape(code, [ROWS, COLUMNS // 2, 2]))
        code = (low + 8) | ((high + 8) << 4)
        width, first = (width + 1) // 2, first // 2
    BYTES: tl.constexpr = COLUMNS // 2 if NIBBLES else COLUMNS
    row = tl.expand_dims(tl.arange(0, ROWS), 1)
    column = first + tl.expand_dims(tl.arange(0, BYTES), 0)
    inside = (row < left) & (column < width)
    tl.store(codes + row * width + column, code.to(codes.dtype.element_ty), mask=inside)  # (ROWS, BYTES)


@triton.jit
def _quantize(x, pre, codes, scales, rows, width, chunks, limit, hi, lo, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
              HALVES: tl.constexpr, WIDE: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr,
              NIBBLES: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    first_row = tl.cast(tl.program_id(0), tl.int64) * ROWS
    left = tl.minimum(rows - first_row, ROWS).to(tl.int32)
    x += first_row * width
    codes += first_row * ((width + 1) // 2 if NIBBLES else width)
    scales += first_row
    if not WIDE:
        a, b = _chunk(x, pre, 0, left, width, ROWS, COLUMNS, HALVES, LOG_BLOCK, DIGITS)
        bits = _largest(a, ROWS, COLUMNS)
        if HALVES == 2:
            bits = tl.maximum(bits, _largest(b, ROWS, COLUMNS))
        inverse = _steps(bits, scales, left, limit, hi, lo, ROWS, EXACT)
        _store(codes, a, inverse, 0, left, width, ROWS, COLUMNS, NIBBLES)
        if HALVES == 2:
            _store(codes, b, inverse, COLUMNS, left, width, ROWS, COLUMNS, NIBBLES)
    else:
        bits = tl.zeros([ROWS], tl.int32)
        for chunk in range(chunks):
            first = chunk * (HALVES * COLUMNS)
            a, b = _chunk(x, pre, first, left, width, ROWS, COLUMNS, HALVES, LOG_BLOCK, DIGITS)
            bits = tl.maximum(bits, tl.maximum(_largest(a, ROWS, COLUMNS), _largest(b, ROWS, COLUMNS)))
        inverse = _steps(bits, scales, left, limit, hi, lo, ROWS, EXACT)
        for chunk in range(chunks):
            first = chunk * (HALVES * COLUMNS)
            a, b = _chunk(x, pre, first, left, width, ROWS, COLUMNS, HALVES, LOG_BLOCK, DIGITS)
            _store(codes, a, inverse, first, left, width, ROWS, COLUMNS, NIBBLES)
            if HALVES == 2:
                _store(codes, b, inverse, first + COLUMNS, left, width, ROWS, COLUMNS, NIBBLES)


def plan(width: int, block: int) -> tuple[int, int, int, int, int]:
    """(rows, columns, halves, chunks, warps) of a program for rows of ``width`` in blocks of ``block``."""
    columns = triton.next_power_of_2(max(width, 2))
    size = min(max(columns, 1024), LARGEST_TILE)
    halves = 2 if columns == 2 * size or block > size else 1
    rows, columns = max(size // columns, 1), min(columns, size)
    return rows, columns, halves, triton.cdiv(width, columns * halves), max(size // 2048, 1)


def hadamard_quantize(
    x: Tensor, block_size: int, scale: float | None, pre: Tensor | None, bits: int, nibbles: bool
) -> tuple[Tensor, Tensor]:
    blocks.require_floats("x", x.dtype)
    blocks.require_block(block_size)
    *lead, width = x.shape
    if nibbles:
        codes = x.new_empty(*lead, (width + 1) // 2, dtype=torch.uint8)
    else:
        codes = x.new_empty(*lead, width, dtype=torch.int8)
    if not width:
        return codes, x.new_zeros(lead, dtype=torch.float32)
    scales = x.new_empty(lead, dtype=torch.float32)
    hi, lo = blocks.split_scale(scale, block_size)
    if fits(block_size, x.device):
        y = torch.empty_like(x, dtype=torch.float32, memory_format=torch.contiguous_format)
        at_once(x.contiguous(), y, block_size, pre, None, 1.0, 0.0, False)
        x, pre, block_size = y, None, 1
    elif block_size & (block_size - 1):
        x, block_size = across(x.contiguous(), block_size, pre, False)
        pre = None
    rows, columns, halves, chunks, warps = plan(width, block_size)
    blocks.launch(
        _quantize, triton.cdiv(scales.numel(), rows),
        x.contiguous(), pre if pre is None else pre.contiguous(), codes, scales, scales.numel(), width, chunks,
        float(2 ** (bits - 1) - 1), hi, lo,
        ROWS=rows, COLUMNS=columns, HALVES=halves, WIDE=chunks > 1, LOG_BLOCK=block_size.bit_length() - 1,
        DIGITS=blocks.digits(min(columns, block_size), warps), NIBBLES=nibbles, EXACT=lo == 0.0, warps=warps,
    )  # fmt: skip
    return codes, scales
