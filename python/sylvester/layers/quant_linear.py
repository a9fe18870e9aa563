"""A linear layer whose weight is quantised in the forward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ste import fake_quantize
from ._cache import CachingModule


class QuantLinear(CachingModule):
    """y = x · q(weight)ᵀ + bias, with q = ``fake_quantize(·, bits)``.

    x       (..., in_features)      → (..., out_features); dtype rules and autocast as ``torch.nn.functional.linear``
    weight  (out_features, in_features), full precision; what is used is on ``bits`` bits (1 is ternary, None leaves it)
    bias    (out_features), full precision
    """

    _version = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int | None = 4,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features and out_features must be at least 1, got {in_features} and {out_features}")
        check_bits("bits", bits)
        self.in_features, self.out_features, self.bits = in_features, out_features, bits
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_features, in_features, **options))
        self.bias = nn.Parameter(torch.empty(out_features, **options)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            bound = self.in_features**-0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def quantized_weight(self) -> Tensor:
        """The weight that the layer multiplies with."""
        return self._derived.get("weight", self._quantized, self._source("weight"))

    def _quantized(self, weight: Tensor) -> Tensor:
        return weight if self.bits is None else fake_quantize(weight, self.bits)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.quantized_weight(), self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, bias={self.bias is not None}"


def check_bits(name: str, bits: int | None) -> None:
    """Raise ValueError unless ``bits`` is None (full precision) or 1 (ternary) to 8."""
    if bits is not None and (not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 8):
        raise ValueError(f"{name} must be None (full precision) or 1 to 8, got {bits!r}")
