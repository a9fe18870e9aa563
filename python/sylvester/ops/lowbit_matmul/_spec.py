"""What the operators state about themselves: errors allowed, costs counted, rivals, raw calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...formats import _encoding
from .._dispatch import WIDE
from .._spec import Arguments, Case, Misuse, Operator, RawCall, register
from ._cases import BINARY_CASES, INTN_CASES, TERNARY_CASES, encoding_of
from ._check import Product, in_features
from ._function import binary_matmul, intn_matmul, ternary_matmul
from ._misuses import BINARY_MISUSES, INTN_MISUSES, TERNARY_MISUSES
from ._reference import activated, binary_reference, intn_reference, ternary_reference
from ._registration import LAUNCHERS


def _columns(a: Arguments) -> int:
    return in_features(a["x"], a["packed"], encoding_of(a))


def _raw_calls(a: Arguments) -> list[RawCall]:
    x, packed, encoding, columns = a["x"], a["packed"], encoding_of(a), _columns(a)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    vectors: dict[str, Any] = {
        name: None if a.get(name) is None else a[name].to(wide) for name in ("x_scale", "scale", "bias")
    }
    unpack = RawCall("lowbit_unpack", (packed, encoding, columns))
    lay = RawCall("lowbit_layout", (packed, encoding, columns))
    codes, laid = unpack.overload(*unpack.arguments), lay.overload(*lay.arguments)
    product = Product(x, layout=laid, latent=a.get("latent"), encoding=encoding, out_features=packed.shape[0],
                      exact=a.get("activation") == "float", **vectors)  # fmt: skip
    calls = [RawCall("lowbit_pack", (codes, encoding)), unpack, lay, RawCall("lowbit_layout_codes", (codes, encoding))]
    calls.append(RawCall("lowbit_matmul", tuple(product)))
    if x.dtype in WIDE:
        grad = torch.ones_like(calls[-1].overload(*product))
        calls.append(RawCall("lowbit_matmul_input", (grad, laid, vectors["scale"], encoding, columns)))
    return calls


def _rows(a: Arguments) -> tuple[dict[str, int], tuple[int, ...]]:
    inside: dict[str, int] = {name: 0 for name in ("x", "x_scale") if name in a and a["x"].dim() > 1}
    return inside, (0,)


def _error_bound(a: Arguments) -> float:
    # Of integers, float(acc), x_scale · scale and y round. Of floats, sums of 16 and their sum round like a random
    # walk, as do the sums over N that come back; where terms cancel, the largest value is less than the terms are.
    exact = a.get("activation") == "float"
    return (8 + 2 * sqrt(max(_columns(a) if exact else 1, a["packed"].shape[0]))) * 2.0**-24


def _count(a: Arguments) -> int:
    return a["x"].shape[:-1].numel()


def _bytes_moved(a: Arguments) -> int:
    read = sum(value.numel() * value.element_size() for value in a.values() if isinstance(value, Tensor))
    return read + _count(a) * a["packed"].shape[0] * (a["x"].dtype.itemsize if a["x"].dtype in WIDE else 4)


def _operations(a: Arguments) -> int:
    return 2 * _count(a) * a["packed"].shape[0] * _columns(a)


def _linear(a: Arguments, dtype: torch.dtype) -> Callable[[], Tensor]:
    """torch's own product with the dequantised weights."""
    codes = _encoding.unpack(a["packed"], encoding_of(a), _columns(a))
    weight = (codes * (a["scale"][:, None] if a["scale"].dim() else a["scale"])).to(dtype)
    x = activated(a["x"], a.get("x_scale"), "int8" if a["x"].dtype not in WIDE else "float")
    x, bias = x[..., : weight.shape[1]].to(dtype), a["bias"].to(dtype) if "bias" in a else None
    return lambda: functional.linear(x, weight, bias)


def _operator(
    name: str,
    function: Callable[..., Any],
    reference: Callable[..., Any],
    cases: tuple[Case, ...],
    misuses: tuple[Misuse, ...],
) -> Operator:
    return register(
        Operator(
            name=name,
            room="lowbit_matmul",
            function=function,
            reference=reference,
            cases=cases,
            misuses=misuses,
            raw_calls=_raw_calls,
            differentiable=("x", "scale", "bias", "x_scale", "latent"),
            error_bound=_error_bound,
            bytes_moved=_bytes_moved,
            operations=_operations,
            baselines={
                "F.linear float32": partial(_linear, dtype=torch.float32),
                "F.linear bfloat16": partial(_linear, dtype=torch.bfloat16),
            },
            launchers=LAUNCHERS,
            rows=_rows,
        )
    )


SPECS = (
    _operator("ternary_matmul", ternary_matmul, ternary_reference, TERNARY_CASES, TERNARY_MISUSES),
    _operator("intn_matmul", intn_matmul, intn_reference, INTN_CASES, INTN_MISUSES),
    _operator("binary_matmul", binary_matmul, binary_reference, BINARY_CASES, BINARY_MISUSES),
)
