"""Every benchmark case under pytest-benchmark: `pytest benchmarks/ --benchmark-json times.json`."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from sylvester.benchmarks import baselines, runner
from sylvester.ops._spec import OPERATORS, Case, Operator

MOST_BYTES = 1 << 28
"""Larger cases are left to `sylvester bench`."""

CASES = [
    pytest.param(operator, case, dtype, id=f"{operator.name}-{case.label}-{str(dtype).removeprefix('torch.')}")
    for operator in OPERATORS.values()
    for case in operator.cases_of("benchmark")
    for dtype in case.dtypes
]


@cache
def green(name: str) -> bool:
    runner.require_green(name)
    return True


@pytest.mark.parametrize("contender", ["sylvester", "copy"])
@pytest.mark.parametrize(("operator", "case", "dtype"), CASES)
def test_time(benchmark: Any, operator: Operator, case: Case, dtype: torch.dtype, contender: str) -> None:
    assert green(operator.name)
    arguments = case.build(dtype)
    moved = operator.bytes_moved(arguments)
    if moved > MOST_BYTES:
        pytest.skip(f"moves {moved >> 20} MB; `sylvester bench` times it")
    benchmark.group = f"{operator.name}, {case.label}, {dtype}"
    benchmark.extra_info.update(bytes=moved, operations=operator.operations(arguments))
    with runner.using_threads(1), torch.inference_mode():
        if contender == "copy":
            benchmark(baselines.copy_floor(operator, arguments))
        else:
            benchmark(operator.function, **arguments)
