"""Rows as integer codes and one scale a row: what the integer products take, for tokens that have no transform.

    limit = 2^(bits-1) - 1,  a = max|x| of the row
    row_scale = a / limit,  codes = x · (limit / a), rounded half to even, in [-limit, limit]

    x          (..., K)  any strides, any leading shape, empty ones too
    codes      (..., K)  int8 for 5 to 8 bits
               (..., ceil(K / 2))  uint8 for 2 to 4 bits: two codes a byte, the first in the low half, each as code + 8;
               the spare half of an odd row holds 8, which is code 0
    row_scale  (...)     codes · row_scale is within row_scale / 2 of x, but for rounding

    dequantize  True: codes · row_scale comes instead of codes, in the dtype of x

    x                  computes in   row_scale
    float32            float32       float32
    bfloat16, float16  float32       float32
    float64            float64       float64

A row with an infinity or a NaN: codes 0, row_scale NaN, so all that is computed from it is NaN. A row with a < 2^-100:
codes 0, row_scale 0.

Cost: x read once from where it is and once from the nearest cache that holds a row, K or K / 2 bytes a row written.
Determinism: exact: the same bits for any thread count, level, batch and stride. One division a row, one rounding in
limit / a, one in the product with it.
Gradient: codes are integers and have none; asking for one through row_scale raises. With dequantize=True the gradient
passes unchanged to x (straight through), none comes through row_scale.
Source: per-token absmax quantisation as in BitNet b1.58 (arXiv 2402.17764).

Siblings: csrc/quantize_rows/, csrc/common/quantize.h, kernels/quantize_rows.py, tests/test_quantize_rows.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..formats import intn
from ..ste import straight_through
from ._dispatch import WIDE, call, describe, launch, no_gradient, require_floats
from ._spec import Arguments, Case, Make, Misuse, Operator, RawCall, register

_quantize = torch.ops.sylvester.quantize_rows.default

SMALLEST = 2.0**-100
"""Rows below are taken for zeros: limit / a stays finite, and a / limit a normal number."""


def reference(x: Tensor, *, bits: int = 8, dequantize: bool = False) -> tuple[Tensor, Tensor]:
    """The definition in plain PyTorch."""
    codes, row_scale = codes_of(x.detach().to(WIDE[x.dtype]), bits)
    return finished(codes, row_scale, bits, x if dequantize else None)


def codes_of(rows: Tensor, bits: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """int8 codes, one a number, and scales of ``scale`` times rows in the arithmetic type."""
    a = rows.abs().amax(-1) if rows.shape[-1] else rows.new_zeros(rows.shape[:-1])
    limit = torch.full_like(a, 2 ** (bits - 1) - 1)  # as a tensor: torch divides by a number in two roundings
    largest = a * abs(scale)
    finite, empty = largest.isfinite(), torch.minimum(a, largest) < SMALLEST
    codes = (rows * (limit.copysign(torch.full_like(a, scale)) / a).unsqueeze(-1)).round()
    codes = codes.masked_fill((empty | ~finite).unsqueeze(-1), 0)
    return codes.to(torch.int8), (largest / limit).masked_fill(empty, 0).masked_fill(~finite, torch.nan)


def finished(codes: Tensor, row_scale: Tensor, bits: int, latent: Tensor | None) -> tuple[Tensor, Tensor]:
    """Results from int8 codes: packed where ``bits`` says so; with ``latent`` the values, whose gradient it gets."""
    if latent is not None:
        return straight_through((codes * row_scale.unsqueeze(-1)).to(latent.dtype), latent), row_scale
    return (intn.pack(codes, 4) if is_packed(bits) else codes), row_scale


def is_packed(bits: int) -> bool:
    return bits <= 4


def check(x: Tensor, bits: int, dequantize: bool) -> None:
    """Raise on arguments the operator does not take."""
    require_floats("x", x)
    if x.dim() == 0:
        raise ValueError(f"x must have at least one dimension, got {describe(x)}")
    require_bits(bits)
    if not isinstance(dequantize, bool):
        raise TypeError(f"dequantize must be a bool, got {describe(dequantize)}")


def require_bits(bits: Any) -> None:
    """Raise unless ``bits`` is an int from 2 to 8."""
    if not isinstance(bits, int) or isinstance(bits, bool):
        raise TypeError(f"bits must be an int, got {describe(bits)}")
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, got {bits}")


def quantize_rows(x: Tensor, *, bits: int = 8, dequantize: bool = False) -> tuple[Tensor, Tensor]:
    """(codes, row_scale) of the last axis of ``x``; see the module for shapes, dtypes and gradients.

    >>> quantize_rows(torch.tensor([1.0, -127.0]))
    (tensor([   1, -127], dtype=torch.int8), tensor(1.))
    """
    check(x, bits, dequantize)
    if not dequantize:
        return call(_quantize, x, bits, is_packed(bits))
    codes, row_scale = call(_quantize, x.detach(), bits, False)
    return finished(codes, row_scale, bits, x)


def empty_codes(x: Tensor, nibbles: bool) -> tuple[Tensor, Tensor]:
    """Unwritten results for rows of ``x``."""
    *lead, width = x.shape
    codes = x.new_empty(*lead, (width + 1) // 2 if nibbles else width, dtype=torch.uint8 if nibbles else torch.int8)
    return codes, x.new_empty(lead, dtype=WIDE[x.dtype])


@torch.library.register_fake("sylvester::quantize_rows")
def _fake(x: Tensor, bits: int, nibbles: bool) -> tuple[Tensor, Tensor]:
    check(x, bits, False)
    return empty_codes(x, nibbles)


def _cuda(x: Tensor, bits: int, nibbles: bool) -> tuple[Tensor, Tensor]:
    check(x, bits, False)
    return launch("quantize_rows", "quantize_rows", x, bits, nibbles)


torch.library.impl("sylvester::quantize_rows", "CUDA")(_cuda)
# What register_autograd gets is a formula that refuses.
no_gradient(_quantize, "codes and row_scale carry no gradient; dequantize=True returns values that do")


def _case(
    label: str, shape: tuple[int, ...], view: Callable[[Tensor], Tensor] = Tensor.contiguous, **rest: Any
) -> Case:
    spec = {name: rest.pop(name) for name in ("kind", "dtypes") if name in rest}
    return Case(label, lambda m: {"x": view(m.normal(*shape)), **rest}, **spec)


def _raw_calls(a: Arguments) -> list[RawCall]:
    bits = a.get("bits", 8)
    return [RawCall("quantize_rows", (a["x"], bits, is_packed(bits)), differentiable=False)]


def _misuse(label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    def make(m: Make) -> Arguments:
        return {name: value(m) if callable(value) else value for name, value in ({"x": m.normal(2, 3)} | rest).items()}

    return Misuse(label, make, match, error)


def moved(a: Arguments) -> int:
    """Bytes read and written for rows of ``x``."""
    x = a["x"]
    code_bytes = x.element_size() if a.get("dequantize") else 0.5 if is_packed(a.get("bits", 8)) else 1
    return int(x.numel() * (x.element_size() + code_bytes)) + 4 * x.shape[:-1].numel()


def row_axes(a: Arguments) -> tuple[dict[str, int], tuple[int, ...]]:
    return ({"x": 0}, (0, 0)) if a["x"].dim() > 1 else ({}, (0, 0))


def learned(*names: str) -> Callable[[Arguments], tuple[str, ...]]:
    """What may get a gradient: nothing through codes."""
    return lambda a: names if a.get("dequantize") else ()


def error_bound(a: Arguments, of_scale: float) -> float:
    """One step where a number is nearly half way between two codes, else that of the scale."""
    return 1.01 / (2 ** (a.get("bits", 8) - 1) - 1) if a.get("dequantize") else of_scale


_TIMED: dict[str, Any] = {"kind": "benchmark", "dtypes": (torch.float32, torch.bfloat16)}

SPEC = register(
    Operator(
        name="quantize_rows",
        function=quantize_rows,
        reference=reference,
        cases=(
            _case("values", (5, 67), dequantize=True),
            _case("values on 4 bits", (3, 2, 64), bits=4, dequantize=True),
            *(_case(f"5 rows of {n}", (5, n)) for n in (1, 16, 63, 200, 1024)),
            *(_case(f"{n} on {bits} bits", (3, n), bits=bits) for n, bits in ((1, 4), (129, 4), (96, 2), (33, 6))),
            _case("one row, no leading axis", (64,)),
            _case("no rows", (0, 64), bits=4),
            _case("no columns", (2, 3, 0)),
            _case("transposed", (64, 9), Tensor.t),
            _case("every second column", (6, 128), lambda t: t[:, ::2], bits=4),
            _case("expanded columns", (7, 1), lambda t: t.expand(7, 64)),
            _case("rows one element apart from aligned", (5, 65), lambda t: t[:, 1:]),
            _case("a row of zeros", (3, 40), lambda t: t * torch.tensor([[1], [0], [1]]).to(t)),
            *(_case(f"{rows} x {n} in L2", (rows, n), **_TIMED) for rows, n in ((256, 256), (16, 4096))),
            _case("16384 x 4096 in DRAM", (1 << 14, 1 << 12), **_TIMED),
        ),
        misuses=(
            _misuse("bits of 1", r"bits must be from 2 to 8, got 1", bits=1),
            _misuse("bits of 9", r"bits must be from 2 to 8, got 9", bits=9),
            _misuse("float bits", r"bits must be an int, got float 8\.0", TypeError, bits=8.0),
            _misuse("dequantize is a number", r"dequantize must be a bool, got int 1", TypeError, dequantize=1),
            _misuse("x is integer", r"x must be .* got a int64 tensor", TypeError, x=lambda m: m.integers(9, 2, 3)),
            _misuse("x is a list", r"x must be .* got list", TypeError, x=[1.0]),
            _misuse("x has no axis", r"x must have at least one dimension.*\(\)", x=lambda m: m.normal()),
        ),
        raw_calls=_raw_calls,
        differentiable=learned("x"),
        straight_through=True,
        error_bound=lambda a: error_bound(a, 2 * 2.0**-24),
        bytes_moved=moved,
        operations=lambda a: 2 * a["x"].numel(),
        launchers={"quantize_rows": _cuda},
        rows=row_axes,
    )
)
