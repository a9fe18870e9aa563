"""Kernels with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sylvester.formats import binary
from sylvester.ops.lowbit_matmul import binary_matmul
from wrong import Wrong


def _zero_for_minus_one(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    """Bits taken for 0 and 1: half of the right product, and half the sum of x."""
    ones = binary.pack(binary.unpack(packed, packed.shape[1] * 8).abs())
    ones = binary.pack(binary.unpack(ones, packed.shape[1] * 8)[:, : _columns(x)])
    half = binary_matmul(x, packed, scale / 2, bias, **options)
    return half + binary_matmul(x, ones, scale / 2, None, **options)


def _columns(x: Tensor) -> int:
    return x.shape[-1] if x.element_size() > 1 or x.dtype.is_signed else 2 * x.shape[-1]


WRONG = (Wrong("bits for signs", "value", _zero_for_minus_one),)
