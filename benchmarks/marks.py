"""Marks: the figures an operator must keep, each a ratio to a floor or a rival measured in the same run.

A module ``marks_<operator>.py`` holds an operator's marks; it is found by that name.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from sylvester import _library
from sylvester.ops._spec import OPERATORS, Arguments
from sylvester.timing import measure

from .report import Row


@dataclass(frozen=True)
class Mark:
    """``measure`` returns the figure; ``quick`` marks take about a second."""

    operator: str
    name: str
    limit: float
    measure: Callable[[], float]
    unit: str = ""
    at_most: bool = True
    quick: bool = False
    level: str | None = None
    """The mark is stated for this CPU level; where the CPU lacks it, ``available`` is False."""

    @property
    def available(self) -> bool:
        return self.level is None or self.level in _library.levels()

    def row(self) -> Row:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with _library.forced_isa(self.level or _library.isa()):
                value = self.measure()
                level = _library.isa()
        finally:
            torch.set_num_threads(before)
        return Row(self.operator, self.name, "", value, self.unit, level=level, limit=self.limit, at_most=self.at_most)


def arguments_of(operator: str, label: str, dtype: torch.dtype = torch.float32) -> Arguments:
    """The inputs of a benchmark case, by its label."""
    (case,) = (case for case in OPERATORS[operator].cases if case.label == label)
    return case.build(dtype)


def ratio(over: Callable[[], Any], under: Callable[[], Any], **options: Any) -> float:
    """Time of one call over the time of another, in turns: the median of the ratios of the rounds."""
    taken = measure({"over": over, "under": under}, **{"samples": 11, **options})
    pairs = zip(taken["over"].samples, taken["under"].samples, strict=False)
    return statistics.median(a / b for a, b in pairs)


ROUNDS = 5


def fastest(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of calls that take microseconds, in turns: the least of five samples, for interruptions only ever add."""
    return {name: taken.fastest for name, taken in measure(calls, samples=5, min_sample=0.002).items()}


def median_of_rounds(figure: Callable[[], float]) -> float:
    return statistics.median(figure() for _ in range(ROUNDS))


def slope(call: Callable[[Any], Any], inputs: Mapping[int, Any]) -> float:
    """Seconds a row without the fixed cost of a call, from two row counts."""
    (few, small), (many, large) = sorted(inputs.items())
    seconds = fastest({"few": lambda: call(small), "many": lambda: call(large)})
    return (seconds["many"] - seconds["few"]) / (many - few)


def stated(operator: str) -> tuple[Mark, ...]:
    """All marks of an operator."""
    module = f"marks_{operator}"
    if not (Path(__file__).parent / f"{module}.py").exists():
        return ()
    return import_module(f"{__package__}.{module}").MARKS


def found(operator: str) -> list[Mark]:
    """Those that this CPU can keep."""
    return [mark for mark in stated(operator) if mark.available]
