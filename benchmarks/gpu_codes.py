"""hadamard_quantize and quantize_rows on the GPU: checked against float64, timed against moving the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from .gpu_checks import transform64
from .gpu_device import Bench, Calls, Check, Group

MARK = "codes 32768x4096 bfloat16"


def check_codes(b: Bench) -> Iterator[Check]:
    for width, block in (
        ((48, 16),) if b.tiny else ((64, 64), (3072, 1024), (4096, 4096), (1 << 15, 1 << 15), (70000, 1))
    ):
        for dtype in (torch.float32, torch.bfloat16):
            for bits in (8, 4):
                yield f"codes {width} in {block} {dtype} on {bits} bits", partial(_codes, b, width, block, dtype, bits)


def _codes(b: Bench, width: int, block: int, dtype: torch.dtype, bits: int) -> Iterator[tuple[str, float]]:
    """Wrong is a code more than one off, or more than a thousandth of them one off: few reals are nearly half way."""
    x, pre = b.normal(7, width, dtype=dtype), b.normal(width)
    codes, scales = b.codes.hadamard_quantize(x, block, None, pre, bits, bits == 4)
    if bits == 4:
        codes = torch.stack((codes & 15, codes >> 4), -1).flatten(-2).to(torch.int8) - 8
    limit = 2 ** (bits - 1) - 1
    y = transform64(pre * x.double(), block)
    largest = y.abs().amax(-1, keepdim=True)
    off = (codes.int() - (y * limit / largest).round().int()).abs()
    yield "codes", off.max().item() // 2 * 1e9 + off.double().mean().item() * (10 if b.tiny else 1000)
    yield "scales", (scales.double() * limit / largest.squeeze(-1) - 1).abs().max().item() / 4e-6


def timed_codes(b: Bench) -> Iterator[Group]:
    """The floor is torch's own conversion, which reads and writes as many bytes."""

    def calls(rows: int, width: int) -> Calls:
        x = b.normal(rows, width, dtype=torch.bfloat16)
        y, run = torch.empty(rows, width, dtype=torch.int8, device=b.device), b.codes.hadamard_quantize
        return {
            "conversion": lambda: y.copy_(x),
            "codes": lambda: run(x, width, None, None, 8, False),
            "4-bit codes": lambda: run(x, width, None, None, 4, True),
            "codes of rows": lambda: run(x, 1, 1.0, None, 8, False),
        }

    for stages in (8,) if b.tiny else (8, 10, 12, 14):
        rows, width = 2 if b.tiny else 1 << 27 - stages, 1 << stages
        yield f"codes {rows}x{width} bfloat16", partial(calls, rows, width)


def codes_targets(seconds: dict[str, dict[str, Any]]) -> dict[str, tuple[float, float]]:
    found = seconds.get(MARK)
    return {f"{MARK}, of the conversion": (found["codes"] / found["conversion"], 1.15)} if found else {}
