"""Kernels with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sylvester.formats import ternary
from sylvester.ops.lowbit_matmul import reference, ternary_matmul, ternary_reference
from wrong import Wrong


def _rounded_up(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    """Codes of the activations are floor(v + 3/4) instead of half to even."""
    if not x.is_floating_point() or options.get("activation") == "float" or not x.shape[-1]:
        return ternary_matmul(x, packed, scale, bias, **options)
    largest = x.float().abs().amax(-1, keepdim=True)
    codes = (x.float() / largest * 127 + 0.75).floor().nan_to_num(0).to(torch.int8)
    return ternary_matmul(codes, packed, scale, bias, x_scale=(largest / 127).squeeze(-1), **options).to(x.dtype)


def _scale_of_the_first_row(x: Tensor, packed: Tensor, scale: Tensor, *rest: Any, **options: Any) -> Tensor:
    first = scale if scale.dim() == 0 or not scale.numel() else scale[0]
    return ternary_matmul(x, packed, first, *rest, **options)


def _bias_forgotten(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    return ternary_matmul(x, packed, scale, **options)


def _field_of_two(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    """Reads the fields of a byte in the other order."""
    if options.get("encoding") != "2bit" or not x.shape[-1] or "x_scale" in options or "latent" in options:
        return ternary_matmul(x, packed, scale, bias, **options)
    codes = ternary.unpack(packed, packed.shape[1] * 4)
    swapped = codes.unflatten(-1, (-1, 4)).flip(-1).flatten(-2)[:, : x.shape[-1]]
    return reference(x, swapped, scale, bias, None, None, options.get("activation", "int8"))


def _gradient_of_codes(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    """dx without the scale of the weights."""
    y = ternary_matmul(x.detach(), packed, scale, bias, **options)
    if not x.is_floating_point():
        return y
    one = ternary_reference(x, packed, torch.ones_like(scale).detach(), None, **options)
    return y + (one - one.detach()).to(y.dtype)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.detach()


def _second_derivative_zero(*arguments: Any, **options: Any) -> Tensor:
    return _Once.apply(ternary_matmul(*arguments, **options))


def _last_column_unwritten(*arguments: Any, **options: Any) -> Tensor:
    right = ternary_matmul(*arguments, **options)
    y = torch.empty_like(right)
    y[..., :-1] = right[..., :-1]
    return y


def _strides_ignored(x: Tensor, *rest: Any, **options: Any) -> Tensor:
    dense = x if x.is_contiguous() else x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride())
    return ternary_matmul(dense, *rest, **options)


def _sums_by_batch(x: Tensor, *rest: Any, **options: Any) -> Tensor:
    """As a product of torch's own would do: another order of the sums for one row than for several."""
    y = ternary_matmul(x, *rest, **options)
    return y if x.dim() < 2 or x.shape[0] < 2 else y * (1 + torch.finfo(y.dtype).eps)


def _by_thread_count(*arguments: Any, **options: Any) -> Tensor:
    y = ternary_matmul(*arguments, **options)
    return y if torch.get_num_threads() == 1 else y * (1 + torch.finfo(y.dtype).eps)


def _bias_in_place(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None = None, **options: Any) -> Tensor:
    y = ternary_matmul(x, packed, scale, bias, **options)
    if bias is not None:
        with torch.no_grad():
            bias.neg_()
    return y


WRONG = (
    Wrong("activations rounded up", "value", _rounded_up),
    Wrong("one scale for all rows", "value", _scale_of_the_first_row),
    Wrong("bias forgotten", "value", _bias_forgotten),
    Wrong("fields of a byte in the other order", "value", _field_of_two),
    Wrong("dx without the scale", "gradient", _gradient_of_codes),
    Wrong("second derivative zero", "second_derivative", _second_derivative_zero),
    Wrong("last column unwritten", "poisoned", _last_column_unwritten),
    Wrong("strides ignored", "layouts", _strides_ignored),
    Wrong("bits by batch", "row_by_row", _sums_by_batch),
    Wrong("bits by thread count", "repeatable", _by_thread_count),
    Wrong("bias written to", "untouched", _bias_in_place),
)
