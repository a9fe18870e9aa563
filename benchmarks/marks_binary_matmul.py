"""Marks of binary_matmul: against peak dot products; what its siblings share with ternary_matmul is marked there."""

from __future__ import annotations

from functools import partial

from .lowbit import of_peak
from .marks import Mark

NAME = "binary_matmul"
SHAPE = 1024, 1024

MARKS = tuple(
    Mark(
        NAME,
        f"{bits}, M = {rows}, 1024 x 1024 of peak dot products, avx512vnni",
        limit,
        partial(of_peak, rows, SHAPE, encoding),
        at_most=False,
        quick=rows == 8,
        level="avx512vnni",
    )
    for encoding, bits in ((0, "1 bit"),)
    for rows, limit in ((8, 0.7), (32, 0.9))
)
