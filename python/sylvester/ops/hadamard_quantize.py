"""Hadamard transform of the last axis, then one scale a row and integer codes, in one pass: the transform goes nowhere.

    y = (I_q ⊗ S) (pre ∘ x),  limit = 2^(bits-1) - 1,  a = max|y| of the whole row
    codes = y · (limit / a), rounded half to even, in [-limit, limit], times the sign of scale
    row_scale = |scale| · a / limit

    x          (..., D)  D = q · block_size; any strides, any leading shape, empty ones too
    pre        (D,)      any float dtype, converted to float32 (float64 when x is); None: ones
    codes      (..., D)  int8 for 5 to 8 bits, (..., ceil(D / 2)) packed uint8 for 2 to 4: see quantize_rows
    row_scale  (...)     codes · row_scale is hadamard_transform(x, …), but for rounding

    block_size, scale    as in hadamard_transform; None: the whole axis, 1/sqrt(block_size)
    dequantize           True: codes · row_scale comes instead of codes, in the dtype of x

    x                  computes in   row_scale
    float32            float32       float32
    bfloat16, float16  float32       float32
    float64            float64       float64

A row with an infinity or a NaN: codes 0, row_scale NaN. A row with a or |scale| · a < 2^-100: codes 0, row_scale 0.

Cost: x read once, D or D / 2 bytes a row written; log2(block_size) additions and one multiplication an element: the
scale costs one a row.
Determinism: the same bits for any thread count, level, batch and stride. Codes are exactly those of quantize_rows on
the float32 result of hadamard_transform with scale 1.0; row_scale is exactly its largest with the scale, over limit.
Gradient: codes are integers and have none; asking for one through row_scale raises. With dequantize=True the values
have the gradient of hadamard_transform (straight through the rounding), none comes through row_scale; where a gradient
is wanted the transform runs a second time.
Source: hadamard_transform, quantize_rows; rotation before quantisation as in QuaRot (arXiv 2404.00456).

Siblings: csrc/hadamard_quantize/, csrc/common/quantize.h, kernels/hadamard_quantize.py, tests/test_hadamard_quantize.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import hadamard_transform as transform
from . import quantize_rows as rows
from ._dispatch import LARGEST_BLOCK_CUDA, WIDE, call, launch, no_gradient
from ._spec import Arguments, Case, Make, Misuse, Operator, RawCall, register
from .hadamard_transform import hadamard_transform, widened

_quantize = torch.ops.sylvester.hadamard_quantize.default


def reference(
    x: Tensor,
    *,
    block_size: int | None = None,
    bits: int = 8,
    pre: Tensor | None = None,
    scale: float | None = None,
    dequantize: bool = False,
) -> tuple[Tensor, Tensor]:
    """The definition in plain PyTorch."""
    block = x.shape[-1] if block_size is None else block_size
    y = transform.reference(x.to(WIDE[x.dtype]), block_size=block, pre=pre, scale=1.0)
    scale = block**-0.5 if scale is None else scale
    codes, row_scale = rows.codes_of(y.detach(), bits, scale)
    return rows.finished(codes, row_scale, bits, (y * scale).to(x.dtype) if dequantize else None)


def check(
    x: Tensor, block_size: int | None, scale: float | None, pre: Tensor | None, bits: int, dequantize: bool
) -> int:
    """Raise on arguments the operator does not take; returns the block size."""
    block = transform.check(x, block_size, scale, pre, None)
    rows.check(x, bits, dequantize)
    return block


def hadamard_quantize(
    x: Tensor,
    *,
    block_size: int | None = None,
    bits: int = 8,
    pre: Tensor | None = None,
    scale: float | None = None,
    dequantize: bool = False,
) -> tuple[Tensor, Tensor]:
    """(codes, row_scale) of the transformed ``x``; see the module for shapes, dtypes and gradients.

    >>> hadamard_quantize(torch.tensor([1.0, 2.0]), scale=1.0)
    (tensor([127, -42], dtype=torch.int8), tensor(0.0236))
    """
    block = check(x, block_size, scale, pre, bits, dequantize)
    pre = widened(pre, x)
    if not dequantize:
        return call(_quantize, x, block, scale, pre, bits, rows.is_packed(bits))
    fixed = pre if pre is None else pre.detach()
    codes, row_scale = call(_quantize, x.detach(), block, scale, fixed, bits, False)
    learns = torch.is_grad_enabled() and (x.requires_grad or (pre is not None and pre.requires_grad))
    latent = hadamard_transform(x, block_size=block, scale=scale, pre=pre) if learns else x
    return rows.finished(codes, row_scale, bits, latent)


@torch.library.register_fake("sylvester::hadamard_quantize")
def _fake(
    x: Tensor, block_size: int, scale: float | None, pre: Tensor | None, bits: int, nibbles: bool
) -> tuple[Tensor, Tensor]:
    check(x, block_size, scale, pre, bits, False)
    return rows.empty_codes(x, nibbles)


def _cuda(
    x: Tensor, block_size: int, scale: float | None, pre: Tensor | None, bits: int, nibbles: bool
) -> tuple[Tensor, Tensor]:
    check(x, block_size, scale, pre, bits, False)
    return launch("hadamard_quantize", "hadamard_quantize", x, block_size, scale, pre, bits, nibbles)


torch.library.impl("sylvester::hadamard_quantize", "CUDA")(_cuda)
# What register_autograd gets is a formula that refuses.
no_gradient(_quantize, "codes and row_scale carry no gradient; dequantize=True returns values that do")


def _case(
    label: str,
    shape: tuple[int, ...],
    view: Callable[[Tensor], Tensor] = Tensor.contiguous,
    pre: bool = False,
    **options: Any,
) -> Case:
    spec = {name: options.pop(name) for name in ("kind", "dtypes") if name in options}

    def make(m: Make) -> Arguments:
        x = view(m.normal(*shape))
        return {"x": x, **({"pre": m.normal(x.shape[-1])} if pre else {}), **options}

    return Case(label, make, **spec)


def _block(a: Arguments) -> int:
    return a.get("block_size") or a["x"].shape[-1]


def _stages(a: Arguments) -> int:
    return _block(a).bit_length() - 1


def _raw_calls(a: Arguments) -> list[RawCall]:
    bits, pre = a.get("bits", 8), widened(a.get("pre"), a["x"])
    arguments = (a["x"], _block(a), a.get("scale"), pre, bits, rows.is_packed(bits))
    return [RawCall("hadamard_quantize", arguments, differentiable=False)]


def _two_steps(a: Arguments) -> Callable[[], Any]:
    """The transform to memory, then its codes."""
    options = {name: a[name] for name in ("block_size", "pre", "scale") if name in a}
    return lambda: rows.quantize_rows(hadamard_transform(a["x"], **options), bits=a.get("bits", 8))


def _misuse(label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    """A (2, 24) input in blocks of 8 with the named arguments replaced; where one is a function, by its result."""

    def make(m: Make) -> Arguments:
        given = {"x": m.normal(2, 24), "block_size": 8} | rest
        return {name: value(m) if callable(value) else value for name, value in given.items()}

    return Misuse(label, make, match, error)


_TIMED: dict[str, Any] = {"kind": "benchmark", "dtypes": (torch.float32, torch.bfloat16)}
_IN_L2 = ((256, 256), (64, 1024), (16, 4096))
_IN_DRAM = ((1 << 16, 1 << 10), (1 << 14, 1 << 12))

SPEC = register(
    Operator(
        name="hadamard_quantize",
        function=hadamard_quantize,
        reference=reference,
        cases=(
            _case("values", (5, 64), dequantize=True),
            _case("values on 4 bits, pre", (3, 48), pre=True, block_size=16, bits=4, dequantize=True),
            *(_case(f"5 rows of {n}", (5, n)) for n in (1, 8, 64, 128, 256, 512, 1024, 4096)),
            *(_case(f"{q} blocks of {n}", (3, q * n), block_size=n) for q, n in ((3, 4), (5, 16), (13, 1), (3, 512))),
            *(_case(f"{n} on {bits} bits", (3, n), bits=bits) for n, bits in ((128, 4), (2, 2), (16, 6))),
            _case("odd width on 4 bits", (4, 2, 77), block_size=1, bits=4, pre=True),
            _case("one row, no leading axis", (64,)),
            _case("no rows", (0, 64), bits=4),
            _case("no columns", (3, 0), block_size=128),
            _case("negative scale", (3, 48), block_size=16, scale=-0.37),
            _case("pre", (33, 1024), pre=True),
            _case("transposed", (64, 9), Tensor.t, pre=True),
            _case("every second column", (6, 128), lambda t: t[:, ::2], bits=4),
            _case("expanded rows", (1, 64), lambda t: t.expand(7, 64)),
            _case("rows one element apart from aligned", (5, 65), lambda t: t[:, 1:]),
            _case("37 blocks of 512", (1, 37 << 9), block_size=1 << 9, kind="edge"),
            _case("2^15", (1, 1 << 15), bits=4, kind="edge"),
            _case("2^16 at the GPU's block", (1, 1 << 16), block_size=LARGEST_BLOCK_CUDA, kind="edge"),
            *(_case(f"{count} x {n} in L2", (count, n), **_TIMED) for count, n in _IN_L2),
            *(_case(f"{count} x {n} in DRAM", (count, n), **_TIMED) for count, n in _IN_DRAM),
        ),
        misuses=(
            _misuse("width is no power of two", r"width 24, got 24; the largest that fits is 8", block_size=None),
            _misuse("block does not divide", r"divides the width 24, got 16", block_size=16),
            _misuse("bits of 1", r"bits must be from 2 to 8, got 1", bits=1),
            _misuse("float bits", r"bits must be an int, got float 4\.0", TypeError, bits=4.0),
            _misuse("dequantize is a number", r"dequantize must be a bool, got int 1", TypeError, dequantize=1),
            _misuse("scale is nan", r"scale must be finite .* got nan", scale=float("nan")),
            _misuse("pre is too short", r"pre must have shape \(24,\).* got \(8,\)", pre=lambda m: m.normal(8)),
            _misuse("pre elsewhere", r"pre must be on .* cpu, got meta", pre=lambda m: torch.ones(24, device="meta")),
            _misuse("x is integer", r"x must be .* got a int64 tensor", TypeError, x=lambda m: m.integers(9, 2, 24)),
            _misuse("x has no axis", r"x must have at least one dimension.*\(\)", x=lambda m: m.normal()),
        ),
        raw_calls=_raw_calls,
        differentiable=rows.learned("x", "pre"),
        straight_through=True,
        error_bound=lambda a: rows.error_bound(a, _stages(a) + 4),
        bytes_moved=rows.moved,
        operations=lambda a: a["x"].numel() * (_stages(a) + 1),
        baselines={"transform, then codes": _two_steps},
        launchers={"hadamard_quantize": _cuda},
        rows=rows.row_axes,
    )
)
