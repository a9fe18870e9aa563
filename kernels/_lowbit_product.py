"""Products of many rows with low-bit weights on tensor cores: codes in int8, floats in 16-bit parts, and dx.

The weights are the left operand, decoded in the registers that the tensor cores read; x is the right one. A tile of the
layout is met once, field by field, each with the tile of x a plane further.

Weights are exact in every type. x in float32 goes in three parts of bfloat16, which hold its 24 bits, 16-bit x as it
is: each product is exact. Tensor cores cut off what they add to a sum, so tiles are summed from zero and added up
outside of them: errors are those of a float32 product. dx scales its gradients first
(a scale may be a row of W each) and takes 16-bit ones, whose products with a scale have more bits, in two parts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._lowbit_layout import Format, field, floats_at


class Plan(NamedTuple):
    """Of a program: rows of x, rows of W (columns of y), bytes of a plane at a time, stages of copies ahead, warps."""

    rows: int
    columns: int
    bytes: int
    stages: int
    warps: int

    def constants(self) -> dict[str, int]:
        sizes = {"ROWS": self.rows, "COLUMNS": self.columns, "BYTES": self.bytes, "STAGES": self.stages}
        return sizes | {"warps": self.warps} | blocks.all_registers(self.warps)


def floats_plan(rows: int, fields: int, size: int, device: torch.device) -> Plan:
    """A row has its bits in any batch: what is summed from zero, a tile of bytes, does not depend on their number."""
    _, shared = blocks.chip(device)
    bytes = 32 if fields == 5 else 64
    tile = (128, 128, 8) if rows > 32 and fields != 5 else (32, 64, 4)
    if 2 * bytes * (size * fields * tile[0] + tile[1]) > shared:
        tile = (32, 64, 4)
    stages = shared // (bytes * (size * fields * tile[0] + tile[1]))
    return Plan(tile[0], tile[1], bytes, min(max(stages, 1), 3), tile[2])


def input_plan(rows: int, fields: int, device: torch.device) -> Plan:
    """As ``floats_plan``: what is summed from zero, a tile of rows of W, does not depend on the number of rows."""
    _, shared = blocks.chip(device)
    if fields == 5:
        return Plan(64, 32, 64, 2, 4)
    return Plan(128, 64, 128, 3, 8) if rows > 64 and shared > 160 << 10 else Plan(64, 64, 64, 2, 4)


def codes_plan(rows: int, columns: int, fields: int, device: torch.device) -> Plan:
    """Large square tiles, since each fetches x anew from the second-level cache; smaller ones to busy every chip."""
    processors, shared = blocks.chip(device)
    size, wide = max(16, min(triton.next_power_of_2(rows), 128 if rows > 64 else 32)), 64
    while 4 * triton.cdiv(rows, size) * triton.cdiv(columns, wide) < 3 * processors and max(size, wide) > 32:
        if size <= 32:
            wide //= 2
        else:
            size //= 2
    bytes = 256 if rows <= 16 else 128 if rows <= 64 else min(128, 256 // triton.next_power_of_2(fields))
    while bytes > 32 and 3 * bytes * (fields * size + wide) > shared:
        bytes //= 2
    if 2 * bytes * (fields * size + wide) > shared:
        size //= 2
    most = shared // (bytes * (fields * size + wide))
    return Plan(size, wide, bytes, min(max(most // 2, 3), most, 4), 4)  # two programs a multiprocessor, if they fit


@triton.jit
def epilogue(total, factor, scale, bias, n, inside, STEP: tl.constexpr):
    """total · (factor · scale) + bias; scale is of each row of W (STEP 1) or of all (0)."""
    weight = tl.load(scale + n * STEP, mask=inside, other=0.0)
    if bias is None:
        return total * (factor * weight)
    else:
        return tl.fma(total, factor * weight, tl.load(bias + n, mask=inside, other=0.0))


@triton.jit
def _tile(groups_of_rows, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows of x and rows of W of this program; those that share weights are neighbours in time."""
    m = (tl.program_id(0) % groups_of_rows) * ROWS + tl.arange(0, ROWS)
    n = (tl.program_id(0) // groups_of_rows) * COLUMNS + tl.arange(0, COLUMNS)
    return m, n


@triton.jit
def _codes(x, x_scale, x_sum, layout, scale, bias, y, rows, columns, width, FIELDS: tl.constexpr, MULT: tl.constexpr,
           ZERO: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BYTES: tl.constexpr,
           STAGES: tl.constexpr):  # fmt: skip
    """y (rows, columns) of codes x (rows, FIELDS · width) with scales and sums."""
    m, n = _tile(tl.cdiv(rows, ROWS), ROWS, COLUMNS)
    m_inside, n_inside = (m < rows)[None, :], (n < columns)[:, None]
    x += (m.to(tl.int64) * (FIELDS * width))[None, :]
    layout += (n.to(tl.int64) * width)[:, None]
    total = tl.zeros([COLUMNS, ROWS], tl.int32)
    for first in tl.range(0, width, BYTES, num_stages=STAGES):
        p = first + tl.arange(0, BYTES)
        tile = tl.load(layout + p[None, :], mask=n_inside & (p < width)[None, :], other=0)  # (COLUMNS, BYTES)
        for f in tl.static_range(FIELDS):
            mask = (p < width)[:, None] & m_inside
            codes = tl.load(x + (f * width + p)[:, None], mask=mask, other=0)  # (BYTES, ROWS)
            total = tl.dot(field(tile, f, FIELDS), codes, total, out_dtype=tl.int32)
    total = MULT * total - ZERO * tl.load(x_sum + m, mask=m < rows, other=0)[None, :]
    factor = tl.load(x_scale + m, mask=m < rows, other=0.0)[None, :]
    result = epilogue(total.to(tl.float32), factor, scale, bias, n[:, None], n_inside, STEP)
    target = y + (m.to(tl.int64) * columns)[None, :] + n[:, None]
    tl.store(target, result.to(y.dtype.element_ty), mask=n_inside & m_inside)  # (COLUMNS, ROWS)


@triton.jit
def _floats(x, layout, scale, bias, y, rows, columns, depth, width, FIELDS: tl.constexpr, MULT: tl.constexpr,
            ZERO: tl.constexpr, STEP: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
            BYTES: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """y (rows, columns) of floats x (rows, depth)."""
    m, n = _tile(tl.cdiv(rows, ROWS), ROWS, COLUMNS)
    m_inside, n_inside = (m < rows)[None, :], (n < columns)[:, None]
    x += (m.to(tl.int64) * depth)[None, :]
    layout += (n.to(tl.int64) * width)[:, None]
    total = tl.zeros([COLUMNS, ROWS], tl.float32)
    for first in tl.range(0, width, BYTES, num_stages=STAGES):
        p = first + tl.arange(0, BYTES)
        tile = tl.load(layout + p[None, :], mask=n_inside & (p < width)[None, :], other=0)  # (COLUMNS, BYTES)
        for f in tl.static_range(FIELDS):
            k = f * width + p
            mask = ((p < width) & (k < depth))[:, None] & m_inside
            floats = tl.load(x + k[:, None], mask=mask, other=0.0)  # (BYTES, ROWS)
            weights = floats_at(tile, f, FIELDS, MULT, ZERO, floats.dtype == tl.float16)
            total += tile_product(weights, floats, PARTS, True)
    result = epilogue(total, 1.0, scale, bias, n[:, None], n_inside, STEP)
    target = y + (m.to(tl.int64) * columns)[None, :] + n[:, None]
    tl.store(target, result.to(y.dtype.element_ty), mask=n_inside & m_inside)  # (COLUMNS, ROWS)


@triton.jit
def tile_product(weights, floats, PARTS: tl.constexpr, WEIGHTS_FIRST: tl.constexpr):
    """weights · floats, or floats · weights, with the leading ``PARTS`` · 8 bits of the floats."""
    if floats.dtype == tl.float16:
        return tl.dot(weights, floats)
    else:
        rest = floats.to(tl.float32)
        total = tl.zeros([weights.shape[0], floats.shape[1]] if WEIGHTS_FIRST else [floats.shape[0], weights.shape[1]],
                         tl.float32)  # fmt: skip
        for _ in tl.static_range(PARTS):
            # Cut off, not rounded: the largest floats would round to infinity. And infinity has no rest.
            part = (rest.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
            rest = tl.where(tl.abs(rest) == float("inf"), 0.0, rest - part)
            if WEIGHTS_FIRST:
                total = tl.dot(weights, part.to(weights.dtype), total, input_precision="ieee")
            else:
                total = tl.dot(part.to(weights.dtype), weights, total, input_precision="ieee")
        return total


@triton.jit
def _input(grad, layout, scale, dx, rows, columns, depth, width, FIELDS: tl.constexpr, MULT: tl.constexpr,
           ZERO: tl.constexpr, STEP: tl.constexpr, PARTS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
           BYTES: tl.constexpr, STAGES: tl.constexpr):  # fmt: skip
    """dx (rows, depth) of grad (rows, columns): BYTES columns of one plane."""
    groups, across = tl.cdiv(rows, ROWS), tl.cdiv(width, BYTES)
    m = (tl.program_id(0) % groups) * ROWS + tl.arange(0, ROWS)
    at = tl.program_id(0) // groups // across
    p = (tl.program_id(0) // groups % across) * BYTES + tl.arange(0, BYTES)
    k = at * width + p
    m_inside, k_inside = (m < rows)[:, None], ((p < width) & (k < depth))[None, :]
    grad += (m.to(tl.int64) * columns)[:, None]
    total = tl.zeros([ROWS, BYTES], tl.float32)
    for first in tl.range(0, columns, COLUMNS, num_stages=STAGES):
        n = first + tl.arange(0, COLUMNS)
        factors = tl.load(scale + n * STEP, mask=n < columns, other=0.0)[None, :]
        slope = tl.load(grad + n[None, :], mask=m_inside & (n < columns)[None, :], other=0.0)  # (ROWS, COLUMNS)
        place = layout + (n.to(tl.int64) * width)[:, None] + p[None, :]
        tile = tl.load(place, mask=(n < columns)[:, None] & k_inside, other=0)  # (COLUMNS, BYTES)
        weights = floats_at(tile, at, FIELDS, MULT, ZERO, False)
        total += tile_product(weights, slope.to(tl.float32) * factors, PARTS, False)
    target = dx + (m.to(tl.int64) * depth)[:, None] + k[None, :]
    tl.store(target, total.to(dx.dtype.element_ty), mask=m_inside & k_inside)  # (ROWS, BYTES)


def multiply_codes(
    codes: Tensor, x_scale: Tensor, sums: Tensor, layout: Tensor, scale: Tensor, bias: Tensor | None, y: Tensor,
    form: Format,
) -> None:  # fmt: skip
    rows, columns, width = codes.shape[0], y.shape[1], layout.shape[1]
    p = codes_plan(rows, columns, form.fields, codes.device)
    blocks.launch(
        _codes, triton.cdiv(rows, p.rows) * triton.cdiv(columns, p.columns),
        codes, x_scale, sums, layout, scale, bias, y, rows, columns, width,
        FIELDS=form.fields, MULT=form.mult, ZERO=form.zero, STEP=scale.dim(), **p.constants(),
    )  # fmt: skip


def multiply_floats(x: Tensor, layout: Tensor, scale: Tensor, bias: Tensor | None, y: Tensor, form: Format) -> None:
    (rows, depth), columns, width, p = (
        x.shape,
        y.shape[1],
        layout.shape[1],
        floats_plan(len(x), form.fields, x.itemsize, x.device),
    )
    blocks.launch(
        _floats, triton.cdiv(rows, p.rows) * triton.cdiv(columns, p.columns),
        x, layout, scale, bias, y, rows, columns, depth, width,
        FIELDS=form.fields, MULT=form.mult, ZERO=form.zero, STEP=scale.dim(), PARTS=3 if x.itemsize == 4 else 1,
        **p.constants(),
    )  # fmt: skip


def multiply_transposed(grad: Tensor, layout: Tensor, scale: Tensor, dx: Tensor, form: Format) -> None:
    (rows, columns), depth, width = grad.shape, dx.shape[1], layout.shape[1]
    p = input_plan(rows, form.fields, grad.device)
    blocks.launch(
        _input, triton.cdiv(rows, p.rows) * form.fields * triton.cdiv(width, p.bytes),
        grad, layout, scale, dx, rows, columns, depth, width,
        FIELDS=form.fields, MULT=form.mult, ZERO=form.zero, STEP=scale.dim(), PARTS=3 if grad.itemsize == 4 else 2,
        **p.constants(),
    )  # fmt: skip
