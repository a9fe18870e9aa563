"""The sum h_T = Σ_j W^j [U b] x_{T-1-j} on GPUs: segments of the basis are made side by side, products do the rest.

A block of the basis is (rows, steps, D) in float32, a row an input and one of the bias; most sequences are one block.
Tokens become one-hot vectors a block at a time: the plan is for few inputs.

    forward            (B, D) += x (B, steps · I) · basis (steps · I, D)
    grad of the basis  (steps · I, D) = xᵀ (steps · I, B) · grad (B, D), then through the segments' adjoint
    grad of the drive  (B, steps · I) = grad (B, D) · basisᵀ (D, steps · I)

A drive is read backwards where it lies; nothing is copied to be multiplied, and nothing larger than a block exists. The
starts that a forward leaves serve where segments follow one another; the others need W^L again anyway.

Read on: _segments.py, _products.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from . import _blocks as blocks
from ._drive import by_time
from ._products import Axis, Factor, matrix, multiply
from ._segments import Segments, cut
from .hadamard_scan import run_free

__all__ = ["hadamard_basis", "hadamard_basis_apply", "hadamard_basis_scan", "hadamard_basis_scan_backward"]

START_ELEMENTS = 1 << 17
"""Of the basis between two of the starts that a forward leaves: part of the raw operators' contract."""


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


def _grain(inputs: int, width: int) -> int:
    return max(START_ELEMENTS // ((inputs + 1) * ((width + 15) // 16 * 16)), 1)


def _start(weight: Tensor, bias: Tensor | None, tokens: bool) -> Tensor:
    """[U b], (rows, D) in float32."""
    rows = (weight if tokens else weight.t()).float()
    return rows.contiguous() if bias is None else torch.cat((rows, bias.float()[None]))


def _segments(sign: Tensor, block_size: int, steps: int, inputs: int) -> Segments:
    return Segments.of(sign, block_size, steps, inputs + 1)


def _prepare(drive: Tensor, weight: Tensor, reverse: bool, batch_first: bool) -> Inputs:
    blocks.require_floats("weight", weight.dtype)
    tokens = not drive.is_floating_point()
    return Inputs(by_time(drive, batch_first), weight.shape[0 if tokens else 1], reverse, tokens)


def _add(last: Tensor, x: Inputs, first: int, basis: Tensor) -> None:
    """basis (steps, I, D); the first block is not added to anything."""
    steps, _, width = basis.shape
    rows, to = Axis(len(last)), matrix(last)
    multiply(rows, x.axis(steps), Axis(width), x.block(first, steps), _rows(basis), to, first > 0)


def _last(like: Tensor, steps: int, rows: int, width: int) -> Tensor:
    return like.new_empty(rows, width) if steps else like.new_zeros(rows, width)


def _rows(basis: Tensor) -> Factor:
    """((steps, I), D)"""
    return Factor(basis, (basis.stride(0), basis.stride(1)), (basis.stride(2), 0))


def _finish(last: Tensor, shift: Tensor | None, x: Inputs) -> Tensor:
    if shift is not None:
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
    x = _prepare(drive, weight, reverse, batch_first)
    start = _start(weight, bias, x.tokens)
    (steps, rows), width = x.rows.shape[:2], sign.shape[0]
    last, shift, grain = _last(start, steps, rows, width), None, _grain(x.count, width)
    kept = start.new_empty(triton.cdiv(steps, grain) if keep else 0, *start.shape)
    for first, basis in _segments(sign, block_size, steps, x.count).blocks(start, steps):
        if keep:
            found = basis[:, -first % grain :: grain].transpose(0, 1)
            kept[triton.cdiv(first, grain) :][: len(found)] = found
        _add(last, x, first, basis[: x.count].transpose(0, 1))
        if bias is not None:
            shift = basis[-1].sum(0) if shift is None else shift + basis[-1].sum(0)
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
    for first, block in _segments(sign, block_size, steps, inputs).blocks(start, steps):
        basis[first : first + block.shape[1]] = block[:inputs].transpose(0, 1)
        if bias is not None:
            shift += block[-1].sum(0)
    return basis, shift


def hadamard_basis_apply(drive: Tensor, basis: Tensor, shift: Tensor, reverse: bool, batch_first: bool) -> Tensor:
    blocks.require_floats("basis", basis.dtype)
    steps, inputs, width = basis.shape
    x = Inputs(by_time(drive, batch_first), inputs, reverse, not drive.is_floating_point())
    last = _last(basis, steps, x.rows.shape[1], width)
    length, at_once = cut(steps, inputs + 1, width)
    for first in range(0, steps, length * at_once):
        _add(last, x, first, basis[first : first + length * at_once])
    return _finish(last, shift, x)


def _starts_again(start: Tensor, kept: Tensor, segments: Segments, steps: int, grain: int) -> Tensor:
    """Of all segments, (rows, C, D), from what a forward kept of them."""
    if segments.power is not None:
        return segments.starts(start, steps)
    found = start.new_empty(len(start), triton.cdiv(steps, segments.length), start.shape[1])
    for a in range(found.shape[1]):
        known, rest = divmod(a * segments.length, grain)
        found[:, a] = run_free(kept[known].contiguous(), segments.sign, segments.block_size, rest)
    return found


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
    rows, width, steps = Axis(len(grad_last)), Axis(sign.shape[0]), len(x.rows)
    segments = _segments(sign, block_size, steps, x.count)
    if need_drive or need_sign:
        starts = _starts_again(start, starts, segments, steps, _grain(x.count, width.count))
    carry, sign_sum = torch.zeros_like(start), start.new_zeros(width.count)
    for a in reversed(range(0, triton.cdiv(steps, segments.length), segments.at_once)):
        first = a * segments.length
        parts = min(segments.at_once, triton.cdiv(steps - first, segments.length))
        length = segments.length if segments.power is not None else min(segments.length, steps - first)
        count = min(parts * length, steps - first)
        of_basis, depth = start.new_empty(len(start), parts * length, width.count), x.axis(count)
        of_basis[:, count:] = 0.0
        to = _rows(of_basis[: x.count].transpose(0, 1))
        multiply(depth, rows, width, x.block(first, count).t(), matrix(grad_last), to, False)
        if bias is not None:
            of_basis[-1, :count] = grad_last.sum(0)
        basis = segments.states(starts[:, a : a + parts], length) if need_drive or need_sign else None
        if basis is not None and need_drive:
            target = x.block(first, count, by_time(grad_drive, batch_first))
            by_step = _rows(basis[: x.count].transpose(0, 1))
            multiply(rows, width, depth, matrix(grad_last), by_step.t(), target, False)
        if basis is not None and first == 0:
            basis[:, 0] = 0.0  # no step made it
        carry, of_sign = segments.back(of_basis, basis if need_sign else None, carry, parts)
        if need_sign:
            sign_sum += of_sign
    grad_weight = weight.new_empty(weight.shape if need_weight else (0,))
    carry = run_free(carry, sign, block_size, 1)
    if need_weight:
        grad_weight.copy_(carry[: x.count] if x.tokens else carry[: x.count].t())
    return (
        grad_drive,
        grad_weight,
        sign_sum.to(sign.dtype) if need_sign else sign.new_empty(0),
        sign.new_empty(0) if bias is None else carry[-1].to(bias.dtype),
    )
