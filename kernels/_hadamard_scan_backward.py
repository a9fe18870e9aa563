"""Gradients of the scan on GPUs: what surrounds the adjoint λ_t, whose kernel is in _hadamard_scan_adjoint.py.

    given    λ is the gradient of the drive, stored in its dtype
    fused    λ is stored in float32, a chunk of steps at a time: times U for the drive, times x for U (torch GEMMs)
    tokens   likewise, then added up by token: times one-hot rows where the vocabulary is small, else sorted

What comes through a read-out, and dV, are products of a segment of steps (_readout.py); of the last state only they are
torch GEMMs over the rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import _blocks as blocks
from . import _hadamard_scan_steps as by_steps
from ._drive import (
    CHECKPOINT_EVERY,
    FUSED,
    NARROWER_FUSED,
    WIDEST_FUSED,
    Drive,
    Piece,
    after_end,
    by_time,
    in_order,
    plan,
    prepare,
)
from ._hadamard_scan_adjoint import Carried, Incoming, Known, launch
from ._readout import ReadBack
from ._recurrence import recurrence

SMALL_VOCABULARY = 256


def hadamard_scan_backward(
    grad_output: Tensor | None,
    grad_last: Tensor | None,
    drive: Tensor,
    weight: Tensor | None,
    sign: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None,
    readout: Tensor | None,
    act_bias: Tensor | None,
    states: Tensor | None,
    last: Tensor,
    checkpoints: Tensor,
    block_size: int,
    activation: int,
    last_only: bool,
    reverse: bool,
    batch_first: bool,
    need_drive: bool,
    need_weight: bool,
    need_sign: bool,
) -> tuple[Tensor, ...]:
    io = (drive if weight is None else weight).dtype
    blocks.require_floats("drive" if weight is None else "weight", io)
    blocks.require_block(block_size)
    steps = drive.shape[1 if batch_first else 0]
    r = recurrence(sign, bias, act_bias, lengths, steps, block_size, activation, reverse)
    output = _Output(grad_output, readout, last, r.lengths, last_only, batch_first)
    incoming, back = output.incoming()
    reads_states = need_sign or activation != 0 or incoming.readout
    known = _known(states, h0, last, checkpoints, steps, activation != 0, batch_first) if reads_states else Known()
    carried = output.carried(grad_last, reads_states, act_bias is not None)
    widest = WIDEST_FUSED if known.starts is None and not incoming.readout else NARROWER_FUSED
    shape = plan(last.shape[1], block_size)
    source = prepare(drive, weight, r.lengths, reverse, batch_first, shape, widest)
    grad_drive = drive.new_empty(drive.shape if need_drive and drive.is_floating_point() else (0,), dtype=io)
    rows = by_time(grad_drive, batch_first) if grad_drive.dim() > 1 else None
    wanted = _DriveGradients.of(source, rows, last, need_weight, reverse)
    run = by_steps.adjoint if block_size > by_steps.ABOVE else launch
    most = None if back is None else len(back.segment)
    for piece in source.pieces(wanted.multiplied, multiplied=reads_states, backward=True, most=most):
        adjoint = wanted.adjoint_of(piece, last)
        if back is not None:
            back.fill(r, piece)
        run(piece, source, r, incoming, known, adjoint, carried)
        if back is not None:
            back.add(r, piece)
        if wanted.multiplied and adjoint is not None:
            wanted.add(piece, adjoint)
    if rows is not None and rows is not wanted.drive and wanted.drive is not None:
        rows.copy_(in_order(wanted.drive, r.lengths, reverse))
    return (
        grad_drive,
        wanted.weight.to(io),
        _over_rows(carried.sign_sum if need_sign else None, sign),
        _over_rows(carried.bias_sum, sign if bias is None else bias),
        carried.back,
        *output.gradients(None if back is None else back.sums, sign),
        _over_rows(carried.act_sum, sign if act_bias is None else act_bias),
    )


def _over_rows(sums: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if sums is None else sums.sum(0).to(like.dtype)


def _known(
    states: Tensor | None,
    h0: Tensor | None,
    last: Tensor,
    checkpoints: Tensor,
    steps: int,
    computed_again: bool,
    batch_first: bool,
) -> Known:
    if states is not None:
        return Known(_rows(states, batch_first))
    expected = (steps - 1) // CHECKPOINT_EVERY if steps else 0
    if len(checkpoints) != expected:
        raise ValueError(
            f"checkpoints must have {expected} rows, got {len(checkpoints)} (the forward ran with keep = False)"
        )
    if not computed_again:
        return Known(checkpoints=checkpoints.contiguous())
    return Known(starts=torch.cat(((torch.zeros_like(last) if h0 is None else h0)[None], checkpoints)))


def _rows(x: Tensor, batch_first: bool) -> Tensor:
    """(T, B, n) with a dense last axis."""
    return by_time(x if x.stride(-1) == 1 else x.contiguous(), batch_first)


class _Output(NamedTuple):
    """The gradient of the output, and what made the output of the states."""

    grad: Tensor | None
    readout: Tensor | None
    last: Tensor
    lengths: Tensor | None
    last_only: bool
    batch_first: bool

    def incoming(self) -> tuple[Incoming, ReadBack | None]:
        if self.grad is None or self.last_only:
            return Incoming(None, False), None
        grad = _rows(self.grad, self.batch_first)
        if self.readout is None:
            return Incoming(grad, False), None
        back = ReadBack.of(grad, self.readout, self.last)
        return Incoming(back.segment, True), back

    def carried(self, grad_last: Tensor | None, reads_states: bool, modrelu: bool) -> Carried:
        """Before the first step."""
        last = self.last
        return Carried(
            self.at_last(grad_last),
            last.clone(memory_format=torch.contiguous_format),
            torch.zeros_like(last) if reads_states else None,
            torch.zeros_like(last),
            torch.zeros_like(last) if modrelu else None,
        )

    def at_last(self, grad_last: Tensor | None) -> Tensor:
        """What comes back into the last state, (B, D)."""
        back = torch.zeros_like(self.last)
        if grad_last is not None:
            back += grad_last
        if self.grad is not None and self.last_only and self.readout is not None:
            back += (self.grad.float() @ self.readout.float()).masked_fill(self.last <= 0, 0.0)
        return back

    def gradients(self, sums: Tensor | None, sign: Tensor) -> tuple[Tensor, Tensor]:
        """Of the read-out and of its bias, whether there is one or not."""
        if self.readout is None:
            return sign.new_empty(0), sign.new_empty(0)
        if self.grad is None:
            return torch.zeros_like(self.readout), self.readout.new_zeros(len(self.readout))
        grad = self.grad.float()
        if sums is None:
            weight, bias = grad.t() @ self.last.relu(), grad.sum(0)
        else:
            grad = by_time(grad, self.batch_first)
            if self.lengths is not None:
                grad = grad.masked_fill(after_end(grad, self.lengths)[:, :, None], 0.0)
            weight, bias = sums.sum(0)[: len(self.readout)], grad.sum((0, 1))
        return weight.to(self.readout.dtype), bias.to(self.readout.dtype)


class _DriveGradients(NamedTuple):
    """In the order of the drive as the kernel reads it."""

    source: Drive
    drive: Tensor | None
    """(T, B, D) or (T, B, I)"""
    weight: Tensor
    """float32; empty: not wanted"""
    multiplied: bool
    """λ is multiplied, so a chunk of it has to exist"""

    @staticmethod
    def of(source: Drive, rows: Tensor | None, last: Tensor, need_weight: bool, reverse: bool) -> _DriveGradients:
        """``rows``: where a gradient of the drive belongs, in the order of time."""
        weight = source.weight if need_weight else None
        multiplied = source.weight is not None and (rows is not None or weight is not None)
        drive = torch.empty_like(rows) if rows is not None and multiplied and reverse else rows
        return _DriveGradients(source, drive, last.new_zeros((0,) if weight is None else weight.shape), multiplied)

    def adjoint_of(self, piece: Piece, last: Tensor) -> Tensor | None:
        return last.new_empty((piece.steps, *last.shape)) if self.multiplied else self.drive

    def add(self, piece: Piece, adjoint: Tensor) -> None:
        if self.drive is not None and self.source.weight is not None:
            self.drive[piece.part] = adjoint @ self.source.weight.float()
        if self.weight.numel():
            _add_weight_gradient(self.weight, adjoint, self.source, piece)


def _add_weight_gradient(grad_weight: Tensor, adjoint: Tensor, source: Drive, piece: Piece) -> None:
    """Adds Σ λ_t x_tᵀ, or λ_t to the row of its token, over the steps of a piece."""
    adjoint, rows = adjoint.flatten(0, 1), source.rows[piece.part].flatten(0, 1)
    if source.kind is FUSED:
        grad_weight += adjoint.t() @ rows.float()
    elif len(grad_weight) <= SMALL_VOCABULARY:
        one_hot = rows == torch.arange(len(grad_weight), device=rows.device, dtype=rows.dtype)[:, None]
        grad_weight += one_hot.float() @ adjoint
    else:  # index_put_ sorts the tokens before it adds, so the order is theirs; index_add_ would use atomics
        inside = torch.where(rows >= 0, rows, len(grad_weight)).long()
        with_rest = torch.cat((grad_weight, grad_weight.new_zeros(1, grad_weight.shape[1])))
        grad_weight.copy_(with_rest.index_put_((inside,), adjoint, accumulate=True)[:-1])
