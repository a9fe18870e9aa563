"""The definition in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...formats import binary, intn, ternary, trits
from ...ste import straight_through
from .._dispatch import WIDE
from ..quantize_rows import codes_of
from ._check import BINARY, in_features, ternary_encoding


def reference(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    x_scale: Tensor | None,
    latent: Tensor | None,
    activation: str,
) -> Tensor:
    """``codes`` (N, K) are what is packed; float64 is quantised as float32 is and goes on in float64."""
    multiplied = activated(x, x_scale, activation)[..., : codes.shape[-1]]
    wide = torch.promote_types(multiplied.dtype, WIDE[scale.dtype])
    multiplied, scale = multiplied.to(wide), scale.to(wide)
    y = functional.linear(multiplied, codes.to(wide)) * scale
    if bias is not None:
        y = y + bias.to(wide)
    if latent is not None:  # adds zeros: the weight that is used counts as the latent one
        y = y + functional.linear(multiplied.detach(), latent.to(wide) - latent.detach().to(wide))
    return y.to(x.dtype) if x.dtype in WIDE else y


def activated(x: Tensor, x_scale: Tensor | None, activation: str) -> Tensor:
    """What the weights are multiplied with, in full precision; the gradient passes straight through."""
    if x_scale is not None:
        codes = intn.unpack(x, 4, 2 * x.shape[-1]) if x.dtype == torch.uint8 else x
        return codes.to(WIDE[x_scale.dtype]) * x_scale.to(WIDE[x_scale.dtype]).unsqueeze(-1)
    wide = x.to(WIDE[x.dtype])
    if activation == "float":
        return wide
    codes, row_scale = codes_of(x.detach().float(), 8)
    return straight_through(codes.to(wide.dtype) * row_scale.to(wide.dtype).unsqueeze(-1), wide)


def ternary_reference(
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
    """``ternary_matmul`` in plain PyTorch."""
    code = ternary_encoding(encoding)
    unpack = ternary.unpack if encoding == "2bit" else trits.unpack
    return reference(x, unpack(packed, in_features(x, packed, code)), scale, bias, x_scale, latent, activation)


def intn_reference(
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
    """``intn_matmul`` in plain PyTorch."""
    codes = intn.unpack(packed, bits, in_features(x, packed, bits))
    return reference(x, codes, scale, bias, x_scale, latent, activation)


def binary_reference(
    x: Tensor,
    packed: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    x_scale: Tensor | None = None,
    latent: Tensor | None = None,
    activation: str = "int8",
) -> Tensor:
    """``binary_matmul`` in plain PyTorch."""
    codes = binary.unpack(packed, in_features(x, packed, BINARY))
    return reference(x, codes, scale, bias, x_scale, latent, activation)
