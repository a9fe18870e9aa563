"""Quantisers with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sylvester.ops.quantize_rows import finished, quantize_rows
from wrong import Wrong

Pair = tuple[Tensor, Tensor]


def _from_reals(x: Tensor, bits: int, codes: Tensor, limit: float, dequantize: bool) -> Pair:
    """Codes before rounding, and limit / row_scale, as results."""
    row_scale = x.detach().float().abs().amax(-1) / limit if x.shape[-1] else x.new_zeros(x.shape[:-1]).float()
    whole = codes.nan_to_num(0, 0, 0).to(torch.int8)
    return finished(whole, row_scale, bits, x if dequantize else None)


def _scaled(x: Tensor, limit: float) -> Tensor:
    return x.detach().float() * (limit / x.detach().float().abs().amax(-1, keepdim=True)) if x.numel() else x


def _towards_zero(x: Tensor, *, bits: int = 8, dequantize: bool = False) -> Pair:
    limit = 2 ** (bits - 1) - 1
    return _from_reals(x, bits, _scaled(x, limit), limit, dequantize)


def _asymmetric(x: Tensor, *, bits: int = 8, dequantize: bool = False) -> Pair:
    limit = 2 ** (bits - 1)
    return _from_reals(x, bits, _scaled(x, limit).round().clamp(-limit, limit - 1), limit, dequantize)


def _one_scale_for_all(x: Tensor, **options: Any) -> Pair:
    codes, row_scale = quantize_rows(x.flatten(), **options) if x.numel() else quantize_rows(x, **options)
    return (
        (codes.view(x.shape), row_scale.expand(x.shape[:-1]).clone())
        if codes.numel() == x.numel()
        else (quantize_rows(x, **options))
    )


def _high_half_first(x: Tensor, **options: Any) -> Pair:
    codes, row_scale = quantize_rows(x, **options)
    return (codes << 4 | codes >> 4 if codes.dtype == torch.uint8 else codes), row_scale


def _last_byte_unwritten(x: Tensor, **options: Any) -> Pair:
    codes, row_scale = quantize_rows(x, **options)
    partly = torch.empty_like(codes)
    partly[..., :-1] = codes[..., :-1]
    return partly, row_scale


def _gradient_stops(x: Tensor, **options: Any) -> Pair:
    values, row_scale = quantize_rows(x, **options)
    return (values.detach() + 0 * x if options.get("dequantize") else values), row_scale


def _scratch_in_the_input(x: Tensor, **options: Any) -> Pair:
    results = quantize_rows(x, **options)
    with torch.no_grad():
        x[..., -1:].mul_(2)
    return results


WRONG = (
    Wrong("towards zero", "value", _towards_zero),
    Wrong("asymmetric codes", "value", _asymmetric),
    Wrong("one scale for all rows", "value", _one_scale_for_all),
    Wrong("high half first", "value", _high_half_first),
    Wrong("last byte unwritten", "poisoned", _last_byte_unwritten),
    Wrong("gradient stops", "gradient", _gradient_stops),
    Wrong("scratch in the input", "untouched", _scratch_in_the_input),
)
