"""Checks and times every Triton kernel on the GPU of this machine, in one call of a few minutes.

    python -m benchmarks.gpu [--tune] [--out FILE]
    python -m benchmarks.gpu --interpret

It needs torch with CUDA and Triton, nothing else: the kernels are those of this checkout, no library is built. First
every kernel is compared with float64 on the device; only if all agree is anything timed. A sample is one replay of a
CUDA graph between two events, after 1 GiB was written so that no input is in a cache; candidates take turns; medians
are printed, and written as JSON to benchmarks/results/.

--tune       also times alternatives to the launchers' plans
--interpret  the same code on tiny sizes in Triton's interpreter, without a GPU: its times mean nothing
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from .gpu_checks import check_options, check_scans, check_transforms
from .gpu_codes import check_codes, codes_targets, timed_codes
from .gpu_device import Bench, Calls

Group = tuple[str, Callable[[], Calls]]
"""A label, and what makes the inputs when it is the group's turn."""


def timed_transforms(b: Bench) -> Iterator[Group]:
    def calls(rows: int, width: int, dtype: torch.dtype) -> Calls:
        x, z = b.normal(rows, width, dtype=dtype), b.normal(rows, width, dtype=dtype)
        y, rest = torch.empty_like(x), (width, None, None, None)
        return {
            "clone": lambda: y.copy_(x),
            "transform": lambda: b.transforms.hadamard_transform_out(x, *rest, y),
            "in-place floor": lambda: z.neg_(),
            "in place": lambda: b.transforms.hadamard_transform_(z, *rest),
        }

    for stages in (8,) if b.tiny else range(8, 16):
        for dtype in (torch.bfloat16, torch.float32):
            rows, width = 2 if b.tiny else 1 << 27 - stages, 1 << stages
            yield f"transform {rows}x{width} {str(dtype)[6:]}", partial(calls, rows, width, dtype)


SCANS = (
    ("given", 1024, 64, 1024), ("given", 1024, 64, 256), ("given", 1024, 64, 512), ("given", 1024, 64, 128),
    ("given", 1024, 1, 1024), ("given", 1024, 1024, 256), ("10", 784, 100, 512), ("tokens", 1000, 128, 128),
)  # fmt: skip
"""Kind of drive, T, B, d; bfloat16."""


def timed_scans(b: Bench) -> Iterator[Group]:
    def calls(kind: str, steps: int, rows: int, width: int) -> Calls:
        drive, weight = b.drive(kind, steps, rows, width, torch.bfloat16)
        sign, states = b.signs(width), b.normal(steps, rows, width, dtype=torch.bfloat16)
        copied, first = torch.empty_like(states), drive[0]
        run = partial(b.scans.hadamard_scan, drive, weight, sign, *(None,) * 6, width, 0)
        _, last, kept = run(True, False, False, True)
        flags = (width, 0, False, False, False, True, True, True)
        back = (drive, weight, sign, *(None,) * 6, last, kept, *flags)
        return {
            "copy of the states": lambda: copied.copy_(states),
            "scan": lambda: run(False, False, False, False),
            "scan, last only": lambda: run(True, False, False, False),
            "backward": lambda: b.scans.hadamard_scan_backward(states, None, *back),
            "backward, last only": lambda: b.scans.hadamard_scan_backward(None, last, *back),
            "step": lambda: b.scans.hadamard_step(first, weight, sign, None, last, None, width, 0),
        }

    for kind, *sizes in SCANS:
        steps, rows, width = (3, 2, 32) if b.tiny else sizes
        yield f"scan {kind} T={steps} B={rows} d={width} bfloat16", partial(calls, kind, steps, rows, width)


def timed_options(b: Bench) -> Iterator[Group]:
    """A read-out inside the scan against one after it, and an activation; the floor reads the tokens' states once."""

    def calls(steps: int, rows: int, width: int, outputs: int) -> Calls:
        drive, weight = b.drive("tokens", steps, rows, width, torch.bfloat16)
        readout, shift = b.normal(outputs, width, dtype=torch.bfloat16), b.normal(outputs, dtype=torch.bfloat16)
        inputs, none = (drive, weight, b.signs(width)), (None, None, None)
        states = b.normal(steps, rows, width, dtype=torch.bfloat16)
        read = partial(b.scans.hadamard_scan, *inputs, *none, readout, shift, None, width)
        plain = partial(b.scans.hadamard_scan, *inputs, *none, None, None, None, width)
        y, last, kept = read(0, False, False, False, True)
        back = (*inputs, *none, readout, None, None, last, kept, width, 0, False, False, False, True, True, True)

        def read_after() -> Any:
            return torch.nn.functional.linear(plain(0, False, False, False, False)[0].relu(), readout, shift)

        return {
            "read-out of states": lambda: torch.nn.functional.linear(states.relu(), readout, shift),
            "scan, then read-out": read_after,
            "scan with read-out": lambda: read(0, False, False, False, False),
            "backward with read-out": lambda: b.scans.hadamard_scan_backward(y, None, *back),
            "scan with relu": lambda: plain(1, False, False, False, False),
        }

    steps, rows, width, outputs = (3, 2, 32, 2) if b.tiny else (1000, 128, 128, 9)
    name = f"read-out tokens T={steps} B={rows} d={width} O={outputs} bfloat16"
    yield name, partial(calls, steps, rows, width, outputs)


def tuned(b: Bench) -> Iterator[Group]:
    """The plan in use and its alternatives; a plan is read when the launch is captured."""

    def planned(modules: list[Any], plan: Any, call: Callable[[], Any]) -> None:
        kept = [module.plan for module in modules]
        try:
            for module in modules:
                module.plan = lambda *_: plan
            call()
        finally:
            for module, before in zip(modules, kept, strict=True):
                module.plan = before

    for name, group in timed_transforms(b):
        width = int(name.split()[1].split("x")[1])
        sizes = [(max(width, size) // halves, halves) for size in (1024, 2048, 4096) for halves in (1, 2)]
        fits = {s for s in sizes if s[0] * s[1] == max(width, s[0]) and (s[1] == 1 or width > 2048) and s[0] <= 16384}

        def calls(group: Callable[[], Calls] = group, fits: Any = fits) -> Calls:
            run = group()["transform"]
            plans = [(s, h, w) for s, h in sorted(fits) for w in (1, 2, 4, 8, 16, 32) if 16 <= s * h // (32 * w) <= 64]
            return {"in use": run} | {f"{p}": partial(planned, [b.transforms], p, run) for p in plans}

        yield f"plans (size, halves, warps) of {name}", calls
    plan_type = type(b.scans.plan(256, 256))
    for name, group in timed_scans(b):
        width = int(name.split()[4][2:])

        def scans(group: Callable[[], Calls] = group, width: int = width) -> Calls:
            run, back = (group()[name] for name in ("scan", "backward"))
            plans = [plan_type(width, w, n) for w in (1, 2, 4, 8) for n in (3, 5) if 4 <= width // (32 * w) <= 32]
            both = {"": (run, [b.scans]), "backward ": (back, [b.backwards])}
            found = {f"{label}in use": call for label, (call, _) in both.items()}
            return found | {
                f"{label}{p.warps} warps, {p.stages} stages": partial(planned, modules, p, call)
                for label, (call, modules) in both.items() for p in plans
            }  # fmt: skip

        yield f"plans of {name}", scans


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
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --interpret runs the same code without one")
    b = Bench(options.interpret)
    torch.manual_seed(0)
    began, samples = time.perf_counter(), 1 if b.tiny else 15
    checked = {
        name: fraction
        for check in (check_transforms, check_codes, check_scans, check_options)
        for name, fraction in check(b)
    }
    wrong = {name: fraction for name, fraction in checked.items() if not fraction <= 1}
    print(f"{len(checked)} checks, worst {max(checked.values()):.2f} of what is allowed, {len(wrong)} wrong")
    for name, fraction in wrong.items():
        print(f"WRONG  {name}: {fraction:.3g} of what is allowed")
    if wrong:
        return 1
    seconds: dict[str, dict[str, float]] = {}
    for timed in (timed_transforms, timed_codes, timed_scans, timed_options, *([tuned] if options.tune else [])):
        for name, calls in timed(b):
            taken = b.time(calls(), samples)
            seconds[name] = {call: statistics.median(values) for call, values in taken.items()}
            floor = next(iter(seconds[name].values()))
            print(
                name,
                *(f"  {call:24} {t * 1e6:10.1f} us {t / floor:7.2f}" for call, t in seconds[name].items()),
                sep="\n",
            )
    report = machine() | {"worst_check": max(checked.values()), "checks": len(checked), "seconds": seconds}
    for name, (measured, limit) in (targets(seconds) | codes_targets(seconds)).items():
        print(f"{'met   ' if measured <= limit else 'MISSED'}  {name}: {measured:.3g}, limit {limit:g}")
        report.setdefault("targets", {})[name] = {"measured": measured, "limit": limit}
    print(f"{time.perf_counter() - began:.0f} s")
    out = options.out or (None if b.tiny else Path(__file__).parent / "results" / f"gpu-{report['date'][:10]}.json")
    if out:
        out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
