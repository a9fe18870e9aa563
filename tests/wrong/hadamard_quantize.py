"""Kernels with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sylvester.ops.hadamard_quantize import hadamard_quantize
from sylvester.ops.hadamard_transform import hadamard_transform
from sylvester.ops.quantize_rows import quantize_rows
from wrong import Wrong

Pair = tuple[Tensor, Tensor]
QUANTISATION = ("bits", "dequantize")


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the transform, and of the quantisation."""
    chosen = {name: options[name] for name in QUANTISATION if name in options}
    return {name: value for name, value in options.items() if name not in chosen}, chosen


def _transform_in_16_bits(x: Tensor, **options: Any) -> Pair:
    first, second = _split(options)
    codes, row_scale = quantize_rows(hadamard_transform(x.bfloat16(), **first), **second)
    return (codes.to(x.dtype) if codes.is_floating_point() else codes), row_scale


def _scale_forgotten(x: Tensor, *, scale: float | None = None, **options: Any) -> Pair:
    return hadamard_quantize(x, scale=1.0, **options)


def _sign_of_scale_forgotten(x: Tensor, *, scale: float | None = None, **options: Any) -> Pair:
    return hadamard_quantize(x, scale=scale if scale is None else abs(scale), **options)


def _pre_forgotten(x: Tensor, *, pre: Tensor | None = None, **options: Any) -> Pair:
    return hadamard_quantize(x, **options)


def _codes_of_the_input(x: Tensor, **options: Any) -> Pair:
    _, row_scale = hadamard_quantize(x, **options)
    return quantize_rows(x, **_split(options)[1])[0], row_scale


def _largest_of_the_first_block(x: Tensor, *, block_size: int | None = None, **options: Any) -> Pair:
    codes, row_scale = hadamard_quantize(x, block_size=block_size, **options)
    first = {**options, "pre": options["pre"][:block_size]} if options.get("pre") is not None else options
    return codes, hadamard_quantize(x[..., :block_size], **first)[1] if x.shape[-1] else row_scale


def _not_transposed(x: Tensor, **options: Any) -> Pair:
    """The gradient of the quantisation alone."""
    values, row_scale = hadamard_quantize(x.detach(), **options)
    return (values + (x - x.detach()) if options.get("dequantize") else values), row_scale


def _last_byte_unwritten(x: Tensor, **options: Any) -> Pair:
    codes, row_scale = hadamard_quantize(x, **options)
    partly = torch.empty_like(codes)
    partly[..., :-1] = codes[..., :-1]
    return partly, row_scale


def _strides_ignored(x: Tensor, **options: Any) -> Pair:
    dense = x if x.is_contiguous() else x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride())
    return hadamard_quantize(dense, **options)


def _by_thread_count(x: Tensor, **options: Any) -> Pair:
    codes, row_scale = hadamard_quantize(x, **options)
    return codes, row_scale if torch.get_num_threads() == 1 else row_scale * (1 + 2.0**-20)


WRONG = (
    Wrong("transform in 16 bits", "value", _transform_in_16_bits),
    Wrong("scale forgotten", "value", _scale_forgotten),
    Wrong("sign of scale forgotten", "value", _sign_of_scale_forgotten),
    Wrong("pre forgotten", "value", _pre_forgotten),
    Wrong("codes of the input", "value", _codes_of_the_input),
    Wrong("largest of the first block", "value", _largest_of_the_first_block),
    Wrong("gradient not transformed", "gradient", _not_transposed),
    Wrong("last byte unwritten", "poisoned", _last_byte_unwritten),
    Wrong("strides ignored", "layouts", _strides_ignored),
    Wrong("bits by thread count", "repeatable", _by_thread_count),
)
