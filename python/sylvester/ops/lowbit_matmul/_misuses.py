"""Calls that must raise, and what their error says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .._spec import Arguments, Make, Misuse
from ._cases import make_arguments


def _misuse(fixed: Arguments, label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    """A call with M, N, K = 3, 5, 13 and the named arguments replaced; where one is a function, by its result."""

    def make(m: Make) -> Arguments:
        arguments = make_arguments(m, (3,), 5, 13, "rows bias", **fixed) | rest
        return {name: value(m) if callable(value) else value for name, value in arguments.items()}

    return Misuse(label, make, match, error)


def _ones(*shape: int, **spec: Any) -> Callable[[Make], Tensor]:
    return lambda m: torch.ones(*shape, **spec)


def _codes(m: Make) -> Tensor:
    return (m.integers(255, 3, 13) - 127).to(torch.int8)


def _byte(row: int, index: int, value: int, width: int) -> Callable[[Make], Tensor]:
    """Packed ternary zeros but for one byte."""

    def make(m: Make) -> Tensor:
        packed = torch.full((5, width), 85 if width == 4 else 121, dtype=torch.uint8)
        packed[row, index] = value
        return packed

    return make


_ternary = partial(_misuse, {"encoding": "2bit"})
_trits = partial(_misuse, {"encoding": "1.6bit"})
_meta: Arguments = {"device": "meta"}
_int64: Arguments = {"dtype": torch.int64}
_uint8: Arguments = {"dtype": torch.uint8}

TERNARY_MISUSES = (
    _ternary("field of 3", r"packed must hold ternary .* -1 to 1, got 2 in row 2 at 6", packed=_byte(2, 1, 0x75, 4)),
    _trits("byte of 243", r"packed must hold trits .* -1 to 1, got 2 in row 4 at 5", packed=_byte(4, 1, 243, 3)),
    _ternary("other padding", r"packed ends row 1 with other bits than the padding", packed=_byte(1, 3, 0x95, 4)),
    _ternary("K of x is another", r"packed must have 3 bytes a row, 12 ternary codes .* got 4", x=_ones(3, 12)),
    _ternary("other encoding", r"packed must have 3 bytes a row, 13 trits codes .* got 4", encoding="1.6bit"),
    _ternary("unknown encoding", r'encoding must be "2bit" or "1.6bit", got \'2-bit\'', encoding="2-bit"),
    _ternary("packed in int8", r"packed must be a dense uint8 tensor, got a int8", TypeError, packed=_codes),
    _ternary("packed is a list", r"packed must be .* got list", TypeError, packed=[1, 2]),
    _ternary("packed of one row", r"packed must have shape \(N, bytes\), got \(4,\)", packed=_ones(4, **_uint8)),
    _ternary("packed elsewhere", r"packed must be on .* cpu, got meta", packed=_ones(5, 4, **_uint8, **_meta)),
    _ternary("x is a list", r"x must be .* got list", TypeError, x=[1.0]),
    _ternary("x in int64", r"x must be .* int8 or uint8 .* got a int64", TypeError, x=lambda m: m.integers(9, 3, 13)),
    _ternary("x in bool", r"x must be .* got a bool", TypeError, x=lambda m: m.normal(3, 13) > 0),
    _ternary("x has no axis", r"x must have at least one dimension", x=lambda m: m.normal()),
    _ternary("x is sparse", r"x must be a dense .*sparse", TypeError, x=lambda m: m.normal(3, 13).to_sparse()),
    _ternary("codes without scales", r"x_scale must be given with int8 or uint8 x", x=_codes),
    _ternary("scales without codes", r"x_scale must be given with int8 .* only then", x_scale=_ones(3)),
    _ternary("scales of other rows", r"x_scale must have shape \(3,\).* got \(4,\)", x=_codes, x_scale=_ones(4)),
    _ternary("scales in int", r"x_scale must be .* got a int64", TypeError, x=_codes, x_scale=_ones(3, **_int64)),
    _ternary("scales elsewhere", r"x_scale must be on .* cpu, got meta", x=_codes, x_scale=_ones(3, **_meta)),
    _ternary("codes not to be quantised", r"activation must be \"int8\" for x of codes", x=_codes, x_scale=_ones(3),
             activation="float"),
    _ternary("unknown activation", r'activation must be "int8" or "float", got \'fp32\'', activation="fp32"),
    _ternary("float64 in int8", r'activation must be "float" for float64 x', x=_ones(3, 13, dtype=torch.float64)),
    _ternary("scale of other rows", r"scale must have shape \(\) or \(5,\), got \(4,\)", scale=_ones(4)),
    _ternary("scale of one row", r"scale must have shape \(\) or \(5,\), got \(1,\)", scale=_ones(1)),
    _ternary("scale is a float", r"scale must be .* got float 0\.5", TypeError, scale=0.5),
    _ternary("scale in int", r"scale must be .* got a int64", TypeError, scale=_ones(5, **_int64)),
    _ternary("scale elsewhere", r"scale must be on .* cpu, got meta", scale=_ones(5, **_meta)),
    _ternary("bias of other rows", r"bias must have shape \(5,\), got \(13,\)", bias=_ones(13)),
    _ternary("bias elsewhere", r"bias must be on .* cpu, got meta", bias=_ones(5, **_meta)),
    _ternary("latent transposed", r"latent must have shape \(5, 13\), got \(13, 5\)", latent=_ones(13, 5)),
    _ternary("latent in int8", r"latent must be .* got a int8", TypeError, latent=_ones(5, 13, dtype=torch.int8)),
    _ternary("latent elsewhere", r"latent must be on .* cpu, got meta", latent=_ones(5, 13, **_meta)),
)  # fmt: skip

_three = partial(_misuse, {"bits": 3})

INTN_MISUSES = (
    _three("code of 4 bits", r"packed must hold int3 codes from -4 to 3, got 7 in row 0 at 0",
           packed=lambda m: torch.full((5, 7), 0x8F, dtype=torch.uint8)),
    _three("9 bits", r"bits must be an integer from 2 to 8, got 9", bits=9),
    _three("1 bit", r"bits must be an integer from 2 to 8, got 1", bits=1),
    _three("bits as a float", r"bits must be an integer from 2 to 8, got 3\.0", bits=3.0),
    _three("bits of another width", r"packed must have 13 bytes a row, 13 int8 codes .* got 7", bits=8),
    _misuse({"bits": 8}, "K too large for int32", r"x must have at most 131071 columns.* got 131072",
            x=_ones(1, 1 << 17), packed=_ones(5, 1 << 17, **_uint8)),
)  # fmt: skip

BINARY_MISUSES = (
    _misuse({}, "padding of 1", r"packed ends row 0 with other bits than the padding of binary",
            packed=lambda m: torch.full((5, 2), 0xFF, dtype=torch.uint8)),
    _misuse({}, "K of x is another", r"packed must have 3 bytes a row, 17 binary codes .* got 2", x=_ones(3, 17)),
    _misuse({}, "scale of other rows", r"scale must have shape \(\) or \(5,\), got \(4,\)", scale=_ones(4)),
)  # fmt: skip
