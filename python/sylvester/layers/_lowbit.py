"""What linear layers of few bits share: options, the way of x, and the product with latent or packed weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops._dispatch import describe
from ..ops.hadamard_quantize import hadamard_quantize
from ..ops.hadamard_transform import hadamard_transform
from ..ops.lowbit_matmul import layout_of_codes, prepared
from ..ops.lowbit_matmul._check import ACTIVATIONS
from ..ste import dequantized, straight_through
from ._freezing import Freezable, whole_numbers

NORM_EPSILON = 1e-6


class LowBitLinear(Freezable):
    """y = x · q(weight)ᵀ + bias; a subclass says what q is.

    x  (..., K) → y (..., N), passing on its way, where they are given,
       norm        x over its root mean square
       rotate      ``hadamard_transform`` of blocks of that size, which the weight is expected to undo
       activation  "int8": the codes of ``quantize_rows``, multiplied as integers; "float": x as it is

    Dtypes and autocast are those of ``torch.nn.functional.linear``, but that latent weights are quantised from their
    own dtype and a frozen layer takes any; there is no "int8" of float64. Gradients: to x through q(weight), as if its
    own quantisation were not there; to the latent weight gᵀ x, as if q were not there.

    With "int8" a frozen layer returns the bits of the learning one, which no batch and no thread count changes. With
    "float" a learning layer leaves the product to torch, so they agree to rounding.
    """

    _version = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        *,
        encoding: int | None,
        per_row: bool,
        activation: str,
        norm: bool,
        rotate: int | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features and out_features must be at least 1, got {in_features} and {out_features}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.in_features, self.out_features = in_features, out_features
        self.encoding, self.per_row, self.activation = encoding, per_row, activation
        self.norm, self.rotate = norm, rotate
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_features, in_features, **options))
        self.bias = nn.Parameter(torch.empty(out_features, **options)) if bias else None
        self.register_buffer("packed", None)
        self.register_buffer("scale", None)
        if rotate is not None:  # a width that has no such block is refused here, not by the first call
            hadamard_transform(self.weight.detach()[:0], block_size=rotate)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is None:
            raise RuntimeError(f"{type(self).__name__} is frozen and has no weight to initialise; call thaw() first")
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            bound = self.in_features**-0.5
            nn.init.uniform_(self.bias, -bound, bound)

    def quantized_weight(self) -> Tensor:
        """The weight that the layer multiplies with (N,K); a frozen layer unpacks it at every call, in float32."""
        if self.packed is not None:
            return self._unpacked()
        return self._derived.get("weight", self._quantized, self._source("weight"))

    def _quantized(self, weight: Tensor) -> Tensor:
        return straight_through(dequantized(*self._codes(weight)).to(weight.dtype), weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must end in in_features = {self.in_features} columns, got {describe(x)}")
        if self.norm:
            x = F.rms_norm(x, (self.in_features,), eps=NORM_EPSILON)
        if self.packed is not None:
            if self.training and torch.is_grad_enabled():
                raise RuntimeError(
                    f"{type(self).__name__} is frozen and cannot be trained; call thaw() for latent weights, "
                    "or eval(), which still passes gradients on to x"
                )
            return self._multiply(x, self._layout_of_packed(), self._source("scale"), None)
        weight = self._source("weight")
        if self.activation == "float":
            x = x if self.rotate is None else hadamard_transform(x, block_size=self.rotate)
            return F.linear(x, self.quantized_weight(), self.bias)
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"x must have the dtype of the layer's weight, {weight.dtype}, got {describe(x)}")
        return self._multiply(x, *self._derived.get("layout", self._laid, weight), weight)

    def _laid(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        codes, scale = self._codes(weight)
        return layout_of_codes(whole_numbers(codes), self._need_encoding('"int8" needs')), scale.float()

    def _multiply(self, x: Tensor, laid: Tensor, scale: Tensor, latent: Tensor | None) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind) and x.is_floating_point() and x.dtype != torch.float64:
            x = x.to(torch.get_autocast_dtype(kind))
        dtype, x_scale = x.dtype, None
        if self.rotate is not None:
            x, x_scale = self._rotated(x)
        y = prepared(
            x,
            laid,
            scale,
            self._source("bias"),
            encoding=self._need_encoding("the product needs"),
            out_features=self.out_features,
            x_scale=x_scale,
            latent=latent,
            activation=self.activation,
        )
        return y.to(dtype)

    def _rotated(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes and their scales where no gradient is asked for; else the floats that have these very codes."""
        if self.activation == "int8" and not torch.is_grad_enabled():
            return hadamard_quantize(x, block_size=self.rotate)
        wide = x if x.dtype == torch.float64 else x.float()
        return hadamard_transform(wide, block_size=self.rotate), None

    def extra_repr(self) -> str:
        text = f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
        options = [
            f"{name}={getattr(self, name)!r}" for name, usual in self._usual.items() if getattr(self, name) != usual
        ]
        return ", ".join([text, *options, *(["frozen"] if self.frozen else [])])

    _usual: dict[str, Any] = {"per_row": False, "activation": "int8", "norm": False, "rotate": None}
    """Options that the layer's text leaves out at these values."""
