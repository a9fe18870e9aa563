"""A linear layer of ternary weights."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.lowbit_matmul._check import ternary_encoding
from ..ste import THRESHOLDS, ternary_codes
from ._lowbit import LowBitLinear


class TernaryLinear(LowBitLinear):
    """y = α · x · Tᵀ + bias with T in {-1, 0, 1}: T = clamp(round(weight/α), -1, 1), as in BitNet b1.58.

    x       (..., in_features) → (..., out_features); ``LowBitLinear`` says how, in which dtypes and how exactly
    weight  (out_features, in_features), latent; None once ``freeze()`` has packed it
    bias    (out_features), full precision

    threshold   α is mean|weight| ("absmean") or max|weight| ("absmax"); half of it is where 0 ends
    per_row     one α for each output instead of one in all
    activation  "int8" quantises each row of x, "float" does not
    norm        divide each row of x by its root mean square first
    rotate      block of a Hadamard transform of x, whose inverse the weight holds (``sylvester.convert``)
    encoding    of the packed weight: "2bit", or "1.6bit" with five weights a byte
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        threshold: str = "absmean",
        per_row: bool = False,
        activation: str = "int8",
        norm: bool = False,
        rotate: int | None = None,
        encoding: str = "2bit",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if threshold not in THRESHOLDS:
            raise ValueError(f"threshold must be one of {', '.join(THRESHOLDS)}, got {threshold!r}")
        super().__init__(
            in_features,
            out_features,
            bias,
            encoding=ternary_encoding(encoding),
            per_row=per_row,
            activation=activation,
            norm=norm,
            rotate=rotate,
            device=device,
            dtype=dtype,
        )
        self.threshold = threshold

    def _codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return ternary_codes(weight, self.threshold, self.per_row)

    _usual = {"threshold": "absmean", **LowBitLinear._usual}
