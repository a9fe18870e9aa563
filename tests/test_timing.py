"""The timer: turns, sample lengths, limits."""

from __future__ import annotations

import time

import pytest

from sylvester.timing import Timing, measure


def test_candidates_take_turns() -> None:
    order: list[str] = []

    def slow(name: str) -> None:
        order.append(name)
        time.sleep(0.002)

    timings = measure({"a": lambda: slow("a"), "b": lambda: slow("b")}, samples=4, min_sample=0.001)
    assert order[-8:] == ["a", "b"] * 4
    assert timings["a"].repeats == 1 and len(timings["a"].samples) == 4


def test_samples_are_long_enough() -> None:
    timing = measure({"short": lambda: None}, samples=3, min_sample=0.002)["short"]
    assert min(timing.samples) * timing.repeats >= 0.001
    assert timing.median < 1e-5


def test_a_slow_candidate_stops_early_but_not_before_three_samples() -> None:
    timings = measure(
        {"slow": lambda: time.sleep(0.01), "fast": lambda: None}, samples=8, min_sample=0.0001, max_seconds=0.02
    )
    assert len(timings["slow"].samples) == 3
    assert len(timings["fast"].samples) == 8


def test_statistics() -> None:
    timing = Timing((2.0, 1.0, 4.0), repeats=1)
    assert timing.median == 2.0 and timing.fastest == 1.0 and timing.spread == pytest.approx(4.0)
