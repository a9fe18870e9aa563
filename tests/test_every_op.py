"""The battery: every operator × case × dtype × level through every promise; then wrong kernels, which must not pass.

An operator gets here by registering its cases; nothing in this file knows one by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import battery
import memory
from sylvester import _library
from sylvester.benchmarks import checks
from sylvester.ops._spec import OPERATORS, Case, Make, Misuse, Operator

MOST_BYTES, MOST_OPERATIONS = 1 << 25, 1 << 29
"""Larger benchmark cases are left to the benchmark."""


def over(*kinds: str, dtypes: Iterable[torch.dtype] | None = None) -> Any:
    """Parametrises over operator, case and dtype."""
    found = []
    for operator in OPERATORS.values():
        for case in operator.cases_of(*kinds):
            for dtype in case.dtypes if dtypes is None else [d for d in case.dtypes if d in dtypes]:
                label = f"{operator.name}-{case.label}-{str(dtype).removeprefix('torch.')}"
                found.append(pytest.param(operator, case, dtype, id=label))
    return pytest.mark.parametrize(("operator", "case", "dtype"), found)


TWO_DTYPES = (torch.float32, torch.bfloat16)
every_case = over("small", "edge")
cases_in_two_dtypes = over("small", "edge", dtypes=TWO_DTYPES)
small_cases = over("small", dtypes=(torch.float32,))


@pytest.mark.parametrize("level", [*_library.LEVELS, "cuda"])
@every_case
def test_value(operator: Operator, case: Case, dtype: torch.dtype, level: str) -> None:
    if level == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        try:
            battery.value(operator, case, dtype, "cuda")
        except ValueError as error:
            assert "block_size must be at most 32768 on cuda" in str(error)
        return
    if level not in _library.levels():
        pytest.skip(f"this CPU lacks {level}")
    with _library.forced_isa(level):
        battery.value(operator, case, dtype)


@every_case
def test_levels_agree(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    if not operator.levels_agree:
        pytest.skip(f"{operator.name} does not promise that levels agree")
    battery.levels_agree(operator, case, dtype)


@every_case
def test_gradient(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.gradient(operator, case, dtype)


@small_cases
def test_gradient_in_float64(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """The same formulas with the rounding taken away."""
    battery.gradient(operator, case, torch.float64)
    battery.finite_differences(operator, case)


@small_cases
def test_second_derivative(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.second_derivative(operator, case)


@cases_in_two_dtypes
def test_poisoned_memory(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.poisoned(operator, case, dtype)


@cases_in_two_dtypes
def test_layouts(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.layouts(operator, case, dtype)


@cases_in_two_dtypes
def test_repeatable(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.repeatable(operator, case, dtype)


@pytest.mark.parametrize("promise", [battery.repeatable, battery.row_by_row, battery.levels_agree])
@over("benchmark", dtypes=TWO_DTYPES)
def test_bits_at_size(operator: Operator, case: Case, dtype: torch.dtype, promise: Callable[..., None]) -> None:
    """Small cases stay under the grain; these are shared among threads and cut into tiles."""
    with FakeTensorMode():
        arguments = case.build(dtype)
    if operator.bytes_moved(arguments) > MOST_BYTES or operator.operations(arguments) > MOST_OPERATIONS:
        pytest.skip(f"over {MOST_BYTES >> 20} MB or {MOST_OPERATIONS >> 20} million operations")
    promise(operator, case, dtype)


@cases_in_two_dtypes
def test_row_by_row(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.row_by_row(operator, case, dtype)


@cases_in_two_dtypes
def test_inputs_untouched(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    battery.untouched(operator, case, dtype)


@cases_in_two_dtypes
def test_sentinels(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    for call in operator.raw_calls(case.build(dtype)):
        written = memory.written_arguments(call)
        if written:
            memory.assert_writes_inside(call.overload, call.arguments, written)


MISUSES = [pytest.param(o, m, id=f"{o.name}-{m.label}") for o in OPERATORS.values() for m in o.misuses]


@pytest.mark.parametrize(("operator", "misuse"), MISUSES)
def test_misuse(operator: Operator, misuse: Misuse) -> None:
    arguments = misuse.make(Make.seeded(0, torch.float32))
    with pytest.raises(misuse.error, match=misuse.match):
        operator.function(**arguments)


def _wrong_kernels() -> list[Any]:
    found = []
    for operator in OPERATORS.values():
        for wrong in import_module(f"wrong.{operator.name}").WRONG:
            found.append(pytest.param(operator, wrong, id=f"{operator.name}-{wrong.label}"))
    return found


@pytest.mark.parametrize(("operator", "wrong"), _wrong_kernels())
def test_wrong_kernel_is_rejected(operator: Operator, wrong: Any) -> None:
    """Proves that the promise bites: some case breaks it."""
    promise: Callable[..., None] = getattr(battery, wrong.breaks)
    impostor = replace(operator, function=wrong.function)
    for case in sorted(operator.cases_of("small", "edge"), key=lambda case: wrong.where not in case.label):
        for dtype in [()] if promise in battery.IN_FLOAT64 else [(dtype,) for dtype in case.dtypes]:
            try:
                promise(impostor, case, *dtype)
            except AssertionError:
                return
    pytest.fail(f"every case keeps the promise {wrong.breaks!r}: the battery does not see this mistake")


def test_sentinels_see_a_write_outside() -> None:
    def one_too_many(x: torch.Tensor) -> None:
        x.as_strided((1,), (1,), x.storage_offset() + x.numel()).zero_()

    with pytest.raises(AssertionError, match="past the end"):
        memory.assert_writes_inside(one_too_many, (torch.ones(3, 5),), (0,))


def test_labels_are_unique() -> None:
    for operator in checks.selected():
        labels = [case.label for case in operator.cases]
        assert len(labels) == len(set(labels)), operator.name
