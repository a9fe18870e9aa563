"""Kernels with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sylvester.formats import intn
from sylvester.ops.lowbit_matmul import intn_matmul
from wrong import Wrong


def _two_complement(x: Tensor, packed: Tensor, bits: int, *rest: Any, **options: Any) -> Tensor:
    """Reads u = w + 2^(s - 1) as the bits of a signed number."""
    codes = intn.unpack(packed, bits, packed.shape[1] * 8 // (2 if bits == 2 else 4 if bits <= 4 else 8))
    half = 1 << (bits - 1)
    signed = torch.where(codes < 0, codes + half, codes - half).to(torch.int8)
    kept = signed[:, : 2 * x.shape[-1] if x.dtype == torch.uint8 else x.shape[-1]]
    return intn_matmul(x, intn.pack(kept, bits), bits, *rest, **options)


def _saturated(x: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Pairs of products clipped to int16, as maddubs clips them when nobody proves a bound."""
    y = intn_matmul(x, *rest, **options)
    return y.clamp(-2.0, 2.0)


def _latent_by_scale(x: Tensor, packed: Tensor, bits: int, scale: Tensor, *rest: Any, **options: Any) -> Tensor:
    """Gives the latent weight the gradient of the codes."""
    latent = options.pop("latent", None)
    y = intn_matmul(x, packed, bits, scale, *rest, **options)
    if latent is None:
        return y
    scaled = latent * (scale[:, None] if scale.dim() else scale).detach()
    zero = torch.nn.functional.linear(x.detach().to(latent.dtype), scaled - scaled.detach())
    return y + zero.to(y.dtype)


WRONG = (
    Wrong("two's complement", "value", _two_complement),
    Wrong("sums clipped", "value", _saturated),
    Wrong("latent gradient scaled", "gradient", _latent_by_scale),
)
