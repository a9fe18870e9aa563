"""What benchmarks/gpu.py times through the installed package: blocks of m·2^k, whose factors its library makes, and the
plan "chunked", which is made of scans and torch's products. Without the package they are left out, which is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch

from .gpu_checks import error, scan64
from .gpu_device import Bench, Calls, Check, Group

MARK = "chunked T=1024 B=64 d=1024 bfloat16"


def operators(b: Bench) -> Any:
    """The public operators, or None."""
    if b.tiny:
        return None
    try:
        return import_module("sylvester")
    except ImportError as missing:
        print(f"left out: blocks of m·2^k and chunks, for {missing}")
        return None


def check_package(b: Bench) -> Iterator[Check]:
    def chunked(ops: Any, steps: int, rows: int, width: int) -> Iterator[tuple[str, float]]:
        drive, sign = b.normal(steps, rows, width), b.signs(width)
        states, last = ops.hadamard_scan(drive, sign, plan="chunked")
        h = torch.zeros(drive.shape[1:], dtype=torch.float64, device=b.device)
        want, end = scan64(drive.double(), None, sign.double(), torch.zeros_like(h[0]), h, len(sign))
        yield "states", error(states, want, len(sign).bit_length(), len(drive))
        yield "last", error(last, end, len(sign).bit_length(), len(drive))

    def factored(ops: Any, block: int, dtype: torch.dtype) -> Iterator[tuple[str, float]]:
        """Against the CPU's in float64; rows of two blocks, in place too."""
        x, pre, post = b.normal(5, 2 * block, dtype=dtype), b.normal(2 * block), b.normal(2 * block)
        vectors: dict[str, Any] = {"pre": pre, "post": post}
        wide = {name: vector.cpu().double() for name, vector in vectors.items()}
        turned = {"transpose": True}
        for name, options, exact in (("plain", {}, {}), ("pre, post, transposed", vectors | turned, wide | turned)):
            want = ops.hadamard_transform(x.cpu().double(), block_size=block, **exact).to(b.device)
            yield name, error(ops.hadamard_transform(x, block_size=block, **options), want, block.bit_length())
            y = ops.hadamard_transform_(x.clone(), block_size=block, **options)
            yield f"{name}, in place", error(y, want, block.bit_length())

    if ops := operators(b):
        for block in (12, 768, 3072, 5120, 11008, 14336, 18944):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                yield f"transform {block} {dtype}", partial(factored, ops, block, dtype)
        for steps, rows, width in ((2050, 3, 64), (3000, 2, 1024)):
            label = f"chunked T={steps} B={rows} d={width}"
            yield label, partial(chunked, ops, steps, rows, width)


def timed_package(b: Bench) -> Iterator[Group]:
    def transforms(ops: Any, rows: int, width: int, above: int) -> Calls:
        x, z = b.normal(rows, width, dtype=torch.bfloat16), b.normal(rows, above, dtype=torch.bfloat16)
        y = torch.empty_like(x)
        return {
            "clone": lambda: y.copy_(x),
            "transform": lambda: ops.hadamard_transform(x),
            "next power of two": lambda: ops.hadamard_transform(z),
        }

    def chunks(ops: Any, steps: int, rows: int, width: int, inputs: int) -> Calls:
        drive, weight = b.drive(str(inputs) if inputs else "given", steps, rows, width, torch.bfloat16)
        run = partial(ops.hadamard_scan, drive, b.signs(width), weight=weight)
        return {
            "scan": run,
            "chunked": partial(run, plan="chunked"),
            "scan, last only": partial(run, last_only=True),
            "chunked, last only": partial(run, last_only=True, plan="chunked"),
        }

    if ops := operators(b):
        for width, above in ((768, 1024), (3072, 4096), (5120, 8192), (11008, 16384), (14336, 16384)):
            rows = (1 << 26) // above
            yield f"transform {rows}x{width} bfloat16", partial(transforms, ops, rows, width, above)
        for steps, rows, width, inputs in ((1024, 64, 1024, 0), (4096, 1, 128, 1), (100_000, 1, 128, 1)):
            name = f"chunked T={steps} B={rows} d={width} bfloat16"
            yield name, partial(chunks, ops, steps, rows, width, inputs)


def package_targets(seconds: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    found = seconds.get(MARK)
    return {f"{MARK}, us": (found["chunked"] * 1e6, 150.0)} if found else {}
