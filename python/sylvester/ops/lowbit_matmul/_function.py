"""The public functions.

Every implementation of a raw operator checks its arguments: C++ on the CPU, ``check_product`` on the GPU and in the
fakes. So an eager call checks only after a refusal, to say it in its caller's words.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from ...formats.intn import check_bits
from .._dispatch import WIDE, call, explain
from .._remembered import Remembered
from ._check import BINARY, check, in_features, require_activation, ternary_encoding

_multiply = torch.ops.sylvester.lowbit_matmul.default
_lay = torch.ops.sylvester.lowbit_layout.default
_lay_codes = torch.ops.sylvester.lowbit_layout_codes.default
_layouts = Remembered(_lay)


def ternary_matmul(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    x_scale: Tensor | None = None,
    latent: Tensor | None = None,
    encoding: str = "2bit",
    activation: str = "int8",
) -> Tensor:
    """x · (scale · W)ᵀ + bias for W in {-1, 0, 1}, packed by ``formats.ternary`` or, "1.6bit", ``formats.trits``.

    >>> packed = formats.ternary.pack(torch.tensor([[1, 0, -1], [1, 1, 1]], dtype=torch.int8))
    >>> ternary_matmul(torch.tensor([1.0, 2.0, 4.0]), packed, torch.tensor(0.5), activation="float")
    tensor([-1.5000,  3.5000])
    """
    return _product(x, packed, ternary_encoding(encoding), scale, bias, x_scale, latent, activation)


def intn_matmul(
    x: Tensor,
    packed: Tensor,
    bits: int,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    x_scale: Tensor | None = None,
    latent: Tensor | None = None,
    activation: str = "int8",
) -> Tensor:
    """x · (scale · W)ᵀ + bias for integers W of ``bits`` bits, 2 to 8, packed by ``formats.intn``."""
    return _product(x, packed, check_bits(bits), scale, bias, x_scale, latent, activation)


def binary_matmul(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    x_scale: Tensor | None = None,
    latent: Tensor | None = None,
    activation: str = "int8",
) -> Tensor:
    """x · (scale · W)ᵀ + bias for W in {-1, 1}, packed by ``formats.binary``."""
    return _product(x, packed, BINARY, scale, bias, x_scale, latent, activation)


def layout(packed: Tensor, encoding: int, in_features: int) -> Tensor:
    """What ``prepared`` takes of packed weights (N, bytes). Derive it once; never save it: it may change.

    encoding: 0 binary, 1 ternary at 2 bits, 9 at 1.6, 2 to 8 int-n of that many bits.
    """
    return _lay(packed, encoding, in_features)


def layout_of_codes(codes: Tensor, encoding: int) -> Tensor:
    """The same from int8 codes (N, K), which a training step makes anew: nothing is packed on the way."""
    return _lay_codes(codes, encoding)


def prepared(
    x: Tensor,
    layout: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    encoding: int,
    out_features: int,
    x_scale: Tensor | None = None,
    latent: Tensor | None = None,
    activation: str = "int8",
) -> Tensor:
    """The product with weights whose ``layout`` the caller keeps; everything else as in the public functions."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    exact = require_activation(x, activation)
    vectors = (_to(x_scale, wide), layout, _to(scale, wide), _to(bias, wide), latent)
    return call(_multiply, x, *vectors, encoding, out_features, exact)


def _to(tensor: Any, dtype: torch.dtype) -> Any:
    """Floats in the dtype of the arithmetic. Anything else is left for the check to name."""
    if tensor is None or not isinstance(tensor, Tensor) or tensor.dtype == dtype or tensor.dtype not in WIDE:
        return tensor
    return tensor.to(dtype)


def _product(x: Tensor, packed: Tensor, encoding: int, *rest: Any) -> Tensor:
    scale, bias, x_scale, latent, activation = rest
    if is_compiling():
        check(x, packed, encoding, *rest)
    try:
        laid = _layouts.get(packed, encoding, in_features(x, packed, encoding))
        return prepared(
            x, laid, scale, bias, encoding=encoding, out_features=packed.shape[0], x_scale=x_scale, latent=latent,
            activation=activation,
        )  # fmt: skip
    except Exception:
        explain(check, x, packed, encoding, *rest)
        raise
