"""Fakes, GPU launchers and derivatives of the raw operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._dispatch import WIDE, derive_eager, require_floats, sum_rows
from ._check import Product, check_product, check_vectors, layout_shape, require_bytes, require_layout
from ._reference import activated

_multiply = torch.ops.sylvester.lowbit_matmul.default
_multiply_input = torch.ops.sylvester.lowbit_matmul_input.default


@torch.library.register_fake("sylvester::lowbit_layout")
def _fake_layout(packed: Tensor, encoding: int, in_features: int) -> Tensor:
    require_bytes("packed", packed)
    return packed.new_empty(layout_shape(encoding, packed.shape[0], in_features))


@torch.library.register_fake("sylvester::lowbit_layout_codes")
def _fake_layout_codes(codes: Tensor, encoding: int) -> Tensor:
    return codes.new_empty(layout_shape(encoding, *codes.shape), dtype=torch.uint8)


@torch.library.register_fake("sylvester::lowbit_matmul")
def _fake(*arguments: Any) -> Tensor:
    a = Product(*arguments)
    check_product(a)
    dtype = a.x.dtype if a.x.dtype in WIDE else torch.float32
    return a.x.new_empty((*a.x.shape[:-1], a.out_features), dtype=dtype)


@torch.library.register_fake("sylvester::lowbit_matmul_input")
def _fake_input(grad: Tensor, layout: Tensor, scale: Tensor, encoding: int, in_features: int) -> Tensor:
    require_floats("grad", grad)
    rows = grad.shape[-1]
    require_layout(layout, encoding, rows, in_features, grad)
    check_vectors(grad, rows, in_features, scale, None, None)
    return grad.new_empty((*grad.shape[:-1], in_features))


LAUNCHERS: dict[str, Callable[..., Any]] = {}
"""Raw operator -> GPU launcher. An operator without one refuses CUDA tensors by name."""
for _name, _launcher in LAUNCHERS.items():
    torch.library.impl(f"sylvester::{_name}", "CUDA")(_launcher)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, needs = Product(*inputs), Product(*ctx.needs_input_grad[: len(inputs)])
    keep = needs.scale or needs.x_scale or needs.latent
    ctx.columns = a.x.shape[-1]
    ctx.latent = None if a.latent is None else (a.latent.shape[-1], a.latent.dtype)
    ctx.options = a.encoding, a.out_features, a.exact
    ctx.save_for_backward(a.x if keep else None, a.x_scale if keep else None, a.layout, a.scale)


def _derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, x_scale, layout, scale = ctx.saved_tensors
    needs, options = Product(*ctx.needs_input_grad), ctx.options
    found: dict[str, Tensor] = {}
    # Called as operators, not as kernels: each gradient is differentiable again.
    if needs.x:
        found["x"] = _multiply_input(grad, layout, scale, options[0], ctx.columns)
    wide = grad.to(scale.dtype)
    if needs.bias:
        found["bias"] = sum_rows(wide)
    if needs.scale:
        found["scale"] = _scale_gradient(wide, x, x_scale, layout, scale, options)
    if needs.x_scale:
        unscaled = _multiply(x, torch.ones_like(x_scale), layout, scale, None, None, *options)
        found["x_scale"] = _sum((wide * unscaled).movedim(-1, 0).flatten(1), wide.dtype).reshape(x_scale.shape)
    if needs.latent:
        columns, dtype = ctx.latent
        multiplied = activated(x, x_scale, "float" if options[2] else "int8")[..., :columns]
        found["latent"] = (_rows(wide).t() @ _rows(multiplied)).to(dtype)
    return tuple(found.get(name) for name in Product._fields)


def _scale_gradient(
    grad: Tensor, x: Tensor, x_scale: Tensor | None, layout: Tensor, scale: Tensor, options: Any
) -> Tensor:
    """Σ_m grad · u of each row of W, u the product at scale 1, in full precision; of one scale, the sum over rows."""
    x = x.to(scale.dtype) if x_scale is None else x
    u = _multiply(x, x_scale, layout, scale.new_ones(()), None, None, *options)
    sums = _sum(grad * u, grad.dtype)
    return sums if scale.dim() else _sum(sums.unsqueeze(-1), grad.dtype).squeeze(0)


def _sum(terms: Tensor, dtype: torch.dtype) -> Tensor:
    """Of rows, in float64: the terms of a scale's gradient cancel."""
    return sum_rows(terms.double()).to(dtype)


def _rows(tensor: Tensor) -> Tensor:
    """Contiguous, so that strides do not choose another way through torch's product."""
    return (tensor.flatten(0, -2) if tensor.dim() > 1 else tensor[None]).contiguous()


def _setup_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, layout, scale, encoding, _ = inputs
    ctx.options = encoding, grad.shape[-1], True
    ctx.save_for_backward(grad if ctx.needs_input_grad[2] else None, layout, scale)


def _derivative_input(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
    grad, layout, scale = ctx.saved_tensors
    back = by_scale = None
    if ctx.needs_input_grad[0]:
        back = _multiply(incoming, None, layout, scale, None, None, *ctx.options)
    if ctx.needs_input_grad[2]:
        by_scale = _scale_gradient(grad.to(scale.dtype), incoming, None, layout, scale, ctx.options)
    return back, None, by_scale, None, None


torch.library.register_autograd("sylvester::lowbit_matmul", _derivative, setup_context=_setup)
torch.library.register_autograd("sylvester::lowbit_matmul_input", _derivative_input, setup_context=_setup_input)
derive_eager(_multiply, _derivative, _setup)
