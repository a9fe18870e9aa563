"""Calls that must raise, and what their error says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._spec import Arguments, Make, Misuse
from ._cases import VOCABULARY, make_arguments


def _misuse(label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    """A call with T, B, D = 5, 3, 12 and the named arguments replaced; where one is a function, by its result."""

    def make(m: Make) -> Arguments:
        arguments = make_arguments(m, "given", 5, 3, 12, "bias h0", 0) | {"block_size": 4} | rest
        return {name: value(m) if callable(value) else value for name, value in arguments.items()}

    return Misuse(label, make, match, error)


def _tokens(m: Make) -> Tensor:
    return m.integers(VOCABULARY, 5, 3)


def _embedded(label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    return _misuse(label, match, error, **{"drive": _tokens, "weight": _ones(VOCABULARY, 12), **rest})


def _fused(label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    return _misuse(label, match, error, **{"drive": _ones(5, 3, 2), "weight": _ones(12, 2), **rest})


def _ones(*shape: int, **spec: Any) -> Callable[[Make], Tensor]:
    return lambda m: torch.ones(*shape, **spec)


def _sign(value: float) -> Callable[[Make], Tensor]:
    return lambda m: torch.cat([torch.ones(11), torch.tensor([value])])


def _lengths(*steps: int) -> Callable[[Make], Tensor]:
    return lambda m: torch.tensor(steps)


_LONG = torch.int64
_COMPLEX = _ones(5, 3, 12, dtype=torch.complex64)

MISUSES = (
    _misuse("unknown plan", r"plan must be .*\"chunked\", got 'wave'", plan="wave"),
    _misuse("chunked with lengths", r"takes rows of equal length", plan="chunked", lengths=_lengths(1, 2, 3)),
    _misuse("chunked with an activation", r"needs a linear recurrence, got .*relu", plan="chunked", activation="relu"),
    _misuse("lengths of another batch", r"lengths must have shape \(B,\) = \(3,\), got \(2,\)", lengths=_lengths(1, 2)),
    _misuse("lengths in float", r"lengths must be an int64 .* float32", TypeError, lengths=_ones(3)),
    _misuse("lengths as a list", r"lengths must be .* got list", TypeError, lengths=[1, 2, 3]),
    _misuse("length beyond T", r"lengths must be from 0 to T = 5, got 6 at index 1", lengths=_lengths(1, 6, 2)),
    _misuse("length negative", r"lengths must be from 0 to T = 5, got -1 at index 2", lengths=_lengths(1, 5, -1)),
    _misuse("lengths elsewhere", r"lengths must be on .* cpu, got meta", lengths=_ones(3, device="meta", dtype=_LONG)),
    _misuse("unknown activation", r"activation must be one of identity, relu, modrelu, got 'tanh'", activation="tanh"),
    _misuse("modrelu without its bias", r"'modrelu' needs act_bias \(D,\)", activation="modrelu"),
    _misuse("relu with a bias", r"'relu' takes no act_bias", activation="relu", act_bias=_ones(12)),
    _misuse("act_bias too short", r"act_bias must have shape \(12,\)", activation="modrelu", act_bias=_ones(4)),
    _misuse("readout too wide", r"at most 32 outputs, got 33; leave readout out", readout_weight=_ones(33, 12)),
    _misuse("readout of another width", r"readout_weight must have shape .*12\)", readout_weight=_ones(9, 8)),
    _misuse("readout is integer", r"readout_weight must be", TypeError, readout_weight=_ones(9, 12, dtype=_LONG)),
    _misuse(
        "readout bias too long",
        r"readout_bias must have shape \(9,\)",
        readout_weight=_ones(9, 12),
        readout_bias=_ones(12),
    ),
    _misuse("readout elsewhere", r"readout_weight must be on .*meta", readout_weight=_ones(9, 12, device="meta")),
    _misuse("width is no power of two", r"width 12, got 12; the largest that fits is 4", block_size=None),
    _misuse("block does not divide", r"width 12, got 8", block_size=8),
    _misuse("block of 0", r"block_size .* got 0", block_size=0),
    _misuse("float block", r"block_size must be an int", TypeError, block_size=4.0),
    _misuse("drive is a list", r"drive must be .* got list", TypeError, drive=[1.0]),
    _misuse("drive is complex", r"drive must be .* complex64", TypeError, drive=_COMPLEX),
    _misuse("drive is bool", r"drive must be .* bool", TypeError, drive=_ones(5, 3, 12, dtype=torch.bool)),
    _misuse("drive lacks the batch", r"drive must have shape \(T, B, 12\).* got \(5, 12\)", drive=_ones(5, 12)),
    _misuse("drive has another width", r"drive must have shape \(T, B, 12\).* got \(5, 3, 8\)", drive=_ones(5, 3, 8)),
    _misuse("batch first drive", r"drive must have shape \(B, T, 12\)", drive=_ones(5, 12), batch_first=True),
    _misuse("tokens without weight", r"integer drive holds tokens and needs weight", TypeError, drive=_tokens),
    _embedded(
        "tokens with an input axis",
        r"tokens must have shape \(T, B\), got \(5, 3, 1\)",
        drive=_ones(5, 3, 1, dtype=torch.int64),
    ),
    _embedded("token too large", r"drive .* 5\b", drive=lambda m: _tokens(m) * 0 + 5),
    _embedded("token negative", r"drive .* -1\b", drive=lambda m: _tokens(m) * 0 - 1),
    _embedded("embedding has another width", r"weight must have shape \(V, 12\).* got \(5, 8\)", weight=_ones(5, 8)),
    _embedded("embedding is integer", r"weight must be .* int64", TypeError, weight=_ones(5, 12, dtype=torch.int64)),
    _fused("weight transposed", r"weight must have shape \(D, I\) = \(12, 2\), got \(2, 12\)", weight=_ones(2, 12)),
    _fused(
        "weight of another dtype",
        r"weight must have the dtype of drive",
        TypeError,
        weight=_ones(12, 2, dtype=torch.float64),
    ),
    _fused("weight elsewhere", r"weight must be on .* cpu, got meta", weight=_ones(12, 2, device="meta")),
    _misuse("sign is 0", r"sign .* 0\b", sign=_sign(0.0)),
    _misuse("sign is 2", r"sign .* 2\b", sign=_sign(2.0)),
    _misuse("sign is nan", r"sign .* nan", sign=_sign(float("nan"))),
    _misuse("sign is a matrix", r"sign must have shape \(D,\), .* got \(2, 12\)", sign=_ones(2, 12)),
    _misuse("sign is integer", r"sign must be .* int64", TypeError, sign=_ones(12, dtype=torch.int64)),
    _misuse("sign elsewhere", r"sign must be on .* cpu, got meta", sign=_ones(12, device="meta")),
    _misuse("bias is too short", r"bias must have shape \(12,\).* got \(4,\)", bias=_ones(4)),
    _misuse("bias elsewhere", r"bias must be on .* cpu, got meta", bias=_ones(12, device="meta")),
    _misuse("h0 of another batch", r"h0 must have shape \(B, D\) = \(3, 12\), got \(2, 12\)", h0=_ones(2, 12)),
    _misuse("h0 with a layer axis", r"h0 must have shape .* got \(1, 3, 12\)", h0=_ones(1, 3, 12)),
    _misuse(
        "h0 in half precision", r"h0 must be .*float32.* got a float16", TypeError, h0=_ones(3, 12, dtype=torch.float16)
    ),
    _misuse("h0 elsewhere", r"h0 must be on .* cpu, got meta", h0=_ones(3, 12, device="meta")),
)
