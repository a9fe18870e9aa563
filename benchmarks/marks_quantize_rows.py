"""Marks of quantize_rows: against reading the rows once, and against the same in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from sylvester import _library
from sylvester.ops.quantize_rows import quantize_rows, reference

from .marks import Mark, ratio
from .marks_hadamard_transform import in_cache, memory

NAME = "quantize_rows"


def _over_reading(width: int) -> float:
    x = memory(width)
    with torch.inference_mode():
        return ratio(partial(quantize_rows, x), partial(torch.amax, x, -1), samples=7)


def _eager(width: int) -> float:
    *_, x = in_cache(width).values()
    with torch.inference_mode():
        return ratio(partial(reference, x), partial(quantize_rows, x), samples=7)


def _marks() -> Iterator[Mark]:
    level = _library.levels()[-1].removesuffix("vnni")
    for width in (1024, 4096):
        yield Mark(
            NAME, f"rows of {width} from DRAM over their largest alone (torch.amax)", 3.0, partial(_over_reading, width)
        )
        name = f"rows of {width} in L2, times as fast as plain PyTorch, {level}"
        yield Mark(NAME, name, 8.0, partial(_eager, width), at_most=False, quick=True, level=level)


MARKS = tuple(_marks())
