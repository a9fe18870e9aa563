"""Marks of hadamard_quantize: against the transform alone, which writes four times as many bytes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from sylvester import _library
from sylvester.ops.hadamard_quantize import hadamard_quantize
from sylvester.ops.hadamard_transform import hadamard_transform

from .marks import Mark, median_of_rounds, ratio, slope
from .marks_hadamard_transform import in_cache, memory

NAME = "hadamard_quantize"


def _of_transform(width: int, bits: int) -> float:
    """Time a row over that of the transform out of place; inputs, outputs and all in the second-level cache."""
    inputs = in_cache(width)
    quantize = partial(hadamard_quantize, bits=bits)
    with torch.inference_mode():
        return median_of_rounds(lambda: slope(quantize, inputs) / slope(hadamard_transform, inputs))


def _from_memory(width: int) -> float:
    """Both write to fresh memory."""
    x = memory(width)
    with torch.inference_mode():
        return ratio(partial(hadamard_quantize, x), partial(hadamard_transform, x), samples=7)


def _marks() -> Iterator[Mark]:
    fastest = _library.levels()[-1].removesuffix("vnni")
    for level in ("avx512", "avx2"):
        for width in (256, 1024, 4096):
            name = f"a row of {width} in L2 over the transform, {level}"
            quick = level == fastest
            yield Mark(NAME, name, 1.35, partial(_of_transform, width, 8), quick=quick, level=level)
    for width in (256, 1024, 4096):
        name = f"rows of {width} from DRAM over the transform"
        yield Mark(NAME, name, 0.75, partial(_from_memory, width))


MARKS = tuple(_marks())
