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


class Clock:
    """Time passes in calls only, a microsecond each; a stall adds its seconds to one call."""

    def __init__(self, stalls: dict[int, float]) -> None:
        self.now, self.calls, self.stalls = 0.0, 0, stalls

    def call(self) -> None:
        self.calls += 1
        self.now += 1e-6 + self.stalls.get(self.calls, 0.0)


@pytest.mark.parametrize("stalled", [None, 2, 20, 500], ids="stalled_{}".format)
def test_samples_are_long_enough_on_a_machine_that_stalls(monkeypatch: pytest.MonkeyPatch, stalled: int | None) -> None:
    clock = Clock({stalled: 0.01} if stalled else {})
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    timing = measure({"short": clock.call}, samples=3, min_sample=0.002)["short"]
    assert min(timing.samples) * timing.repeats >= 0.002
    assert timing.median == pytest.approx(1e-6)


def test_a_slow_candidate_stops_early_but_not_before_three_samples() -> None:
    timings = measure(
        {"slow": lambda: time.sleep(0.01), "fast": lambda: None}, samples=8, min_sample=0.0001, max_seconds=0.02
    )
    assert len(timings["slow"].samples) == 3
    assert len(timings["fast"].samples) == 8


def test_statistics() -> None:
    timing = Timing((2.0, 1.0, 4.0), repeats=1)
    assert timing.median == 2.0 and timing.fastest == 1.0 and timing.spread == pytest.approx(4.0)
