"""A linear layer of binary weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.lowbit_matmul._check import BINARY
from ..ste import binary_codes
from ._lowbit import LowBitLinear


class BinaryLinear(LowBitLinear):
    """y = α · x · Bᵀ + bias with B in {-1, 1}: the signs of weight, zeros at 1, and α = mean|weight|.

    x       (..., in_features) → (..., out_features); ``LowBitLinear`` says how, in which dtypes and how exactly
    weight  (out_features, in_features), latent; None once ``freeze()`` has packed it, eight a byte
    bias    (out_features), full precision

    per_row, activation, norm, rotate: as in ``TernaryLinear``
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        per_row: bool = False,
        activation: str = "int8",
        norm: bool = False,
        rotate: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            bias,
            encoding=BINARY,
            per_row=per_row,
            activation=activation,
            norm=norm,
            rotate=rotate,
            device=device,
            dtype=dtype,
        )

    def _codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return binary_codes(weight, self.per_row)
