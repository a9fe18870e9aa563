"""The one timer, for CPU and GPU: candidates take turns, so drift of the machine hits all of them alike.

A sample is ``repeats`` calls in a row divided by ``repeats``, with ``repeats`` chosen so that a sample lasts at least
``min_sample`` seconds. Every speed is stated as a ratio of medians from one call of ``measure``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

MIN_SAMPLES = 3


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one entry a sample."""

    samples: tuple[float, ...]
    repeats: int

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def fastest(self) -> float:
        return min(self.samples)

    @property
    def spread(self) -> float:
        """Slowest sample over fastest: 1.0 is a perfectly quiet machine."""
        return max(self.samples) / self.fastest


def measure(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    device: str | torch.device = "cpu",
    samples: int = 15,
    min_sample: float = 0.005,
    max_seconds: float = 5.0,
) -> dict[str, Timing]:
    """Times every candidate (a call without arguments), interleaved.

    A candidate that has used ``max_seconds`` stops early, but never with fewer than three samples.
    """
    sample = _gpu_sample if torch.device(device).type == "cuda" else _cpu_sample
    repeats = {name: _calibrate(call, sample, min_sample) for name, call in candidates.items()}
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    used = dict.fromkeys(candidates, 0.0)
    for round_number in range(max(samples, MIN_SAMPLES)):
        for name, call in candidates.items():
            if round_number >= MIN_SAMPLES and used[name] >= max_seconds:
                continue
            seconds = sample(call, repeats[name])
            used[name] += seconds
            taken[name].append(seconds / repeats[name])
    return {name: Timing(tuple(taken[name]), repeats[name]) for name in candidates}


def _calibrate(call: Callable[[], Any], sample: Callable[[Callable[[], Any], int], float], min_sample: float) -> int:
    """Calls a sample needs. The first call is not timed: it may compile, page memory in or start threads.

    A machine that stalls makes one sample look long enough when it is not, so a count must last twice.
    """
    call()
    repeats = 1
    while True:
        seconds = sample(call, repeats)
        if seconds >= min_sample:
            seconds = sample(call, repeats)
        if seconds >= min_sample:
            return repeats
        # Aim a little above the target, but grow by 10 at most: the first estimates are the least precise.
        wanted = 1.2 * min_sample / seconds if seconds > 0 else 10.0
        repeats = max(repeats + 1, int(repeats * min(wanted, 10.0)))


def _cpu_sample(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def _gpu_sample(call: Callable[[], Any], repeats: int) -> float:
    """Events on the current stream: the host's share is hidden as long as it keeps the queue filled."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
