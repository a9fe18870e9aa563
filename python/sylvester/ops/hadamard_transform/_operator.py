"""What the operator is: reference, check, public functions, fakes, GPU launchers, autograd, in this order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._dispatch import (
    LARGEST_BLOCK_CUDA,
    WIDE,
    call,
    call_in_place,
    derive_eager,
    describe,
    launch,
    require_block,
    require_floats,
    require_vector,
    sum_rows,
)

_forward = torch.ops.sylvester.hadamard_transform.default
_in_place = torch.ops.sylvester.hadamard_transform_.default
_out = torch.ops.sylvester.hadamard_transform_out.default


def reference(
    x: Tensor,
    *,
    block_size: int | None = None,
    scale: float | None = None,
    pre: Tensor | None = None,
    post: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The definition in plain PyTorch; ``out`` is ignored."""
    block = x.shape[-1] if block_size is None else block_size
    y = x.to(WIDE[x.dtype])
    if pre is not None:
        y = y * pre.to(y.dtype)
    y = y.reshape(*x.shape[:-1], x.shape[-1] // block, block)
    stride = 1
    while stride < block:
        a, b = y.unflatten(-1, (block // (2 * stride), 2, stride)).unbind(-2)
        y = torch.stack((a + b, a - b), -2).flatten(-3)
        stride *= 2
    y = y.flatten(-2) * (block**-0.5 if scale is None else scale)
    if post is not None:
        y = y * post.to(y.dtype)
    return y.to(x.dtype)


def check(
    x: Tensor,
    block_size: int | None,
    scale: float | None,
    pre: Tensor | None,
    post: Tensor | None,
    out: Tensor | None = None,
) -> int:
    """Raise on arguments the operator does not take; returns the block size."""
    if not isinstance(x, Tensor) or x.dtype not in WIDE or x.layout != torch.strided:
        require_floats("x", x)
    if x.dim() == 0:
        raise ValueError(f"x must have at least one dimension, got {describe(x)}")
    width = x.shape[-1]
    block = width if block_size is None else block_size
    if type(block) is not int or block < 1 or block & (block - 1) or width % block or block > LARGEST_BLOCK_CUDA:
        require_block(block, width, x)  # only its words, and the limit that depends on the device
    if scale is not None:
        if not isinstance(scale, (int, float)):
            raise TypeError(f"scale must be a float or None, got {describe(scale)} (a learned scale goes into post)")
        if not abs(scale) <= torch.finfo(WIDE[x.dtype]).max:
            raise ValueError(f"scale must be finite in {WIDE[x.dtype]}, got {scale}")
    if pre is not None:
        require_vector("pre", pre, width, x)
    if post is not None:
        require_vector("post", post, width, x)
    if out is not None:
        require_floats("out", out)
        if out.shape != x.shape or out.dtype != x.dtype or out.device != x.device:
            raise ValueError(f"out must have the shape, dtype and device of x, {describe(x)}; got {describe(out)}")
    return block


def hadamard_transform(
    x: Tensor,
    *,
    block_size: int | None = None,
    scale: float | None = None,
    pre: Tensor | None = None,
    post: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """scale · post ∘ ((I ⊗ S) (pre ∘ x)) over the last axis of ``x``; see the module for shapes and dtypes.

    >>> hadamard_transform(torch.tensor([1.0, 2.0]), scale=1.0)
    tensor([ 3., -1.])
    """
    block = check(x, block_size, scale, pre, post, out)
    if pre is not None or post is not None:
        pre, post = widened(pre, x), widened(post, x)
    if out is None:
        return call(_forward, x, block, scale, pre, post)
    call_in_place(_out, (x, block, scale, pre, post, out), "out", out, {"pre": pre, "post": post}, replaced=x)
    return out


def hadamard_transform_(
    x: Tensor,
    *,
    block_size: int | None = None,
    scale: float | None = None,
    pre: Tensor | None = None,
    post: Tensor | None = None,
) -> Tensor:
    """As ``hadamard_transform``, written over ``x``, which must not need a gradient; returns ``x``."""
    block = check(x, block_size, scale, pre, post, None)
    pre, post = widened(pre, x), widened(post, x)
    call_in_place(_in_place, (x, block, scale, pre, post), "x", x, {"pre": pre, "post": post})
    return x


def widened(diagonal: Tensor | None, x: Tensor) -> Tensor | None:
    """``pre`` or ``post`` as the raw operator takes it."""
    return diagonal if diagonal is None else diagonal.to(WIDE[x.dtype])


@torch.library.register_fake("sylvester::hadamard_transform")
def _fake(x: Tensor, *rest: Any) -> Tensor:
    check(x, *rest)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@torch.library.register_fake("sylvester::hadamard_transform_")
@torch.library.register_fake("sylvester::hadamard_transform_out")
def _fake_writing(*arguments: Any) -> None:
    check(*arguments)


def _cuda(*arguments: Any) -> Tensor:
    check(*arguments)
    return launch("hadamard_transform", "hadamard_transform", *arguments)


def _cuda_(*arguments: Any) -> None:
    check(*arguments)
    launch("hadamard_transform", "hadamard_transform_", *arguments)


def _cuda_out(*arguments: Any) -> None:
    check(*arguments)
    launch("hadamard_transform", "hadamard_transform_out", *arguments)


LAUNCHERS = {"hadamard_transform": _cuda, "hadamard_transform_": _cuda_, "hadamard_transform_out": _cuda_out}
for _name, _launcher in LAUNCHERS.items():
    torch.library.impl(f"sylvester::{_name}", "CUDA")(_launcher)


_NO_VECTORS: Any = (None, None, None)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.block_size, ctx.scale, pre, post = inputs
    ctx.has_vectors = pre is not None or post is not None
    if ctx.has_vectors:
        learned = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        ctx.save_for_backward(x if learned else None, pre, post)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, pre, post = ctx.saved_tensors if ctx.has_vectors else _NO_VECTORS
    grad_x = grad_pre = grad_post = None
    # Called as operators, not as kernels: each gradient is differentiable again.
    if ctx.needs_input_grad[0]:
        grad_x = _forward(grad, ctx.block_size, ctx.scale, post, pre)
    if ctx.needs_input_grad[3]:
        back = _forward(grad.to(pre.dtype), ctx.block_size, ctx.scale, post, None)
        grad_pre = sum_rows(x * back)
    if ctx.needs_input_grad[4]:
        ahead = _forward(x.to(post.dtype), ctx.block_size, ctx.scale, pre, None)
        grad_post = sum_rows(grad * ahead)
    return grad_x, None, None, grad_pre, grad_post


torch.library.register_autograd("sylvester::hadamard_transform", _backward, setup_context=_setup_context)
derive_eager(_forward, _backward, _setup_context)
