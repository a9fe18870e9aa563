"""A linear layer whose weight is quantised to integers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.lowbit_matmul._check import ternary_encoding
from ..ste import integer_codes
from ._lowbit import LowBitLinear


class QuantLinear(LowBitLinear):
    """y = x · q(weight)ᵀ + bias, with q = ``fake_quantize(·, bits)``.

    x       (..., in_features) → (..., out_features); ``LowBitLinear`` says how, in which dtypes and how exactly
    weight  (out_features, in_features), latent; what is used is on ``bits`` bits: 1 is ternary, None leaves it.
            ``freeze()`` packs 1 and 2 bits at 2 a weight, 3 and 4 at 4, 5 to 8 at 8, and weight is None then
    bias    (out_features), full precision

    activation  "float" multiplies x as it is, "int8" quantises each row of it
    per_row, norm, rotate: as in ``TernaryLinear``
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int | None = 4,
        bias: bool = True,
        *,
        per_row: bool = False,
        activation: str = "float",
        norm: bool = False,
        rotate: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_bits("bits", bits)
        if bits is None and activation == "int8":
            raise ValueError('activation must be "float" with bits=None, whose weights are no integers, got "int8"')
        super().__init__(
            in_features,
            out_features,
            bias,
            encoding=ternary_encoding("2bit") if bits == 1 else bits,
            per_row=per_row,
            activation=activation,
            norm=norm,
            rotate=rotate,
            device=device,
            dtype=dtype,
        )
        self.bits = bits

    def _codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        assert self.bits is not None
        return integer_codes(weight, self.bits, self.per_row)

    def _quantized(self, weight: Tensor) -> Tensor:
        return weight if self.bits is None else super()._quantized(weight)

    _usual = {"bits": 0, **LowBitLinear._usual, "activation": "float"}


def check_bits(name: str, bits: int | None) -> None:
    """Raise ValueError unless ``bits`` is None (full precision) or 1 (ternary) to 8."""
    if bits is not None and (not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 8):
        raise ValueError(f"{name} must be None (full precision) or 1 to 8, got {bits!r}")
