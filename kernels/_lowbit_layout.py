"""Low-bit weights as GPU kernels read them: a planar layout, derived once from the storage format, and its decoding.

    layout (N, P) uint8, F fields a byte: field f of byte p is W[n, f · P + p], P = ceil(K / F) rounded up to 16

            byte 0      byte 1      byte 2    ...   byte P - 1
    f = 0   k = 0       1           2               P - 1           W = mult · u - zero, F:
    f = 1   k = P       P + 1       P + 2           2P - 1          binary 2u - 1, 8    int2 u - 2, 4
    f = 2   k = 2P      ...                                         ternary u - 1, 4    int4 u - 8, 2
                                                                    trits u - 1, 5      int8 u, 1 (two's complement)

So a field of neighbouring bytes is multiplied by neighbouring elements of x and nothing is interleaved: a word of four
bytes, shifted and masked, is one operand of dp4a, and a tile of bytes one of the tensor cores. Fields are the bits
f · 8/F and up of their byte. Trits are the digits of a fraction instead: a byte is ceil(256/243 · Σ_f u_f 3^(4-f)), and
each multiplication by 3 brings the next digit above its eight bits. From K on fields are 0, and x is 0 there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import _blocks as blocks
from ._blocks import assembly, interpreted


class Format(NamedTuple):
    """How a byte is read: ``mult`` · u - ``zero`` for each of its fields; codes are those the storage may hold."""

    fields: int
    mult: int
    zero: int
    lowest: int
    highest: int


def format_of(encoding: int) -> Format:
    """0 binary, 1 ternary of 2 bits, 2 to 8 int-n of that many bits, 9 ternary of five trits a byte."""
    if encoding == 0:
        return Format(8, 2, 1, -1, 1)
    if encoding in (1, 9):
        return Format(4 if encoding == 1 else 5, 1, 1, -1, 1)
    half = 1 << encoding - 1
    fields = 4 if encoding == 2 else 2 if encoding <= 4 else 1
    return Format(fields, 1, {4: 2, 2: 8, 1: 0}[fields], -half, half - 1)


def plane(encoding: int, columns: int) -> int:
    """P: bytes of a row of the layout."""
    return triton.cdiv(triton.cdiv(columns, format_of(encoding).fields), 16) * 16


@triton.constexpr_function
def _mask(fields: int) -> int:
    return 0x01010101 * ((1 << 8 // fields) - 1)


@triton.constexpr_function
def _field_of_bytes(fields: int, field: int) -> str:
    """$0 = the field of each of the four bytes of $1."""
    if fields != 5:
        return f"shr.u32 $0, $1, {8 // fields * field}; and.b32 $0, $0, {_mask(fields)};"
    half = f"mul.lo.u32 t, t, {3**field}; and.b32 t, t, 0xff00ff; mul.lo.u32 t, t, 3;"
    return (
        f"{{ .reg .b32 t, e; and.b32 t, $1, 0xff00ff; {half} mov.b32 e, t;"
        f" shr.u32 t, $1, 8; and.b32 t, t, 0xff00ff; {half} prmt.b32 $0, e, t, 0x7351; }}"
    )


@triton.jit
def field(tile, FIELD: tl.constexpr, FIELDS: tl.constexpr):
    """u, int8, of the field of a tile of bytes, uint8."""
    if FIELDS == 1:
        return tile.to(tl.int8, bitcast=True)
    elif assembly():
        return tl.inline_asm_elementwise(_field_of_bytes(FIELDS, FIELD), "=r,r", [tile], tl.int8, True, pack=4)
    else:
        return field_at(tile, FIELD, FIELDS)


@triton.jit
def field_at(tile, at, FIELDS: tl.constexpr):
    """As ``field``, for one that is known at run time only."""
    if FIELDS == 1:
        return tile.to(tl.int8, bitcast=True)
    elif FIELDS == 5:
        return (((tile.to(tl.int32) * _power_of_3(at) & 255) * 3) >> 8).to(tl.int8)
    else:
        return (tile.to(tl.int32) >> (at * (8 // FIELDS)) & (2 ** (8 // FIELDS) - 1)).to(tl.int8)


@triton.constexpr_function
def _floats_of_bytes(fields: int, mult: int, zero: int, half: bool) -> str:
    """$0, $1 = mult · u - zero of the four bytes of $2, in pairs of bfloat16 (half: float16); $3: where the field is.

    u becomes the last bits of a float whose unit they count, 128 + u in bfloat16, 1024 + u in float16, so ``base | n``
    is the number base + n; adding ``octave`` doubles one.
    """
    kind, base, one, octave = ("f16x2", 0x6400, 0x3C00, 0x400) if half else ("bf16x2", 0x4300, 0x3F80, 0x80)
    mask, pair, minus = (1 << 8 // fields) - 1, 0x10001, 0x8000
    factor, shift = (one, minus | base | zero) if mult == 1 else (one + octave, minus | base + octave)
    found = f"{{ .reg .b32 a, b, f, s, o, l; mov.b32 f, {factor * pair}; mov.b32 s, {shift * pair};"
    found += f" mov.b32 o, {one * pair}; mov.b32 l, {(minus | one) * pair};"
    found += " prmt.b32 a, $2, 0, 0x4140; prmt.b32 b, $2, 0, 0x4342;"
    for t, to in (("a", "$0"), ("b", "$1")):
        found += f" shr.u32 {t}, {t}, $3; lop3.b32 {t}, {t}, {mask * pair}, {base * pair}, 0xEA;"
        if mult == 1:
            found += f" fma.rn.{kind} {to}, {t}, f, s;"
        else:
            found += f" fma.rn.{kind} {t}, {t}, f, s; fma.rn.{kind} {to}, o, l, {t};"
    return found + " }"


@triton.jit
def floats_at(tile, at, FIELDS: tl.constexpr, MULT: tl.constexpr, ZERO: tl.constexpr, HALF: tl.constexpr):
    """Weights of field ``at`` of a tile of bytes, without their scale, in bfloat16, HALF: float16.

    The interpreter multiplies no bfloat16: there float32.
    """
    if assembly() and FIELDS != 1 and FIELDS != 5:
        shift = tl.full(tile.shape, at * (8 // FIELDS), tl.int32)
        asm: tl.constexpr = _floats_of_bytes(FIELDS, MULT, ZERO, HALF)
        operands: tl.constexpr = "=r,=r,r,r,r,r,r"
        if HALF:
            return tl.inline_asm_elementwise(asm, operands, [tile, shift], tl.float16, True, pack=4)
        else:
            return tl.inline_asm_elementwise(asm, operands, [tile, shift], tl.bfloat16, True, pack=4)
    else:
        floats = (MULT * field_at(tile, at, FIELDS).to(tl.int32) - ZERO).to(tl.float32)
        return floats.to(tl.float16) if HALF else floats if interpreted() else floats.to(tl.bfloat16)


@triton.jit
def start(word, FIELDS: tl.constexpr):
    """What ``following`` takes the fields of int32 words of four bytes from, the first one first."""
    if FIELDS == 5:
        return word & 0x00FF00FF, (word >> 8) & 0x00FF00FF
    else:
        return word, word


@triton.jit
def following(even, odd, FIELD: tl.constexpr, FIELDS: tl.constexpr):
    """The field of each byte of a word, as the bytes of a word, and what is left."""
    if FIELDS == 1:
        return even, even, odd
    elif FIELDS == 5:
        even *= 3
        odd *= 3
        if assembly():
            digits = tl.inline_asm_elementwise(
                "prmt.b32 $0, $1, $2, 0x7351;", "=r,r,r", [even, odd], tl.int32, True, pack=1
            )
        else:
            digits = ((even >> 8) & 0x00030003) | (odd & 0x03000300)
        return digits, even & 0x00FF00FF, odd & 0x00FF00FF
    else:
        return (even >> (FIELD * (8 // FIELDS))) & _mask(FIELDS), even, odd


@triton.jit
def _power_of_3(at):
    return tl.where(at == 0, 1, tl.where(at == 1, 3, tl.where(at == 2, 9, tl.where(at == 3, 27, 81))))


@triton.jit
def _stored(byte, at, FIELDS: tl.constexpr):
    """u of field ``at`` of a byte of storage, the lowest first; a byte that is no five trits has none below 3."""
    if FIELDS == 5:
        return tl.where(byte > 242, 3, byte // _power_of_3(at) % 3)
    else:
        return (byte >> (at * (8 // FIELDS))) & (2 ** (8 // FIELDS) - 1)


@triton.jit
def _lay(source, layout, bad, rows, columns, width, stride, lowest, highest, FIELDS: tl.constexpr, MULT: tl.constexpr,
         ZERO: tl.constexpr, PACKED: tl.constexpr, COLUMNS: tl.constexpr, BYTES: tl.constexpr):  # fmt: skip
    """A tile of the layout from codes, int8, or from storage (PACKED), and whether a code in it is wrong."""
    across = tl.cdiv(width, BYTES)
    n = (tl.program_id(0) // across) * COLUMNS + tl.arange(0, COLUMNS)
    p = (tl.program_id(0) % across) * BYTES + tl.arange(0, BYTES)
    inside = (n < rows)[:, None] & (p < width)[None, :]
    source += (n.to(tl.int64) * stride)[:, None]
    total = tl.zeros([COLUMNS, BYTES], tl.int32)
    wrong = tl.zeros([COLUMNS, BYTES], tl.int32)
    for f in tl.static_range(FIELDS):
        k = (f * width + p)[None, :]
        code_here = inside & (k < columns)
        if PACKED:
            byte = tl.load(source + k // FIELDS, mask=inside & (k // FIELDS < stride), other=0).to(tl.int32)
            u = _stored(byte, k % FIELDS, FIELDS)  # (COLUMNS, BYTES)
            code = MULT * u - (128 if FIELDS == 1 else ZERO)
            filler = inside & (k >= columns) & (k // FIELDS < stride)
            wrong |= (filler & (code != (0 if MULT == 1 else -1))).to(tl.int32)
        else:
            code = tl.load(source + k, mask=code_here, other=0).to(tl.int32)  # (COLUMNS, BYTES)
        wrong |= (code_here & ((code < lowest) | (code > highest) | ((MULT == 2) & (code == 0)))).to(tl.int32)
        u = tl.where(code_here, (code + ZERO) // MULT & 255, 0)
        total = total * 3 + u if FIELDS == 5 else total | u << f * (8 // FIELDS)
    if FIELDS == 5:
        total = (total * 256 + 242) // 243
    tl.store(
        layout + (n.to(tl.int64) * width)[:, None] + p[None, :], total.to(tl.uint8), mask=inside
    )  # (COLUMNS, BYTES)
    tl.store(bad + tl.program_id(0), tl.max(tl.max(wrong, 1), 0))


def lowbit_layout(packed: Tensor, encoding: int, in_features: int) -> Tensor:
    return _laid(packed, encoding, in_features, True)


def lowbit_layout_codes(codes: Tensor, encoding: int) -> Tensor:
    return _laid(codes, encoding, codes.shape[1], False)


def _laid(source: Tensor, encoding: int, columns: int, packed: bool) -> Tensor:
    """Waits for the device: a wrong code is an error, not a wrong product."""
    form, width, source = format_of(encoding), plane(encoding, columns), source.contiguous()
    rows, (tile_rows, tile_bytes) = source.shape[0], (16, 128)
    layout = source.new_empty(rows, width, dtype=torch.uint8)
    programs = triton.cdiv(rows, tile_rows) * triton.cdiv(width, tile_bytes)
    bad = source.new_zeros(programs, dtype=torch.int32)
    blocks.launch(
        _lay, programs, source, layout, bad, rows, columns, width, source.shape[1], form.lowest, form.highest,
        FIELDS=form.fields, MULT=form.mult, ZERO=form.zero, PACKED=packed, COLUMNS=tile_rows, BYTES=tile_bytes,
        warps=8,
    )  # fmt: skip
    if bool(bad.any()):
        raise ValueError("weights hold codes outside their alphabet, or the last bytes something else than padding")
    return layout
