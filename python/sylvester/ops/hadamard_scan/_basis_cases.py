"""The calls with ``plan="basis"`` that tests, checks and benchmarks run, and those that must raise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from .._spec import Arguments, Case, Make, Misuse, RawCall
from ._basis import _check_scan
from ._cases import VOCABULARY, _case, make_arguments

_SOURCES = ("fused", "tokens")


def _with_plan(make: Callable[[Make], Arguments]) -> Callable[[Make], Arguments]:
    return lambda m: make(m) | {"plan": "basis"}


def _basis(source: str, steps: int, rows: int, width: int, options: str = "", **spec: Any) -> Case:
    case = _case(source, steps, rows, width, f"last_only {options}".strip(), **spec)
    return replace(case, label=f"basis {case.label}", make=_with_plan(case.make))


def _sizes() -> Iterator[Case]:
    """Each kind of drive with every option, then one size at a time, kinds of drive taking turns."""
    for source, options in product(_SOURCES, ("", "bias", "reverse bias", "batch_first bias", "reverse batch_first")):
        yield _basis(source, 5, 3, 12, options, block=4)
    for i, (width, block) in enumerate(((1, None), (4, None), (16, None), (48, 16), (128, None), (512, 128))):
        yield _basis(_SOURCES[1 - i % 2], 7, 2, width, ("bias", "")[i % 2], block=block)
    for i, steps in enumerate((0, 1, 2, 17, 65)):
        yield _basis(_SOURCES[i % 2], steps, 2, 16, "bias")
        if steps < 65:
            yield _basis(_SOURCES[1 - i % 2], steps, 3, 8, "reverse")
    # Every remainder of a group of rows
    for i, rows in enumerate((0, 1, 5, 19, 110)):
        yield _basis(_SOURCES[i % 2], 4, rows, 64, "bias")
        yield _basis("fused", 3, rows, 32, inputs=1)
    for i, inputs in enumerate((1, 10, 16, 40)):
        yield _basis("fused", 6, 5, 32, ("bias", "batch_first")[i % 2], inputs=inputs)
    # Several blocks of the basis, the last one short
    yield _basis("fused", 6, 3, 4096, "bias", inputs=7)
    yield _basis("tokens", 5, 3, 4096, "reverse")


def _strided(m: Make) -> Arguments:
    return {
        "drive": m.normal(8, 9, 6).permute(2, 1, 0)[:, 1:6, ::2],
        "sign": m.signs(32)[::2],
        "bias": m.normal(1).expand(16),
        "weight": m.normal(4, 16).t(),
        "last_only": True,
    }


_timed = partial(_basis, kind="benchmark", dtypes=(torch.float32, torch.bfloat16))

BASIS_CASES = (
    *_sizes(),
    Case("basis fused, permuted drive and strided vectors", _with_plan(_strided)),
    _timed("fused", 200, 128, 512, "bias", inputs=1),
    _timed("fused", 784, 100, 512, "bias", inputs=1),
    _timed("fused", 100, 128, 512, "bias", inputs=10),
    _timed("fused", 784, 100, 512, "bias", inputs=10),
    _timed("tokens", 200, 128, 512, "bias"),
)


def _misuse(label: str, match: str, error: type[Exception] = ValueError, /, **rest: Any) -> Misuse:
    def make(m: Make) -> Arguments:
        arguments = make_arguments(m, "fused", 5, 3, 12, "bias last_only", 2) | {"block_size": 4} | rest
        return {name: value(m) if callable(value) else value for name, value in arguments.items()}

    return Misuse(f"basis, {label}", _with_plan(make), match, error)


def _drive(*shape: int, **spec: Any) -> Callable[[Make], Tensor]:
    return lambda m: torch.zeros(*shape, **spec)


BASIS_MISUSES = (
    _misuse("all states", r'plan="basis" .* last_only=True, or plan="scan"', last_only=False),
    _misuse("h0", r'plan="basis" starts from zeros', h0=_drive(3, 12)),
    _misuse("given drive", r'plan="basis" needs weight', drive=_drive(5, 3, 12), weight=None),
    _misuse("drive of another width", r"weight must have shape \(D, I\) = \(12, 3\)", drive=_drive(5, 3, 3)),
    _misuse("token too large", rf"drive .* {VOCABULARY}\b", drive=lambda m: torch.full((5, 3), VOCABULARY),
            weight=_drive(VOCABULARY, 12)),
    _misuse("sign is 0", r"sign .* 0\b", sign=_drive(12)),
    _misuse("block of 8", r"width 12, got 8", block_size=8),
    _misuse("short bias", r"bias must have shape \(12,\).* got \(4,\)", bias=_drive(4)),
    _misuse("weight of another dtype", r"weight must have the dtype of drive", TypeError,
            weight=_drive(12, 2, dtype=torch.float64)),
)  # fmt: skip


def basis_calls(a: Arguments) -> list[RawCall]:
    """The raw operators behind a call."""
    drive, weight, sign, bias = (a.get(name) for name in ("drive", "weight", "sign", "bias"))
    assert drive is not None and weight is not None and sign is not None
    reverse, batch_first = (a.get(name, False) for name in ("reverse", "batch_first"))
    block = sign.shape[0] if a.get("block_size") is None else a["block_size"]
    scan = RawCall("hadamard_basis_scan", (drive, weight, sign, bias, block, reverse, batch_first, True))
    _check_scan(*scan.arguments)
    last, starts = scan.overload(*scan.arguments)
    tokens, steps = not drive.is_floating_point(), drive.shape[1 if batch_first else 0]
    basis = RawCall("hadamard_basis", (weight, sign, bias, block, steps, tokens), differentiable=False)
    made = basis.overload(*basis.arguments)
    return [
        scan,
        RawCall(
            "hadamard_basis_scan_backward",
            (last, drive, weight, sign, bias, starts, block, reverse, batch_first, not tokens, True, True),
        ),
        basis,
        RawCall("hadamard_basis_apply", (drive, *made, reverse, batch_first), differentiable=False),
    ]
