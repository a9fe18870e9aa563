"""The sum h_T = Σ_j W^j [U b] x_{T-1-j} on GPUs: the scan's kernels make the basis, one product kernel does the rest.

A block of the basis is (steps, rows, D) in float32, a row an input and one of the bias. Tokens become one-hot vectors a
block at a time: the plan is for few inputs.

    forward            (B, D) += x (B, steps · I) · basis (steps · I, D)
    grad of the basis  (steps · I, D) = xᵀ (steps · I, B) · grad (B, D), then through the scan's backward
    grad of the drive  (B, steps · I) = grad (B, D) · basisᵀ (D, steps · I)

A drive is read backwards where it lies; nothing is copied to be multiplied, and nothing of size T · D · I exists.

Read on: _products.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from . import _blocks as blocks
from ._drive import by_time
from ._products import Axis, Factor, matrix, multiply
from .hadamard_scan import hadamard_scan, hadamard_scan_backward

__all__ = ["hadamard_basis", "hadamard_basis_apply", "hadamard_basis_scan", "hadamard_basis_scan_backward"]

BLOCK_ELEMENTS = 1 << 17
"""Of a block of the basis; where blocks start is part of the raw operators' contract."""


class Inputs(NamedTuple):
    """A drive in the order of the basis, whose first step is the last of the sequence."""

    rows: Tensor
    """(T, B, I) or (T, B)"""
    count: int
    reverse: bool
    tokens: bool

    def axis(self, steps: int) -> Axis:
        """(steps, I)"""
        return Axis(steps * self.count, max(self.count, 1))

    def block(self, first: int, steps: int, of: Tensor | None = None) -> Factor:
        """(B, (steps, I)) of the drive, or of a tensor laid out like it."""
        start = first if self.reverse else len(self.rows) - first - steps
        x = (self.rows if of is None else of)[start : start + steps]
        if self.tokens:
            x = (x[..., None] == torch.arange(self.count, device=x.device)).float()
        step = x.stride(0) if self.reverse else -x.stride(0)
        return Factor(x if self.reverse else x[-1:], (x.stride(1), 0), (step, x.stride(2)))

    def strange(self) -> Tensor:
        """(B,): whether a row holds a token that the table lacks."""
        return ((self.rows < 0) | (self.rows >= self.count)).any(0)


def _length(inputs: int, width: int) -> int:
    return max(BLOCK_ELEMENTS // ((inputs + 1) * ((width + 15) // 16 * 16)), 1)


def _start(weight: Tensor, bias: Tensor | None, tokens: bool) -> Tensor:
    """[U b], (rows, D) in float32."""
    rows = (weight if tokens else weight.t()).float()
    return rows.contiguous() if bias is None else torch.cat((rows, bias.float()[None]))


def _nothing(start: Tensor, steps: int) -> Tensor:
    """A drive of zeros, (steps, rows, D)."""
    return start.new_zeros(start.shape[1]).expand(steps, *start.shape)


def _advance(start: Tensor, sign: Tensor, block_size: int, steps: int) -> Tensor:
    """The basis from ``start`` on, (steps + 1, rows, D): the last is where the next block starts."""
    drive = _nothing(start, steps)
    options = (block_size, 0, False, False, False, False)
    states, _, _ = hadamard_scan(drive, None, sign, None, start, None, None, None, None, *options)
    return torch.cat((start[None], states))


def _blocks(start: Tensor, sign: Tensor, block_size: int, steps: int, inputs: int) -> Iterator[tuple[int, Tensor]]:
    """(first step, basis (steps, rows, D)) of each block."""
    length = _length(inputs, start.shape[1])
    for first in range(0, steps, length):
        basis = _advance(start, sign, block_size, min(length, steps - first))
        start = basis[-1]
        yield first, basis[:-1]


def _prepare(drive: Tensor, weight: Tensor, reverse: bool, batch_first: bool) -> Inputs:
    blocks.require_floats("weight", weight.dtype)
    tokens = not drive.is_floating_point()
    return Inputs(by_time(drive, batch_first), weight.shape[0 if tokens else 1], reverse, tokens)


def _add(last: Tensor, x: Inputs, first: int, basis: Tensor) -> None:
    """basis (steps, I, D)"""
    steps, _, width = basis.shape
    multiply(Axis(len(last)), x.axis(steps), Axis(width), x.block(first, steps), _rows(basis), matrix(last), True)


def _rows(basis: Tensor) -> Factor:
    """((steps, I), D)"""
    return Factor(basis, (basis.stride(0), basis.stride(1)), (basis.stride(2), 0))


def _finish(last: Tensor, shift: Tensor, x: Inputs) -> Tensor:
    last += shift
    return torch.where(x.strange()[:, None], float("nan"), last) if x.tokens else last


def hadamard_basis_scan(
    drive: Tensor,
    weight: Tensor,
    sign: Tensor,
    bias: Tensor | None,
    block_size: int,
    reverse: bool,
    batch_first: bool,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    x, starts = _prepare(drive, weight, reverse, batch_first), []
    start = _start(weight, bias, x.tokens)
    (steps, rows), width = x.rows.shape[:2], sign.shape[0]
    last, shift = start.new_zeros(rows, width), start.new_zeros(width)
    for first, basis in _blocks(start, sign, block_size, steps, x.count):
        starts.append(basis[0])
        _add(last, x, first, basis[:, : x.count])
        if bias is not None:
            shift += basis[:, -1].sum(0)
    kept = torch.stack(starts) if keep and starts else start.new_empty(0, *start.shape)
    return _finish(last, shift, x), kept


def hadamard_basis(
    weight: Tensor, sign: Tensor, bias: Tensor | None, block_size: int, steps: int, tokens: bool
) -> tuple[Tensor, Tensor]:
    blocks.require_floats("weight", weight.dtype)
    start, width = _start(weight, bias, tokens), sign.shape[0]
    inputs, padded = weight.shape[0 if tokens else 1], (width + 15) // 16 * 16
    row = padded + 16 if padded % 32 == 0 else padded
    basis = start.new_empty_strided((steps, inputs, width), (inputs * row, row, 1))
    shift = start.new_zeros(width)
    for first, block in _blocks(start, sign, block_size, steps, inputs):
        basis[first : first + len(block)] = block[:, :inputs]
        if bias is not None:
            shift += block[:, -1].sum(0)
    return basis, shift


def hadamard_basis_apply(drive: Tensor, basis: Tensor, shift: Tensor, reverse: bool, batch_first: bool) -> Tensor:
    blocks.require_floats("basis", basis.dtype)
    steps, inputs, width = basis.shape
    x = Inputs(by_time(drive, batch_first), inputs, reverse, not drive.is_floating_point())
    last, length = basis.new_zeros(x.rows.shape[1], width), _length(inputs, width)
    for first in range(0, steps, length):
        _add(last, x, first, basis[first : first + length])
    return _finish(last, shift, x)


def hadamard_basis_scan_backward(
    grad_last: Tensor,
    drive: Tensor,
    weight: Tensor,
    sign: Tensor,
    bias: Tensor | None,
    starts: Tensor,
    block_size: int,
    reverse: bool,
    batch_first: bool,
    need_drive: bool,
    need_weight: bool,
    need_sign: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, start = _prepare(drive, weight, reverse, batch_first), _start(weight, bias, not drive.is_floating_point())
    need_drive = need_drive and not x.tokens
    grad_drive = drive.new_empty(drive.shape if need_drive else (0,), dtype=weight.dtype)
    rows, width = Axis(len(grad_last)), Axis(sign.shape[0])
    steps, length = len(x.rows), _length(x.count, width.count)
    of_bias, carry, sign_sum = grad_last.sum(0), torch.zeros_like(start), start.new_zeros(width.count)
    for first in reversed(range(0, steps, length)):
        count = min(length, steps - first)
        of_basis, depth = start.new_empty(count, *start.shape), x.axis(count)
        multiply(depth, rows, width, x.block(first, count).t(), matrix(grad_last), _rows(of_basis[:, : x.count]), False)
        if bias is not None:
            of_basis[:, -1] = of_bias
        basis = _advance(starts[first // length], sign, block_size, count) if need_drive or need_sign else None
        if basis is not None and need_drive:
            target = x.block(first, count, by_time(grad_drive, batch_first))
            multiply(rows, width, depth, matrix(grad_last), _rows(basis[:, : x.count]).t(), target, False)
        _, _, of_sign, _, before, *_ = hadamard_scan_backward(
            torch.cat((of_basis[1:], carry[None])), None, _nothing(start, count), None, sign.float(), None,
            None, None, None, None, basis[1:] if basis is not None and need_sign else None, start,
            start.new_empty(0, *start.shape), block_size, 0, False, False, False, False, False, need_sign,
        )  # fmt: skip
        carry = before + of_basis[0]
        if need_sign:
            sign_sum += of_sign
    grad_weight = weight.new_empty(weight.shape if need_weight else (0,))
    if need_weight:
        grad_weight.copy_(carry[: x.count] if x.tokens else carry[: x.count].t())
    return (
        grad_drive,
        grad_weight,
        sign_sum.to(sign.dtype) if need_sign else sign.new_empty(0),
        sign.new_empty(0) if bias is None else carry[-1].to(bias.dtype),
    )
