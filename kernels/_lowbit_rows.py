"""Rows of x as the integer kernels take them: int8 codes, zeros up to the layout's width, a scale and a sum a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._early import able, open_door

LARGEST_CODE = tl.constexpr(127.0)
LEAST_ROW = tl.constexpr(2.0**-100)
INFINITY = tl.constexpr(0x7F800000)
HALF_TO_EVEN = tl.constexpr(1.5 * 2.0**23)


@triton.jit
def _chunk(x, first, columns, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Elements of one row, zeros from its end on: float32, or codes as int32."""
    k = first + tl.arange(0, BLOCK)
    if KIND == "int4":  # two a byte, the first in the low half, stored as code + 8
        byte = tl.load(x + k // 2, mask=k < columns, other=0x88).to(tl.int32)  # (BLOCK,)
        return (byte >> (k % 2 * 4) & 15) - 8
    else:
        elements = tl.load(x + k, mask=k < columns, other=0)  # (BLOCK,)
        return elements.to(tl.int32 if KIND == "int8" else tl.float32)


@triton.jit
def _rows(x, codes, scale, sums, columns, stride, width, KIND: tl.constexpr, BLOCK: tl.constexpr, OPEN: tl.constexpr):
    """One row: codes = round(x · (127 / max|x|)), half to even, scale = max|x| / 127; not finite: 0 and NaN.

    The numbers of ``common/quantize.h`` in the same order, so the codes are those of the CPU.
    """
    open_door(OPEN)
    row = tl.program_id(0).to(tl.int64)
    x += row * stride
    codes += row * width
    inverse = 0.0
    if KIND == "float":
        top = tl.zeros([BLOCK], tl.int32)
        for first in range(0, columns, BLOCK):
            bits = _chunk(x, first, columns, KIND, BLOCK).to(tl.int32, bitcast=True) & 0x7FFFFFFF
            top = tl.maximum(top, bits)
        top = tl.max(top, 0)
        largest = top.to(tl.float32, bitcast=True)
        if top >= INFINITY:
            tl.store(scale + row, float("nan"))
        elif largest < LEAST_ROW:
            tl.store(scale + row, 0.0)
        else:
            inverse = tl.div_rn(LARGEST_CODE, largest)
            tl.store(scale + row, tl.div_rn(largest, LARGEST_CODE))
    total = tl.zeros([BLOCK], tl.int32)
    for first in range(0, width, BLOCK):
        code = _chunk(x, first, columns, KIND, BLOCK)
        if KIND == "float":
            code = tl.where(inverse > 0.0, (code * inverse + HALF_TO_EVEN) - HALF_TO_EVEN, 0.0).to(tl.int32)
        k = first + tl.arange(0, BLOCK)
        tl.store(codes + k, code.to(tl.int8), mask=k < width)  # (BLOCK,)
        total += code
    tl.store(sums + row, tl.sum(total, 0))


def codes_of(x: Tensor, x_scale: Tensor | None, columns: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (M, K), or (M, K/2) of packed int4 codes -> codes (M, width) int8, scales (M,), sums (M,) int32."""
    rows = x.shape[0]
    codes = x.new_empty(rows, width, dtype=torch.int8)
    sums = x.new_empty(rows, dtype=torch.int32)
    scale = x.new_empty(rows, dtype=torch.float32) if x_scale is None else x_scale
    kind = "float" if x_scale is None else "int8" if x.dtype == torch.int8 else "int4"
    block = min(triton.next_power_of_2(max(width, 512)), 16384)
    blocks.launch(
        _rows, rows, x, codes, scale, sums, columns, x.shape[1], width,
        KIND=kind, BLOCK=block, OPEN=able(x.device), warps=max(block // 1024, 4),
    )  # fmt: skip
    return codes, scale, sums
