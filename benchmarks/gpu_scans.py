"""What benchmarks/gpu.py times of the transform and of the scans: groups of candidates, the floor first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from .gpu_device import Bench, Calls, Group, planned


def timed_transforms(b: Bench) -> Iterator[Group]:
    def calls(rows: int, width: int, dtype: torch.dtype) -> Calls:
        x, z = b.normal(rows, width, dtype=dtype), b.normal(rows, width, dtype=dtype)
        y, rest = torch.empty_like(x), (width, None, None, None, False)
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
    ("given", 256, 256, 1024), ("given", 128, 512, 1024),
)  # fmt: skip
"""Kind of drive, T, B, d; bfloat16. The last two: T = 1024, B = 64 in chunks."""


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

    for kind, *sizes in SCANS[5:8] if b.tiny else SCANS:
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


def timed_bases(b: Bench) -> Iterator[Group]:
    """The plan of few inputs against the plain one; a layer that stands still has the basis already."""

    def calls(steps: int, rows: int, width: int, dtype: torch.dtype) -> Calls:
        drive, weight = b.drive("1", steps, rows, width, dtype)
        assert weight is not None
        inputs = (drive, weight, b.signs(width), None)
        basis, shift = b.bases.hadamard_basis(*inputs[1:], width, steps, False)
        last, kept = b.bases.hadamard_basis_scan(*inputs, width, False, False, True)
        rest = (*(None,) * 5, width, 0, True, False, False, False)
        back = (last, *inputs, kept, width, False, False, True, True, True)
        return {
            "plain scan": lambda: b.scans.hadamard_scan(*inputs, *rest),
            "basis": lambda: b.bases.hadamard_basis_scan(*inputs, width, False, False, False),
            "basis that is there": lambda: b.bases.hadamard_basis_apply(drive, basis, shift, False, False),
            "backward": lambda: b.bases.hadamard_basis_scan_backward(*back),
        }

    for sizes in ((5, 2, 32),) if b.tiny else ((200, 128, 512), (784, 100, 512)):
        for dtype in (torch.float32, torch.bfloat16):
            name = "basis T={} B={} d={} ".format(*sizes) + str(dtype)[6:]
            yield name, partial(calls, *sizes, dtype)


def tuned(b: Bench) -> Iterator[Group]:
    """The plan in use and its alternatives."""
    for name, group in timed_transforms(b):
        width = int(name.split()[1].split("x")[1])
        sizes = [(max(width, size) // halves, halves) for size in (1024, 2048, 4096) for halves in (1, 2)]
        fits = {s for s in sizes if s[0] * s[1] == max(width, s[0]) and (s[1] == 1 or width > 2048) and s[0] <= 32768}

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
            plans = [plan_type(width, w, n) for w in (1, 2, 4, 8) for n in (4, 5, 6, 8) if 4 <= width // (32 * w) <= 32]
            both = {"": (run, [b.scans]), "backward ": (back, [b.backwards])}
            found = {f"{label}in use": call for label, (call, _) in both.items()}
            return found | {
                f"{label}{p.warps} warps, {p.stages} stages": partial(planned, modules, p, call)
                for label, (call, modules) in both.items() for p in plans
            }  # fmt: skip

        yield f"plans of {name}", scans
