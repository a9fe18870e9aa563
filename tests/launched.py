"""GPU launchers called with the arguments of raw calls, and what the CPU says of the same: for Triton's interpreter."""

from __future__ import annotations

from typing import Any

import torch

import memory
from sylvester.benchmarks import checks
from sylvester.ops._spec import Operator, RawCall


def launch(operator: Operator, call: RawCall) -> tuple[torch.Tensor, ...]:
    """Results, or the written argument, of the launcher; arguments keep their values."""
    written = memory.written_arguments(call)
    arguments = [a.clone() if i in written else a for i, a in enumerate(call.arguments)]
    results = operator.launchers[call.name](*arguments)
    return tuple(arguments[i] for i in written) if results is None else checks.tensors_of(results)


def launched_calls(operator: Operator, arguments: dict[str, Any]) -> list[tuple[RawCall, RawCall]]:
    """(call, the same with what the launchers take), of the raw calls that have a launcher and comparable results.

    The layout of low-bit weights is the device's own: only who reads it says whether it is right.
    """
    found, layout = [], None
    for call in operator.raw_calls(arguments):
        if call.name in ("lowbit_layout", "lowbit_layout_codes"):
            laid = operator.launchers[call.name](*call.arguments)
            assert layout is None or torch.equal(laid, layout), call.name
            layout = laid
        elif call.name in operator.launchers:
            names = [argument.name for argument in call.overload._schema.arguments]
            given = [layout if name == "layout" else a for name, a in zip(names, call.arguments, strict=True)]
            found.append((call, RawCall(call.name, tuple(given))))
    return found


def wanted(call: RawCall) -> tuple[torch.Tensor, ...]:
    """The same from the CPU in float64; but x that is multiplied in codes has exact sums, and float64 has no codes."""
    if call.name == "lowbit_matmul" and not call.arguments[-1]:
        return checks.tensors_of(call.overload(*call.arguments))
    wide = [a.double() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in call.arguments]
    results = call.overload(*wide)
    return tuple(wide[i] for i in memory.written_arguments(call)) if results is None else checks.tensors_of(results)


def assert_close(got: torch.Tensor, want: torch.Tensor, bound: float, what: str) -> None:
    """Within ``bound`` of the largest value, or of 1: samples are standard normal, so smaller values have cancelled.

    16-bit values may be off by a whole unit: the interpreter cuts off where a GPU rounds. Codes: as ``checks`` says.
    """
    assert got.shape == want.shape, what
    if not got.is_floating_point():
        assert checks.error_fraction(got, want, bound) <= 1, what
        return
    info = torch.finfo(got.dtype)
    got, want = got.double(), want.double()
    assert torch.equal(got.isnan(), want.isnan()), what
    if not got.numel():
        return
    largest = max(want.nan_to_num().abs().max().item(), 1.0)
    allowed = bound * largest + (2 * info.eps * want.abs() if info.bits == 16 else 0.0)
    assert ((got - want).abs() <= allowed).logical_or(want.isnan()).all(), f"{what}: {(got - want).abs().max():.3g}"
