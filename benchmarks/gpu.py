"""Checks and times every Triton kernel on the GPU of this machine, in one call of a few minutes.

    python -m benchmarks.gpu [--tune] [--only PATTERN] [--out FILE]
    python -m benchmarks.gpu --interpret

It needs torch with CUDA and Triton, no built library: the kernels are those of this checkout. First
every kernel is compared with float64 on the device, by processes that also compile what is timed afterwards: one wrong
value makes the exit status 1. A sample is one replay of a CUDA graph between two events, after 1 GiB was written so
that no input is in a cache; candidates take turns; medians are printed, and written as JSON to benchmarks/results/.

--tune       also times alternatives to the launchers' plans
--interpret  the same code on tiny sizes in Triton's interpreter, without a GPU: its times mean nothing
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from .gpu_codes import codes_targets
from .gpu_device import Bench
from .gpu_jobs import run_all, timed
from .gpu_lowbit import product_targets
from .gpu_package import package_targets


def targets(seconds: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Name -> (measured, limit)."""
    row, wide, narrow = (
        seconds.get(name, {}) for name in ("transform 32768x4096 bfloat16", "scan given T=1024 B=64 d=1024 bfloat16",
                                           "scan given T=1024 B=64 d=256 bfloat16")
    )  # fmt: skip
    if not (row and wide and narrow):
        return {}
    return {
        "transform 32768x4096 bf16, of clone": (row["transform"] / row["clone"], 1.1),
        "scan T=1024 B=64 d=1024 bf16, us": (wide["scan"] * 1e6, 350.0),
        "scan d=256, us a step": (narrow["scan"] * 1e6 / 1024, 0.2),
    }


def machine() -> dict[str, Any]:
    found: dict[str, Any] = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    found |= {"torch": torch.__version__, "triton": import_module("triton").__version__}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "multiprocessors": properties.multi_processor_count}
        found |= {"cuda": torch.version.cuda, "hip": torch.version.hip}
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--interpret", action="store_true")
    parser.add_argument("--only", default="", metavar="PATTERN", help="in the labels of checks and timed groups")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --interpret runs the same code without one")
    b, began = Bench(options.interpret), time.perf_counter()
    checked = dict(run_all(b, options.tune, options.only))
    wrong = {name: fraction for name, fraction in checked.items() if not fraction <= 1}
    worst = max(checked.values(), default=0.0)
    print(f"{len(checked)} checks in {time.perf_counter() - began:.0f} s, worst {worst:.2f} of what is allowed, "
          f"{len(wrong)} wrong", flush=True)  # fmt: skip
    for name, fraction in wrong.items():
        print(f"WRONG  {name}: {fraction:.3g} of what is allowed")
    report = machine() | {"worst_check": worst, "checks": len(checked), "wrong": list(wrong)}
    report["seconds"] = seconds = time_all(b, options.tune, options.only)
    reached = targets(seconds) | codes_targets(seconds) | product_targets(seconds) | package_targets(seconds)
    for name, (measured, limit) in reached.items():
        print(f"{'met   ' if measured <= limit else 'MISSED'}  {name}: {measured:.3g}, limit {limit:g}")
        report.setdefault("targets", {})[name] = {"measured": measured, "limit": limit}
    print(f"{time.perf_counter() - began:.0f} s")
    out = options.out or (None if b.tiny else Path(__file__).parent / "results" / f"gpu-{report['date'][:10]}.json")
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if wrong else 0


def time_all(b: Bench, tune: bool, only: str) -> dict[str, dict[str, float]]:
    """Medians in seconds, by group and candidate, printed as they come."""
    torch.manual_seed(0)
    seconds: dict[str, dict[str, float]] = {}
    for name, calls in timed(b, tune):
        if not re.search(only, name):
            continue
        taken = b.time(calls(), 1 if b.tiny else 15)
        seconds[name] = {call: statistics.median(values) for call, values in taken.items()}
        floor = next(iter(seconds[name].values()))
        lines = (f"  {call:24} {t * 1e6:10.1f} us {t / floor:7.2f}" for call, t in seconds[name].items())
        print(name, *lines, sep="\n", flush=True)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
