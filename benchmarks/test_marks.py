"""The figures that must be kept, one test a mark; `sylvester bench` prints the same ones as a table."""

from __future__ import annotations

from typing import Any

import pytest

from sylvester.benchmarks.marks import Mark, found
from sylvester.ops._spec import OPERATORS

MARKS = [pytest.param(mark, id=f"{name}-{mark.name}") for name in OPERATORS for mark in found(name)]


@pytest.mark.parametrize("mark", MARKS)
def test_mark(benchmark: Any, mark: Mark) -> None:
    row = benchmark.pedantic(mark.row, rounds=1)
    benchmark.extra_info.update(value=row.value, limit=row.limit, unit=row.unit, level=row.level)
    assert row.met, f"{row.value:.3g} {row.unit} against a limit of {row.limit:g}"
