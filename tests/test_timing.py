"""The timer: turns, sample lengths, limits. On a clock of its own, so that no other process can spoil it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sylvester.timing import Timing, measure


class Clock:
    """Time passes in calls only; a stall adds its seconds to one of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.stalls: dict[int, float] = {}

    def lasting(self, seconds: float, name: str = "") -> Callable[[], None]:
        def call() -> None:
            self.now += seconds + self.stalls.get(len(self.order), 0.0)
            self.order.append(name)

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_candidates_take_turns(clock: Clock) -> None:
    calls = {name: clock.lasting(0.002, name) for name in "ab"}
    timings = measure(calls, samples=4, min_sample=0.001)
    assert clock.order[-8:] == ["a", "b"] * 4
    assert timings["a"].repeats == 1 and len(timings["a"].samples) == 4


@pytest.mark.parametrize("stalled", [None, 1, 19, 499], ids="stalled_{}".format)
def test_samples_are_long_enough_on_a_machine_that_stalls(clock: Clock, stalled: int | None) -> None:
    clock.stalls = {} if stalled is None else {stalled: 0.01}
    timing = measure({"short": clock.lasting(1e-6)}, samples=3, min_sample=0.002)["short"]
    assert min(timing.samples) * timing.repeats >= 0.002
    assert timing.median == pytest.approx(1e-6)


def test_a_slow_candidate_stops_early_but_not_before_three_samples(clock: Clock) -> None:
    calls = {"slow": clock.lasting(0.01), "fast": clock.lasting(1e-6)}
    timings = measure(calls, samples=8, min_sample=0.0001, max_seconds=0.02)
    assert len(timings["slow"].samples) == 3
    assert len(timings["fast"].samples) == 8


def test_the_clock_is_that_of_the_machine() -> None:
    timing = measure({"sleep": lambda: time.sleep(0.002)}, samples=3, min_sample=0.001)["sleep"]
    assert timing.fastest >= 0.002


def test_statistics() -> None:
    timing = Timing((2.0, 1.0, 4.0), repeats=1)
    assert timing.median == 2.0 and timing.fastest == 1.0 and timing.spread == pytest.approx(4.0)
