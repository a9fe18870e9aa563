"""Scans with one mistake each, and the promise of the battery that must see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sylvester.ops.hadamard_scan import SPEC
from sylvester.ops.hadamard_transform import hadamard_transform
from wrong import Wrong

Pair = tuple[Tensor, Tensor]
hadamard_scan = SPEC.function


def _loop(step: Callable[[Tensor, Tensor, int | None], Tensor]) -> Callable[..., Pair]:
    """The recurrence with ``step(h, sign, block_size)`` as its product with W."""

    def scan(
        drive: Tensor,
        sign: Tensor,
        bias: Tensor | None = None,
        h0: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        block_size: int | None = None,
        last_only: bool = False,
        reverse: bool = False,
        batch_first: bool = False,
    ) -> Pair:
        io = (drive if weight is None else weight).dtype
        z = drive if weight is None else drive @ weight.mT if drive.is_floating_point() else weight[drive]
        z = (z if bias is None else z + bias).float().transpose(0, 1) if batch_first else z.float()
        h = z.new_zeros(z.shape[1:]) if h0 is None else h0
        states = []
        for z_t in z.flip(0) if reverse else z:
            h = step(h, sign.float(), block_size) + z_t
            states.append(h)
        if last_only or not states:
            return h.to(io) if last_only else z.to(io), h
        output = torch.stack(states[::-1] if reverse else states).to(io)
        return output.transpose(0, 1) if batch_first else output, h

    return scan


def _flip_first(h: Tensor, sign: Tensor, block_size: int | None) -> Tensor:
    return hadamard_transform(h, block_size=block_size, pre=sign)


def _scale_of_the_slides(h: Tensor, sign: Tensor, block_size: int | None) -> Tensor:
    block = h.shape[-1] if block_size is None else block_size
    return hadamard_transform(h, block_size=block, post=sign, scale=1 / block)


def _state_in_16_bits(h: Tensor, sign: Tensor, block_size: int | None) -> Tensor:
    return hadamard_transform(h.bfloat16(), block_size=block_size, post=sign).float()


def _always_forwards(drive: Tensor, sign: Tensor, *rest: Any, reverse: bool = False, **options: Any) -> Pair:
    return hadamard_scan(drive, sign, *rest, **options)


def _last_from_output(drive: Tensor, sign: Tensor, **options: Any) -> Pair:
    output, last = hadamard_scan(drive, sign, **options)
    return output, last.to(output.dtype).to(last.dtype)


def _no_gradient_of_sign(drive: Tensor, sign: Tensor, **options: Any) -> Pair:
    return hadamard_scan(drive, sign.detach(), **options)


def _lengths_ignored(drive: Tensor, sign: Tensor, *, lengths: Tensor | None = None, **options: Any) -> Pair:
    return hadamard_scan(drive, sign, **options)


def _readout_without_relu(
    drive: Tensor,
    sign: Tensor,
    *,
    readout_weight: Tensor | None = None,
    readout_bias: Tensor | None = None,
    **options: Any,
) -> Pair:
    output, last = hadamard_scan(drive, sign, **options)
    if readout_weight is None:
        return output, last
    return torch.nn.functional.linear(output, readout_weight, readout_bias), last


def _mask_forgotten(drive: Tensor, sign: Tensor, *, activation: str = "identity", **options: Any) -> Pair:
    """The values of relu with the gradient of the linear recurrence."""
    output, last = hadamard_scan(drive, sign, activation=activation, **options)
    if activation != "relu":
        return output, last
    linear = hadamard_scan(drive, sign, **options)
    return tuple(x + (value - x).detach() for x, value in zip(linear, (output, last), strict=True))  # type: ignore


def _modrelu_without_its_bias(drive: Tensor, sign: Tensor, *, act_bias: Tensor | None = None, **options: Any) -> Pair:
    return hadamard_scan(drive, sign, act_bias=None if act_bias is None else act_bias * 0, **options)


def _basis_of_one_step_less(drive: Tensor, sign: Tensor, *, plan: str = "scan", **options: Any) -> Pair:
    """The power of W that the oldest input needs is never made."""
    time = 1 if options.get("batch_first") else 0
    steps = drive.shape[time]
    if plan != "basis" or steps < 2:
        return hadamard_scan(drive, sign, plan=plan, **options)
    known = drive.narrow(time, 0 if options.get("reverse") else 1, steps - 1)
    return hadamard_scan(known, sign, plan=plan, **options)


def _basis_apart_from_sign(drive: Tensor, sign: Tensor, *, plan: str = "scan", **options: Any) -> Pair:
    """As if the basis, once cached, were no function of the sign."""
    return hadamard_scan(drive, sign.detach() if plan == "basis" else sign, plan=plan, **options)


def _halves(drive: Tensor, sign: Tensor, h0: Tensor | None, carry: Callable[[Tensor], Tensor], **options: Any) -> Pair:
    """Two scans over the two halves of time, joined by the state that ``carry`` passes on."""
    time = 1 if options.get("batch_first") else 0
    cut = drive.shape[time] // 2
    first, second = drive.narrow(time, 0, cut), drive.narrow(time, cut, drive.shape[time] - cut)
    if options.get("reverse"):
        first, second = second, first
    before, middle = hadamard_scan(first, sign, h0=h0, **options)
    after, last = hadamard_scan(second, sign, h0=carry(middle), **options)
    if options.get("last_only"):
        return after, last
    return torch.cat([after, before] if options.get("reverse") else [before, after], time), last


def _truncated_backward(drive: Tensor, sign: Tensor, *, h0: Tensor | None = None, **options: Any) -> Pair:
    return _halves(drive, sign, h0, Tensor.detach, **options)


def _state_unwritten_without_steps(drive: Tensor, sign: Tensor, **options: Any) -> Pair:
    output, last = hadamard_scan(drive, sign, **options)
    steps = drive.shape[1 if options.get("batch_first") else 0]
    return (output, last) if steps else (output, torch.empty_like(last))


def _h0_as_scratch(drive: Tensor, sign: Tensor, *, h0: Tensor | None = None, **options: Any) -> Pair:
    output, last = hadamard_scan(drive, sign, h0=h0, **options)
    if h0 is not None:
        with torch.no_grad():
            h0.copy_(last)
    return output, last


def _gemm_over_the_batch(drive: Tensor, sign: Tensor, *, weight: Tensor | None = None, **options: Any) -> Pair:
    """Sums a fused input in an order that depends on the number of rows."""
    if weight is None or not drive.is_floating_point():
        return hadamard_scan(drive, sign, weight=weight, **options)
    rows = drive.shape[0 if options.get("batch_first") else 1]
    flipped = drive.flip(-1), weight.flip(-1)
    drive, weight = flipped if rows > 1 else (drive, weight)
    return hadamard_scan(drive, sign, weight=weight, **options)


def _time_cut_by_threads(drive: Tensor, sign: Tensor, *, h0: Tensor | None = None, **options: Any) -> Pair:
    wobble = 1.0 if torch.get_num_threads() == 1 else 1 + torch.finfo(torch.float32).eps
    return _halves(drive, sign, h0, lambda state: state * wobble, **options)


WRONG = (
    Wrong("sign flips before the transform", "value", _loop(_flip_first)),
    Wrong("scale 1/n", "value", _loop(_scale_of_the_slides)),
    Wrong("state in 16 bits", "value", _loop(_state_in_16_bits)),
    Wrong("reverse ignored", "value", _always_forwards),
    Wrong("last rounded to 16 bits", "value", _last_from_output),
    Wrong("lengths ignored", "value", _lengths_ignored),
    Wrong("read-out without relu", "value", _readout_without_relu),
    Wrong("modrelu without its bias", "value", _modrelu_without_its_bias),
    Wrong("basis of one step less", "value", _basis_of_one_step_less),
    Wrong("basis apart from sign", "gradient", _basis_apart_from_sign, where="basis"),
    Wrong("relu's mask forgotten", "gradient", _mask_forgotten, where="relu"),
    Wrong("no gradient of sign", "gradient", _no_gradient_of_sign),
    Wrong("backward stops half way", "gradient", _truncated_backward),
    Wrong("state unwritten without steps", "poisoned", _state_unwritten_without_steps),
    Wrong("h0 as scratch", "untouched", _h0_as_scratch),
    Wrong("sum by number of rows", "row_by_row", _gemm_over_the_batch),
    Wrong("cut by number of threads", "repeatable", _time_cut_by_threads),
)
