"""What the operators take: shapes, dtypes, devices, in the words of the public functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...formats._encoding import BINARY as BINARY
from ...formats._encoding import ENCODINGS, TERNARY, TRITS
from .._dispatch import WIDE, describe, require_device, require_floats

ACTIVATIONS = ("int8", "float")
GROUP, UNIT_BYTES = 16, 64
"""Rows of a group and bytes of a unit of the kernels' layout (csrc/lowbit_matmul/lowbit_matmul.h)."""


class Product(NamedTuple):
    """Arguments of the raw operator."""

    x: Tensor
    x_scale: Tensor | None
    layout: Tensor
    scale: Tensor
    bias: Tensor | None
    latent: Tensor | None
    encoding: int
    out_features: int
    exact: bool


def ternary_encoding(encoding: Any) -> int:
    """The code of an encoding of ternary weights."""
    if encoding not in ("2bit", "1.6bit"):
        raise ValueError(f'encoding must be "2bit" or "1.6bit", got {encoding!r}')
    return TERNARY if encoding == "2bit" else TRITS


def check(
    x: Tensor,
    packed: Tensor,
    encoding: int,
    scale: Tensor,
    bias: Tensor | None,
    x_scale: Tensor | None,
    latent: Tensor | None,
    activation: str,
) -> int:
    """Raise on arguments the operators do not take; returns K."""
    _check_x(x, x_scale)
    require_bytes("packed", packed)
    if packed.dim() != 2:
        raise ValueError(f"packed must have shape (N, bytes), got {tuple(packed.shape)}")
    require_device("packed", packed, x)
    columns, e = in_features(x, packed, encoding), ENCODINGS[encoding]
    if packed.shape[1] != e.packed_bytes(columns):
        raise ValueError(
            f"packed must have {e.packed_bytes(columns)} bytes a row, {columns} {e.name} codes as x has columns, "
            f"got {packed.shape[1]}"
        )
    require_activation(x, activation)
    check_vectors(x, packed.shape[0], columns, scale, bias, latent)
    if activation == "int8" or x_scale is not None:
        check_columns(columns, encoding)
    return columns


def in_features(x: Tensor, packed: Tensor, encoding: int) -> int:
    """K. Packed int4 activations do not say whether their last byte holds one code or two: ``packed`` may know."""
    if x.dtype != torch.uint8:
        return x.shape[-1]
    columns, e = 2 * x.shape[-1], ENCODINGS[encoding]
    one_less = columns > 0 and packed.shape[-1] == e.packed_bytes(columns - 1) != e.packed_bytes(columns)
    return columns - one_less


def require_activation(x: Tensor, activation: Any) -> bool:
    """Raise unless ``activation`` is a name that goes with ``x``; returns whether floats are multiplied as they are."""
    if activation not in ACTIVATIONS:
        raise ValueError(f'activation must be "int8" or "float", got {activation!r}')
    if x.dtype == torch.float64 and activation == "int8":
        raise ValueError('activation must be "float" for float64 x, which is not quantised, got "int8"')
    if x.dtype not in WIDE and activation == "float":
        raise ValueError(f'activation must be "int8" for x of codes, got "float" and {describe(x)}')
    return activation == "float"


def _check_x(x: Any, x_scale: Any) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.int8, torch.uint8) or x.layout != torch.strided:
        require_floats("x", x, ", int8 or uint8 (two int4 codes a byte)")
    if x.dim() == 0:
        raise ValueError(f"x must have at least one dimension, got {describe(x)}")
    if (x_scale is not None) != (x.dtype not in WIDE):
        raise ValueError(
            f"x_scale must be given with int8 or uint8 x, and only then; got {describe(x_scale)} and {describe(x)}"
        )
    if x_scale is not None:
        require_floats("x_scale", x_scale)
        if x_scale.shape != x.shape[:-1]:
            raise ValueError(
                f"x_scale must have shape {tuple(x.shape[:-1])}, as x has rows, got {tuple(x_scale.shape)}"
            )
        require_device("x_scale", x_scale, x)


def check_vectors(
    x: Tensor, rows: int, columns: int, scale: Tensor, bias: Tensor | None, latent: Tensor | None
) -> None:
    """Raise unless scale is () or (N,), bias (N,), latent (N, K): floats on the device of x."""
    _require_shape("scale", scale, ((), (rows,)), x)
    if bias is not None:
        _require_shape("bias", bias, ((rows,),), x)
    if latent is not None:
        _require_shape("latent", latent, ((rows, columns),), x)


def _require_shape(name: str, tensor: Tensor, shapes: tuple[tuple[int, ...], ...], like: Tensor) -> None:
    require_floats(name, tensor)
    if all(tuple(tensor.shape) != shape for shape in shapes):
        accepted = " or ".join(f"{shape}" for shape in shapes)
        raise ValueError(f"{name} must have shape {accepted}, got {tuple(tensor.shape)}")
    require_device(name, tensor, like)


def check_columns(columns: int, encoding: int) -> None:
    """Raise where the sum of a row could leave int32: |x| is up to 128."""
    e = ENCODINGS[encoding]
    largest = 1 if e.zero == 1 else e.zero
    most = (2**31 - 1) // (128 * largest)
    if columns > most:
        raise ValueError(f"x must have at most {most} columns, whose sums fit int32, got {columns}")


def require_bytes(name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8 or tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense uint8 tensor, got {describe(tensor)}")


def layout_shape(encoding: int, rows: int, columns: int) -> tuple[int, int, int]:
    """Of the kernels' layout of (N, K) codes."""
    return -(-rows // GROUP), -(-columns // (4 * ENCODINGS[encoding].fields)), UNIT_BYTES


def require_layout(layout: Tensor, encoding: int, rows: int, columns: int, like: Tensor) -> None:
    require_bytes("layout", layout)
    if tuple(layout.shape) != layout_shape(encoding, rows, columns):
        want = layout_shape(encoding, rows, columns)
        raise ValueError(f"layout must have shape {want} for ({rows}, {columns}) codes, got {tuple(layout.shape)}")
    require_device("layout", layout, like)


def check_product(a: Product) -> None:
    """Raise on arguments the raw operator does not take."""
    _check_x(a.x, a.x_scale)
    columns = a.x.shape[-1] * (2 if a.x.dtype == torch.uint8 else 1)
    require_layout(a.layout, a.encoding, a.out_features, columns, a.x)
    if a.latent is not None and a.x.dtype == torch.uint8 and a.latent.shape[-1] == columns - 1:
        columns -= 1  # the last byte of x holds one code
    require_activation(a.x, "float" if a.exact else "int8")
    check_vectors(a.x, a.out_features, columns, a.scale, a.bias, a.latent)
    if not a.exact:
        check_columns(columns, a.encoding)
    wide = torch.float64 if a.x.dtype == torch.float64 else torch.float32
    for name, vector in (("x_scale", a.x_scale), ("scale", a.scale), ("bias", a.bias)):
        if vector is not None and vector.dtype != wide:
            raise TypeError(f"{name} must be {wide}, got {describe(vector)}")
