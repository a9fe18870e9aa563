"""Hadamard transform of the last axis on GPUs: y = scale · post ∘ ((I_q ⊗ S) (pre ∘ x)).

A contiguous x is a stream of blocks of 2**LOG_BLOCK elements; a program takes tiles of whole blocks.

    block      tile               warps   local exchange, bytes an element
    <= 1024    1024 elements      1       <= 16
    2048       1 block            1       16
    4096       1 block            4       20 (float32: 24)
    8192       1 block            4       20
    16384      1 block            8       20 (float32: 24)
    32768      1 block, 2 halves  16      24, and 2 (4) more where the next block is fetched meanwhile

Blocks of m·2^k: _hadamard_factor.py.

Cost: x read once, y written once; log2(block) additions an element and 5-25 instructions in all (read off the sm_90
binary, no pre or post). 31 instructions, or 31 bytes of exchange, would still keep up with the memory of an H200 for
16-bit elements. Up to 2048 elements one warp owns a tile: no barrier among warps.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import hadamard, scaled
from ._hadamard_factor import across, at_once, fits


@triton.jit
def _columns(start, first_block, q, SIZE: tl.constexpr, LOG_BLOCK: tl.constexpr):
    """Columns of elements [start, start + SIZE) of a tile whose first block is block ``first_block`` of its row."""
    offsets = start + tl.arange(0, SIZE)  # (SIZE,) within the tile
    return ((first_block + (offsets >> LOG_BLOCK)) % q) * 2**LOG_BLOCK + offsets % 2**LOG_BLOCK


@triton.jit
def _load(x, pre, start, left, first_block, q, SIZE: tl.constexpr, LOG_BLOCK: tl.constexpr):
    offsets = start + tl.arange(0, SIZE)
    tile = tl.load(x + offsets, mask=offsets < left, other=0.0).to(tl.float32)  # (SIZE,)
    if pre is not None:
        tile *= tl.load(pre + _columns(start, first_block, q, SIZE, LOG_BLOCK)).to(tl.float32)  # (SIZE,)
    return tile


@triton.jit
def _store(y, tile, post, start, left, first_block, q, hi, lo, SIZE: tl.constexpr, LOG_BLOCK: tl.constexpr,
           EXACT: tl.constexpr):  # fmt: skip
    offsets = start + tl.arange(0, SIZE)
    tile = scaled(tile, hi, lo, EXACT)
    if post is not None:
        tile *= tl.load(post + _columns(start, first_block, q, SIZE, LOG_BLOCK)).to(tl.float32)  # (SIZE,)
    tl.store(y + offsets, tile.to(y.dtype.element_ty), mask=offsets < left)  # (SIZE,)


@triton.jit
def _tile(tile, x, y, pre, post, elements, q, hi, lo, SIZE: tl.constexpr, HALVES: tl.constexpr,
          LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr, EXACT: tl.constexpr):  # fmt: skip
    """One tile of HALVES · SIZE elements; SIZE holds whole blocks, or half a block when HALVES is 2."""
    LOG_PART: tl.constexpr = LOG_BLOCK - HALVES + 1
    first = tl.cast(tile, tl.int64) * (HALVES * SIZE)
    left = tl.minimum(elements - first, HALVES * SIZE).to(tl.int32)
    first_block = ((first >> LOG_BLOCK) % q).to(tl.int32)
    x += first
    y += first
    a = hadamard(_load(x, pre, 0, left, first_block, q, SIZE, LOG_BLOCK), SIZE, LOG_PART, DIGITS)
    if HALVES == 2:
        b = hadamard(_load(x, pre, SIZE, left, first_block, q, SIZE, LOG_BLOCK), SIZE, LOG_PART, DIGITS)
        _store(y, a - b, post, SIZE, left, first_block, q, hi, lo, SIZE, LOG_BLOCK, EXACT)
        a += b
    _store(y, a, post, 0, left, first_block, q, hi, lo, SIZE, LOG_BLOCK, EXACT)


@triton.jit
def _transform(x, y, pre, post, elements, tiles, q, hi, lo, SIZE: tl.constexpr, HALVES: tl.constexpr,
               LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr, EXACT: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """One tile a program; with two stages, a program for every multiprocessor fetches each tile during the last."""
    if STAGES == 1:
        _tile(tl.program_id(0), x, y, pre, post, elements, q, hi, lo, SIZE, HALVES, LOG_BLOCK, DIGITS, EXACT)
    else:
        for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), num_stages=STAGES):
            _tile(tile, x, y, pre, post, elements, q, hi, lo, SIZE, HALVES, LOG_BLOCK, DIGITS, EXACT)


def plan(block: int) -> tuple[int, int, int]:
    """(elements transformed at once, 1 or 2 of them a tile, warps) for blocks of ``block`` elements."""
    size = min(max(block, 1024), 16384)
    return size, max(block // size, 1), 1 if size <= 2048 else 4 if size <= 8192 else 8 if size == block else 16


def hadamard_transform(
    x: Tensor, block_size: int, scale: float | None, pre: Tensor | None, post: Tensor | None, transpose: bool
) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _run(x.contiguous(), y, block_size, scale, pre, post, transpose)
    return y


def hadamard_transform_(
    x: Tensor, block_size: int, scale: float | None, pre: Tensor | None, post: Tensor | None, transpose: bool
) -> None:
    hadamard_transform_out(x, block_size, scale, pre, post, transpose, x)


def hadamard_transform_out(
    x: Tensor,
    block_size: int,
    scale: float | None,
    pre: Tensor | None,
    post: Tensor | None,
    transpose: bool,
    out: Tensor,
) -> None:
    if out.is_contiguous():
        _run(x.contiguous(), out, block_size, scale, pre, post, transpose)
    else:
        out.copy_(hadamard_transform(x, block_size, scale, pre, post, transpose))


def _run(
    x: Tensor, y: Tensor, block_size: int, scale: float | None, pre: Tensor | None, post: Tensor | None, transpose: bool
) -> None:
    """Both contiguous; they may be the same memory, since a tile is read before it is written."""
    blocks.require_floats("x", x.dtype)
    blocks.require_block(block_size)
    if not x.numel():
        return
    hi, lo = blocks.split_scale(scale, block_size)
    if fits(block_size, x.device):
        at_once(x, y, block_size, pre, post, hi, lo, transpose)
        return
    if block_size & (block_size - 1):
        x, block_size = across(x, block_size, pre, transpose)
        pre = None
    size, halves, warps = plan(block_size)
    tiles, stages = triton.cdiv(x.numel(), size * halves), 1
    programs = tiles
    if halves == 2:  # alone on its multiprocessor, a program has nobody else to hide the latency of its loads
        processors, shared = blocks.chip(x.device)
        fetched = sum(read.element_size() for read in (x, pre, post) if read is not None)
        if 4 * size + halves * size * fetched <= shared:
            programs, stages = min(tiles, processors), 2
    pre, post = (vector if vector is None else vector.contiguous() for vector in (pre, post))
    blocks.launch(
        _transform, programs,
        x, y, pre, post, x.numel(), tiles, x.shape[-1] // block_size, hi, lo,
        SIZE=size, HALVES=halves, LOG_BLOCK=block_size.bit_length() - 1,
        DIGITS=blocks.digits(min(size, block_size), warps), EXACT=lo == 0.0, STAGES=stages, warps=warps,
    )  # fmt: skip
