"""Products of x with weights of few bits on GPUs: y = x Wᵀ, W (N, K) = scale · codes, and dx = (grad · scale) W.

    rows of x    x in codes, or quantised to them first      x in floats, exact
    1, 2         words of four bytes and dp4a (here)         tensor cores, 16-bit parts
    more         tensor cores, int8 (_lowbit_product.py)     (_lowbit_product.py)

Few rows are bound by the bytes of the weights: a program takes 4 or 8 rows of W, a thread 16 bytes of each, all of them
on their way at once and multiplied by the same codes of x; lanes and warps share K and add up at the end, so there are
neither atomics nor a second pass. From Hopper on they fetch weights while the kernel before is running: _early.py.
Instructions a weight at M = 1 and K = 8192, read off the sm_90 binary: 1.2 (trits 1.9, binary 1.0); 1.95 would still
keep up with the memory of an H200 at 2 bits a weight.

Sums of codes are exact in int32, whatever their order; y is fma(float(sum), x_scale · scale, bias) everywhere.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import assembly
from ._early import early, open_door, wait
from ._lowbit_layout import Format, following, format_of, lowbit_layout, lowbit_layout_codes, start
from ._lowbit_product import epilogue, multiply_codes, multiply_floats, multiply_transposed
from ._lowbit_rows import codes_of

__all__ = ["lowbit_layout", "lowbit_layout_codes", "lowbit_matmul", "lowbit_matmul_input"]


def few_rows() -> int:
    """Rows that are multiplied word by word. From 3 on a tile of 16 decodes less, and fetches x less often.

    On AMD's chips, where no dp4a is named, a tile is for one row too.
    """
    return 0 if blocks.amd() else 2


@triton.jit
def _dot4(a, b, total):
    """total + the sum of the products of the four signed bytes of two words."""
    if assembly():
        return tl.inline_asm_elementwise(
            "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [a, b, total], tl.int32, True, pack=1
        )
    else:
        for i in tl.static_range(4):
            total += ((a << 24 - 8 * i) >> 24) * ((b << 24 - 8 * i) >> 24)
        return total


@triton.constexpr_function
def _dot_words(fields: int) -> str:
    """$0 = the products of words $4 to $7 and of the codes behind them, four a field; $1 to $3 = 0.

    A field is not shifted down to be multiplied: as many sums as there are words are shifted at once instead, from the
    highest field to the lowest.
    """
    bits, found = 8 // fields, "{ .reg .b32 t, a; mov.b32 a, 0; mov.b32 $1, 0; mov.b32 $2, 0; mov.b32 $3, 0;"
    for f in range(fields)[::-1]:
        for word in range(4):
            found += f" and.b32 t, ${4 + word}, {0x01010101 * ((1 << bits) - 1) << bits * f};"
            found += f" dp4a.u32.s32 a, t, ${8 + 4 * f + word}, a;"
        found += f" shr.s32 a, a, {bits};" if f else " mov.b32 $0, a;"
    return found + " }"


@triton.constexpr_function
def _operands(fields: int) -> str:
    return "=r,=r,=r,=r" + ",r" * (4 + 4 * fields)


@triton.jit
def _add_words(total, words, codes, FIELDS: tl.constexpr, WORDS: tl.constexpr):
    """total (ROWS, COLUMNS, WORDS / 4) + the products of words of W and codes of x, a field an item."""
    if assembly() and FIELDS != 1 and FIELDS != 5:
        asm: tl.constexpr = _dot_words(FIELDS)
        some = tl.inline_asm_elementwise(asm, _operands(FIELDS), (words,) + codes, tl.int32, True, pack=4)
    else:
        some = tl.zeros([total.shape[0], total.shape[1], WORDS], tl.int32)
        even, odd = start(words, FIELDS)
        for f in tl.static_range(FIELDS):
            u, even, odd = following(even, odd, f, FIELDS)
            some = _dot4(u, codes[f], some)
    return total + tl.sum(tl.reshape(some, [total.shape[0], total.shape[1], WORDS // 4, 4]), 3)


@triton.jit
def _few_rows(x, x_scale, layout, scale, bias, y, rows, columns, lines, FIELDS: tl.constexpr, MULT: tl.constexpr,
              ZERO: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WORDS: tl.constexpr,
              PARTS: tl.constexpr, EARLY: tl.constexpr):  # fmt: skip
    """y (rows, columns) of codes x; x (rows, FIELDS · 4 · lines) and layout (columns, 4 · lines) are int32 words."""
    open_door(EARLY)
    width = 4 * lines  # so that the compiler knows it can load four words at once
    n = tl.program_id(0) * (PARTS * COLUMNS) + tl.arange(0, COLUMNS)[None, :, None]
    m = tl.arange(0, ROWS)[:, None, None]
    x += m * (FIELDS * width)
    totals = ()
    for _ in tl.static_range(PARTS):
        totals = totals + (tl.zeros([ROWS, COLUMNS, WORDS // 4], tl.int32),)
    sums = tl.zeros([ROWS, 1, WORDS], tl.int32)
    for first in range(0, width, WORDS):
        i = first + tl.arange(0, WORDS)[None, None, :]
        words, codes, added = (), (), ()
        for part in tl.static_range(PARTS):
            own = n + part * COLUMNS
            place = layout + own.to(tl.int64) * width + i
            words = words + (tl.load(place, mask=(own < columns) & (i < width), other=0),)  # (1, COLUMNS, WORDS)
        wait(EARLY)
        for f in tl.static_range(FIELDS):
            codes = codes + (tl.load(x + f * width + i, mask=(m < rows) & (i < width), other=0),)  # (ROWS, 1, WORDS)
            sums = _dot4(codes[f], tl.full([ROWS, 1, WORDS], 0x01010101, tl.int32), sums)
        for part in tl.static_range(PARTS):
            added = added + (_add_words(totals[part], words[part], codes, FIELDS, WORDS),)
        totals = added
    m = tl.arange(0, ROWS)[:, None]
    factor = tl.load(x_scale + m, mask=m < rows, other=0.0)
    for part in tl.static_range(PARTS):
        own = tl.program_id(0) * (PARTS * COLUMNS) + part * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        total = MULT * tl.sum(totals[part], 2) - ZERO * tl.sum(sums, 2)
        result = epilogue(total.to(tl.float32), factor, scale, bias, own, own < columns, STEP)
        mask = (m < rows) & (own < columns)
        tl.store(y + m * columns + own, result.to(y.dtype.element_ty), mask=mask)  # (ROWS, COLUMNS)


def lowbit_matmul(
    x: Tensor, x_scale: Tensor | None, layout: Tensor, scale: Tensor, bias: Tensor | None, latent: Tensor | None,
    encoding: int, out_features: int, exact: bool,
) -> Tensor:  # fmt: skip
    """``latent`` is for the gradient only."""
    form = format_of(encoding)
    coded = x_scale is not None
    if not coded:
        blocks.require_floats("x", x.dtype)
    packing = 2 if x.dtype == torch.uint8 else 1
    y = x.new_empty(*x.shape[:-1], out_features, dtype=torch.float32 if coded else x.dtype)
    if not y.numel():
        return y
    result = y.view(-1, out_features)
    flat = x.reshape(result.shape[0], x.shape[-1]).contiguous()
    layout, scale, bias = layout.contiguous(), scale.contiguous(), bias if bias is None else bias.contiguous()
    if exact and not coded:
        multiply_floats(flat, layout, scale, bias, result, form)
        return y
    row_scale = x_scale.reshape(-1).contiguous() if coded else None
    width = form.fields * layout.shape[1]
    few = flat.shape[0] <= few_rows()
    if few and flat.dtype == torch.int8 and flat.shape[1] == width and flat.data_ptr() % 16 == 0:
        _multiply_few(flat, row_scale, layout, scale, bias, result, form)
        return y
    codes, row_scale, sums = codes_of(flat, row_scale, packing * x.shape[-1], width)
    if few:
        _multiply_few(codes, row_scale, layout, scale, bias, result, form)
    else:
        multiply_codes(codes, row_scale, sums, layout, scale, bias, result, form)
    return y


def _multiply_few(
    codes: Tensor, x_scale: Tensor, layout: Tensor, scale: Tensor, bias: Tensor | None, y: Tensor, form: Format
) -> None:
    rows, columns, lines = codes.shape[0], y.shape[1], layout.shape[1] // 16
    few = triton.next_power_of_2(rows)
    size, most, parts = few_rows_plan(few, 4 * lines, form.fields)
    blocks.launch(
        _few_rows, triton.cdiv(columns, parts * size),
        codes.view(torch.int32), x_scale, layout.view(torch.int32), scale, bias, y, rows, columns, lines,
        FIELDS=form.fields, MULT=form.mult, ZERO=form.zero, STEP=scale.dim(),
        ROWS=few, COLUMNS=size, WORDS=most, PARTS=parts, warps=most // 128, **early(layout),
    )  # fmt: skip


def few_rows_plan(rows: int, words: int, fields: int) -> tuple[int, int, int]:
    """(rows of W at a time, words of each, times) of a program; a warp takes 128 words of every row.

    Small programs, so that those of the next launch find room beside them; trits are worth more rows for each code.
    """
    size = (8 if fields == 5 else 4) // rows
    most = 128 if words <= 128 else 256 if words <= 512 else 512
    return size, most, 2 if words <= 256 else 1


def lowbit_matmul_input(grad: Tensor, layout: Tensor, scale: Tensor, encoding: int, in_features: int) -> Tensor:
    blocks.require_floats("grad", grad.dtype)
    dx = grad.new_empty(*grad.shape[:-1], in_features)
    if dx.numel():
        result = dx.view(-1, in_features)
        flat = grad.reshape(result.shape[0], grad.shape[-1]).contiguous()
        multiply_transposed(flat, layout.contiguous(), scale.contiguous(), result, format_of(encoding))
    return dx
