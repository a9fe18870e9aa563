"""Kernels with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from sylvester.ops._dispatch import WIDE
from sylvester.ops.hadamard_transform import hadamard_transform, reference
from wrong import Wrong


def _scale_of_the_slides(
    x: Tensor, *, block_size: int | None = None, scale: float | None = None, **rest: Any
) -> Tensor:
    block = x.shape[-1] if block_size is None else block_size
    return hadamard_transform(x, block_size=block, scale=1 / block if scale is None else scale, **rest)


def _whole_axis(x: Tensor, *, block_size: int | None = None, **rest: Any) -> Tensor:
    """Ignores the block size where it can."""
    width = x.shape[-1]
    return hadamard_transform(x, block_size=None if width.bit_count() == 1 else block_size, **rest)


def _arithmetic_in_16_bits(x: Tensor, *, pre: Tensor | None = None, **rest: Any) -> Tensor:
    return hadamard_transform(x if pre is None else (x * pre).to(x.dtype), **rest)


def _last_element_unwritten(x: Tensor, **rest: Any) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    y[..., :-1] = hadamard_transform(x, **rest)[..., :-1]
    return y


def _strides_ignored(x: Tensor, **rest: Any) -> Tensor:
    dense = x if x.is_contiguous() else x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride())
    return hadamard_transform(dense, **rest)


def _scratch_in_the_input(x: Tensor, **rest: Any) -> Tensor:
    y = hadamard_transform(x, **rest)
    with torch.no_grad():
        x[..., -1:].mul_(2)
    return y


def _another_algorithm_for_many_rows(x: Tensor, **rest: Any) -> Tensor:
    rows = x.shape[:-1].numel()
    y = hadamard_transform(x, **rest)
    return y if rows < 2 else reference(x, **rest) + torch.finfo(x.dtype).eps * y


def _by_thread_count(x: Tensor, **rest: Any) -> Tensor:
    y = hadamard_transform(x, **rest)
    return y if torch.get_num_threads() == 1 else y * (1 + torch.finfo(y.dtype).eps)


_calls = itertools.count()


def _by_call(x: Tensor, **rest: Any) -> Tensor:
    y = hadamard_transform(x, **rest)
    return y if next(_calls) % 3 else y * (1 + torch.finfo(y.dtype).eps)


class _PreAndPostNotSwapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pre: Tensor | None, post: Tensor | None, rest: dict[str, Any]) -> Tensor:
        ctx.pre, ctx.post, ctx.rest = pre, post, rest
        return hadamard_transform(x, pre=pre, post=post, **rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return hadamard_transform(grad, pre=ctx.pre, post=ctx.post, **ctx.rest), None, None, None


def _not_swapped(x: Tensor, *, pre: Tensor | None = None, post: Tensor | None = None, **rest: Any) -> Tensor:
    return _PreAndPostNotSwapped.apply(x, pre, post, rest)


class _FactorNotTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rest: dict[str, Any]) -> Tensor:
        ctx.rest = rest
        return hadamard_transform(x, **rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return hadamard_transform(grad, **ctx.rest), None


def _not_transposed(x: Tensor, *, pre: Tensor | None = None, post: Tensor | None = None, **rest: Any) -> Tensor:
    """Right for every symmetric H, and for what is learned beside it."""
    wide = WIDE[x.dtype]
    y = _FactorNotTransposed.apply(x.to(wide) if pre is None else x.to(wide) * pre.to(wide), rest)
    return (y if post is None else y * post.to(wide)).to(x.dtype)


class _DetachedBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rest: dict[str, Any]) -> Tensor:
        ctx.rest = rest
        return hadamard_transform(x, **rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        swapped = {**ctx.rest, "pre": ctx.rest.get("post"), "post": ctx.rest.get("pre")}
        return hadamard_transform(grad.detach(), **swapped), None


def _second_derivative_zero(x: Tensor, **rest: Any) -> Tensor:
    return _DetachedBackward.apply(x, rest)


WRONG = (
    Wrong("scale 1/n", "value", _scale_of_the_slides),
    Wrong("block size ignored", "value", _whole_axis),
    Wrong("pre rounded to 16 bits", "value", _arithmetic_in_16_bits),
    Wrong("pre and post not swapped", "gradient", _not_swapped),
    Wrong("H in place of its transpose in the backward", "gradient", _not_transposed),
    Wrong("second derivative zero", "second_derivative", _second_derivative_zero),
    Wrong("last element unwritten", "poisoned", _last_element_unwritten),
    Wrong("strides ignored", "layouts", _strides_ignored),
    Wrong("scratch in the input", "untouched", _scratch_in_the_input),
    Wrong("another algorithm for many rows", "row_by_row", _another_algorithm_for_many_rows),
    Wrong("bits by thread count", "repeatable", _by_thread_count),
    Wrong("bits by call", "repeatable", _by_call),
)
