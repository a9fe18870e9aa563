"""The checks and the timed groups of benchmarks/gpu.py, and the processes that compile for them.

Triton compiles one kernel after another, a second each, and a lent GPU is short of minutes: so processes share out the
checks, and call once whatever is timed later. What they compiled waits in Triton's cache for the process that times.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import torch

from .gpu_checks import check_bases, check_options, check_scans, check_transforms
from .gpu_codes import check_codes, timed_codes
from .gpu_device import Bench, Check, Group
from .gpu_lowbit import check_products, timed_products, tuned_products
from .gpu_package import check_package, timed_package
from .gpu_scans import timed_bases, timed_options, timed_scans, timed_transforms, tuned

Found = list[tuple[str, float]]
"""Names, and errors as fractions of what is allowed; infinite where a call failed."""


def checks(b: Bench) -> list[Check]:
    parts = (check_transforms, check_codes, check_scans, check_options, check_bases, check_products, check_package)
    return [check for part in parts for check in part(b)]


def timed(b: Bench, tune: bool) -> list[Group]:
    parts = (timed_transforms, timed_codes, timed_scans, timed_options, timed_bases, timed_products, timed_package)
    return [group for part in (*parts, *((tuned, tuned_products) if tune else ())) for group in part(b)]


def run_all(b: Bench, tune: bool, only: str) -> Found:
    """Every check, and every call that is timed later once, on all cores."""
    jobs = [(part, i) for part, labels in (("check", checks(b)), ("timed", timed(b, tune))) for i, (label, _) in
            enumerate(labels) if re.search(only, label)]  # fmt: skip
    if b.tiny:
        return [found for part, i in jobs if part == "check" for found in _check(*checks(b)[i])]
    workers = max((os.cpu_count() or 2) - 2, 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [found for job in [pool.submit(_job, part, i, tune) for part, i in jobs] for found in job.result()]


@cache
def _bench() -> Bench:
    return Bench(False)


def _job(part: str, i: int, tune: bool) -> Found:
    b = _bench()
    return _check(*checks(b)[i]) if part == "check" else list(_called(timed(b, tune)[i]))


def _check(label: str, run: Callable[[], Iterator[tuple[str, float]]]) -> Found:
    torch.manual_seed(0)
    found: Found = []
    try:
        found += ((f"{label}, {name}", fraction) for name, fraction in run())
    except Exception:
        found.append((f"{label}: {traceback.format_exc(limit=-4)}", float("inf")))
    return found


def _called(group: Group) -> Iterator[tuple[str, float]]:
    """Failures only. A plan that does not fit the chip is no failure: the timer names it."""
    label, calls = group
    try:
        for name, call in calls().items():
            try:
                call()
                torch.cuda.synchronize()
            except Exception:
                if not label.startswith("plans"):
                    yield f"{label}, {name}: {traceback.format_exc(limit=-4)}", float("inf")
    except Exception:
        yield f"{label}: {traceback.format_exc(limit=-4)}", float("inf")
