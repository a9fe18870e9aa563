"""Runs the benchmark: nothing is timed before it is right, and nothing is reported without its floor."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import RenderableType
from torch._subclasses.fake_tensor import FakeTensorMode

from sylvester import _library
from sylvester.ops._spec import Case, Operator
from sylvester.timing import measure

from . import baselines, marks, report
from .checks import CheckResult, check, selected
from .report import COPY, OURS, PEAK, Row, check_table

__all__ = ["CheckResult", "Red", "Row", "bench", "check", "check_table", "require_green"]

QUICK_BYTES = 1 << 26
"""A quick run leaves out benchmark cases that move more."""


class Red(RuntimeError):
    """An operator whose checks fail has no speed."""


def require_green(op: str | None = None) -> None:
    failures = [f"{r.operator} at {r.level}: {failure}" for r in check(op) for failure in r.failures]
    if failures:
        raise Red(f"not timed, because {len(failures)} checks fail, first {failures[0]}")


def bench(
    op: str | None = None,
    *,
    quick: bool = False,
    threads: int = 1,
    out: Path | str | None = None,
    show: Callable[[RenderableType], Any] = lambda table: None,
    begin: Callable[[str], Any] = lambda text: None,
) -> list[Row]:
    """Times of all benchmark cases, then the marks that must be kept.

    ``show`` gets each table as soon as it is there, ``begin`` the name of what comes next; ``out`` gets results.jsonl
    and results.png, also of what was measured before an interruption. Raises ``Red`` when a check fails.
    """
    operators = selected(op)
    for operator in operators:
        begin(f"checking {operator.name}")
        require_green(operator.name)
    rows: list[Row] = []
    try:
        for row in _measured(operators, quick, threads, show, begin):
            rows.append(row)
        show("")
        show(report.marks_table(rows))
    finally:
        if out is not None and rows:
            report.write(rows, Path(out))
    return rows


def _measured(
    operators: Sequence[Operator],
    quick: bool,
    threads: int,
    show: Callable[[RenderableType], Any],
    begin: Callable[[str], Any],
) -> Iterator[Row]:
    for operator in operators:
        timed: list[Row] = []
        for case, dtype in _cases(operator, quick):
            begin(f"timing {operator.name}, {case.label}, {str(dtype).removeprefix('torch.')}")
            with using_threads(threads), torch.inference_mode():
                found = times(operator, case, dtype, quick)
            timed += found
            yield from found
        show(f"\n[bold]{operator.name}[/], {threads} thread{'s' * (threads > 1)}, level {_library.isa()}")
        show(report.times_table(timed))
    for operator in operators:
        for mark in marks.found(operator.name):
            if mark.quick or not quick:
                begin(f"marking {operator.name}, {mark.name}")
                yield mark.row()


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cases(operator: Operator, quick: bool) -> Iterator[tuple[Case, torch.dtype]]:
    for case in operator.cases_of("benchmark"):
        for dtype in case.dtypes[:1] if quick else case.dtypes:
            with FakeTensorMode():
                size = operator.bytes_moved(case.build(dtype))
            if not quick or size <= QUICK_BYTES:
                yield case, dtype


def times(operator: Operator, case: Case, dtype: torch.dtype, quick: bool = False) -> list[Row]:
    """Our time, the floors, and the rivals, in turns."""
    with torch.inference_mode(False):  # what is derived from a tensor of inference mode cannot be remembered
        arguments = case.build(dtype)
    peaks: list[float] = []
    contenders = {
        OURS: lambda: operator.function(**arguments),
        COPY: baselines.copy_floor(operator, arguments),
        PEAK: lambda: peaks.append(baselines.adds_per_second()),
        **baselines.rivals(operator, arguments, compiled=not quick),
    }
    samples, longest = (5, 0.3) if quick else (9, 2.0)
    found = measure(contenders, samples=samples, min_sample=0.002 if quick else 0.005, max_seconds=longest)
    seconds = {name: timing.median for name, timing in found.items()}
    seconds[PEAK] = operator.operations(arguments) / (statistics.median(peaks) * torch.get_num_threads())
    return [
        Row(
            operator.name,
            case.label,
            name,
            value,
            dtype=str(dtype).removeprefix("torch."),
            threads=torch.get_num_threads(),
            level=_library.isa(),
            of_ours=value / seconds[OURS],
        )
        for name, value in seconds.items()
    ]
