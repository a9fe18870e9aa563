"""The launches of transforms, codes of rows, scans and products that aot.py compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sylvester.kernels import _products, _segments, hadamard_quantize, hadamard_scan, hadamard_transform

ROWS, STEPS = 2, 130


def transform(block: int, dtype: torch.dtype, vectors: bool = False) -> None:
    diagonal = torch.ones(4 * block) if vectors else None
    x = torch.zeros(16, 4 * block if vectors else block, dtype=dtype)
    hadamard_transform.hadamard_transform_(x, block, None, diagonal, diagonal, False)


def codes(width: int, block: int, dtype: torch.dtype, bits: int = 8) -> None:
    hadamard_quantize.hadamard_quantize(torch.zeros(2048, width, dtype=dtype), block, None, None, bits, bits <= 4)


def scan(
    block: int,
    dtype: torch.dtype,
    kind: str = "given",
    inputs: int = 0,
    blocks: int = 1,
    back: str = "",
    outputs: int = 0,
    activation: int = 0,
) -> None:
    """back: "" forward, "read" or "rebuilt": backward with states of either sort; outputs: of a read-out."""
    width = blocks * block
    drive, weight = torch.zeros(STEPS, ROWS, width, dtype=dtype), None
    if kind == "fused":
        drive, weight = torch.zeros(STEPS, ROWS, inputs, dtype=dtype), torch.zeros(width, inputs, dtype=dtype)
    elif kind == "tokens":
        drive, weight = torch.zeros(STEPS, ROWS, dtype=torch.int64), torch.zeros(50, width, dtype=dtype)
    sign, last = torch.ones(width), torch.zeros(ROWS, width)
    read, shift = (torch.zeros(outputs, width), torch.zeros(outputs)) if outputs else (None, None)
    options = (block, activation, False, False, False)
    if not back:
        hadamard_scan.hadamard_scan(drive, weight, sign, None, None, None, read, shift, None, *options, False)
        return
    states = torch.zeros(STEPS, ROWS, width)
    grad = torch.zeros(STEPS, ROWS, outputs or width, dtype=dtype)
    kept = torch.zeros((STEPS - 1) // 64, ROWS, width)
    hadamard_scan.hadamard_scan_backward(
        grad, last, drive, weight, sign, sign, None, None, read, None, states if back == "read" else None, last, kept,
        *options, True, True, True,
    )  # fmt: skip


def product(kind: str, dtype: torch.dtype) -> None:
    """One of the three products of a basis of 10 inputs; dtype: of the drive."""
    steps, rows, width = (_products.Axis(count, inner) for count, inner in ((230, 10), (100, 1), (512, 1)))
    drive = _products.Factor(torch.zeros(23, 100, 10, dtype=dtype)[-1:], (10, 0), (-1000, 1))
    basis = _products.Factor(torch.zeros(23, 11, 512), (5632, 512), (1, 0))
    sums = _products.matrix(torch.zeros(100, 512))
    if kind == "forward":
        _products.multiply(rows, steps, width, drive, basis, sums, True)
    elif kind == "basis":
        _products.multiply(steps, rows, width, drive.t(), sums, basis, False)
    else:
        _products.multiply(rows, width, steps, sums, basis.t(), drive, False)


def link(block: int, back: bool) -> None:
    """What joins segments of a basis: one row of two blocks."""
    segments = _segments.Segments(torch.ones(2 * block), block, 88, 9, torch.zeros(block, 2 * block))
    x = torch.zeros(2, 9, 2 * block)
    segments._link(x[:, 0], x[:, 1] if back else None, x[:, 2])


HALF, FULL = torch.bfloat16, torch.float32
Case = tuple[str, int, Callable[..., None], tuple[Any, ...]]
ON_EVERY_CHIP: list[Case] = [
    *((f"transform {n} bf16", n, transform, (n, HALF)) for n in (64, 2048, 4096)),
    *((f"transform {n} fp32", n, transform, (n, FULL)) for n in (1024, 32768)),
    *((f"factor {n} bf16", n, transform, (n, HALF)) for n in (768, 5120, 11008)),
    ("factor 14336 fp32", 14336, transform, (14336, FULL)),
    ("codes of 4096 bf16", 4096, codes, (4096, 4096, HALF)),
    ("codes of 32768 fp32", 1 << 15, codes, (1 << 15, 1 << 15, FULL, 4)),
    ("scan 1024 bf16", 1024, scan, (1024, HALF)),
    ("scan 4096 fp32", 4096, scan, (4096, FULL)),
    ("backward 4096 read fp32", 4096, scan, (4096, FULL, "given", 0, 1, "read")),
    ("scan 2048 fused 16 bf16", 2048, scan, (2048, HALF, "fused", 16)),
    ("backward 4096 rebuilt fp32", 4096, scan, (4096, FULL, "given", 0, 1, "rebuilt")),
    ("backward 2048 fused 16 rebuilt bf16", 2048, scan, (2048, HALF, "fused", 16, 1, "rebuilt")),
    *((f"product {kind} fp32", 0, product, (kind, FULL)) for kind in ("forward", "basis", "drive")),
    ("product forward bf16", 0, product, ("forward", HALF)),
    *((f"link {name} fp32", 0, link, (512, name == "back")) for name in ("forward", "back")),
    ("read-out of 9, 128 tokens bf16", 128, scan, (128, HALF, "tokens", 0, 1, "", 9)),
    ("read-out of 32, 4096 fp32", 4096, scan, (4096, FULL, "given", 0, 1, "", 32)),
    ("read-out of 32, 2048 fused 16 bf16", 2048, scan, (2048, HALF, "fused", 16, 1, "", 32)),
    ("back from a read-out of 9, 128 tokens bf16", 128, scan, (128, HALF, "tokens", 0, 1, "rebuilt", 9)),
    ("back from a read-out of 32, 4096 fp32", 4096, scan, (4096, FULL, "given", 0, 1, "rebuilt", 32)),
    ("back from a read-out of 32, 2048 fused 8 bf16", 2048, scan, (2048, HALF, "fused", 8, 1, "rebuilt", 32)),
    ("relu 1024 bf16", 1024, scan, (1024, HALF, "given", 0, 1, "", 0, 1)),
    ("back from relu 1024 bf16", 1024, scan, (1024, HALF, "given", 0, 1, "rebuilt", 0, 1)),
    ("back from relu 2048 fused 8 bf16", 2048, scan, (2048, HALF, "fused", 8, 1, "rebuilt", 0, 1)),
]
ON_ONE_CHIP: list[Case] = [
    *((f"transform {n} bf16", n, transform, (n, HALF)) for n in (1, 8, 256, 512, 1024, 8192, 16384, 32768)),
    *((f"transform {n} fp32", n, transform, (n, FULL)) for n in (16, 256, 2048, 4096)),
    *((f"factor {n} bf16", n, transform, (n, HALF)) for n in (12, 3072, 14336, 18944)),
    *((f"factor {n} fp32", n, transform, (n, FULL)) for n in (768, 11008)),
    *((f"transform {n} with pre and post bf16", n, transform, (n, HALF, True)) for n in (16, 1024)),
    *((f"codes of {n} bf16", n, codes, (n, n, HALF)) for n in (64, 1024, 16384, 32768)),
    ("codes of 4096 bf16 on 4 bits", 4096, codes, (4096, 4096, HALF, 4)),
    ("codes of rows of 4096 bf16", 1, codes, (4096, 1, HALF)),
    ("codes of 65536 in blocks bf16", 1024, codes, (1 << 16, 1 << 10, HALF)),
    *((f"scan {n} bf16", n, scan, (n, HALF)) for n in (128, 256, 512, 4096)),
    *((f"scan {n} fp32", n, scan, (n, FULL)) for n in (256, 1024)),
    ("scan 4 blocks of 16 bf16", 64, scan, (16, HALF, "given", 0, 4)),
    ("scan 512 fused 10 bf16", 512, scan, (512, HALF, "fused", 10)),
    ("scan 128 tokens fp32", 128, scan, (128, FULL, "tokens")),
    *((f"backward {n} rebuilt bf16", n, scan, (n, HALF, "given", 0, 1, "rebuilt")) for n in (256, 1024)),
    ("backward 1024 read fp32", 1024, scan, (1024, FULL, "given", 0, 1, "read")),
    ("backward 128 tokens rebuilt bf16", 128, scan, (128, HALF, "tokens", 0, 1, "rebuilt")),
]
