"""Marks of hadamard_transform: against peak additions in cache, against the in-place floor from memory, and a call."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sylvester import _library
from sylvester.ops.hadamard_transform import hadamard_transform, hadamard_transform_

from .baselines import adds_per_second, second_level_cache
from .marks import Mark, fastest, median_of_rounds, ratio, slope

NAME = "hadamard_transform"
IN_L2 = 1 / 8, 3 / 8
"""The small and the large input in cache, as parts of it: pages lie where they happen to, so half of it is not safe."""
MOST_OF_L2 = 3 / 4
"""What each thread has where one is compared with two."""
IN_DRAM = 1 << 28
FACTORED = (768, 1536, 3072, 3584, 5120, 13824, 14336, 18944, 11008)
"""Widths of models: 12, 20, 28, 108, 148 and 344 times a power of two."""


def in_cache(block: int, dtype: torch.dtype = torch.float32) -> dict[int, Tensor]:
    """Row count -> random rows; the orthonormal transform keeps their size however often it is applied."""
    size = second_level_cache() / (block * dtype.itemsize)
    few = max(int(size * IN_L2[0]), 1)
    return {rows: torch.randn(rows, block).to(dtype) for rows in (few, max(int(size * IN_L2[1]), few + 1))}


def _of_peak(block: int) -> float:
    """Time a row over block·log2(block) additions at the peak rate."""
    inputs = in_cache(block)

    def of_peak() -> float:
        rate = max(adds_per_second() for _ in range(5))
        return slope(hadamard_transform_, inputs) * rate / (block * (block.bit_length() - 1))

    with torch.inference_mode():
        return median_of_rounds(of_peak)


def _of_next_power(block: int) -> float:
    """Time an element over that of the next power of two."""
    power = 1 << block.bit_length()
    inputs, longer = in_cache(block), in_cache(power)

    def of_next_power() -> float:
        return slope(hadamard_transform_, inputs) / block * power / slope(hadamard_transform_, longer)

    with torch.inference_mode():
        return median_of_rounds(of_next_power)


def memory(block: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows that no cache holds, as many for every dtype, on huge pages."""
    x = torch.ops.sylvester._fresh_copy(torch.empty(IN_DRAM // (block * 4), block, dtype=dtype))
    return x.normal_()


def _of_memory(block: int) -> float:
    x = memory(block)
    with torch.inference_mode():
        return ratio(partial(hadamard_transform_, x), partial(torch.ops.sylvester._touch_, x), samples=7)


def _two_threads(block: int) -> float:
    """Rows a second on two threads, each with as many as one has alone, over rows a second on one; calls included.

    A slope over two sizes would not do: the smaller one may run on one thread.
    """
    rows = int(MOST_OF_L2 * second_level_cache()) // (4 * block)
    alone, shared = torch.randn(rows, block), torch.randn(2 * rows, block)

    def speed_up() -> float:
        one = fastest({"one": lambda: hadamard_transform_(alone)})["one"]
        torch.set_num_threads(2)
        two = fastest({"two": lambda: hadamard_transform_(shared)})["two"]
        torch.set_num_threads(1)
        return 2 * one / two

    with torch.inference_mode():
        return median_of_rounds(speed_up)


def _16_bit_in_cache(block: int) -> float:
    """bf16 elements a second over float32 elements a second."""
    wide, narrow = in_cache(block), in_cache(block, torch.bfloat16)
    with torch.inference_mode():
        return median_of_rounds(lambda: slope(hadamard_transform_, wide) / slope(hadamard_transform_, narrow))


def _16_bit_from_memory(block: int) -> float:
    wide, narrow = memory(block), memory(block, torch.bfloat16)
    with torch.inference_mode():
        return ratio(partial(hadamard_transform_, wide), partial(hadamard_transform_, narrow), samples=7)


def _call(mode: Any, needs_grad: bool = False) -> float:
    """Microseconds of the public function on a 1 x 64 input."""
    x = torch.randn(1, 64, requires_grad=needs_grad)
    with mode:
        return median_of_rounds(lambda: fastest({"call": lambda: hadamard_transform(x)})["call"] * 1e6)


def _marks() -> Iterator[Mark]:
    fastest = _library.levels()[-1]
    for level, limit in (("avx512", 1.05), ("avx2", 1.2)):
        for block in (256, 1024, 4096):
            name = f"a row of {block} in L2 over its additions at peak, {level}"
            quick = level == fastest.removesuffix("vnni")
            yield Mark(NAME, name, limit, partial(_of_peak, block), quick=quick, level=level)
    for block in FACTORED:
        yield Mark(
            NAME, f"an element of {block} over one of the next power of two", 1.6, partial(_of_next_power, block)
        )
    for block, limit in ((256, 1.3), (1024, 1.3), (1 << 20, 2.0)):
        yield Mark(NAME, f"rows of {block} from DRAM over the in-place floor", limit, partial(_of_memory, block))
    at_least = partial(Mark, NAME, at_most=False)
    for block in (256, 1024):
        yield at_least(f"two threads over one, rows of {block} in cache", 1.9, partial(_two_threads, block))
        yield at_least(f"bf16 over float32 elements, {block} in cache", 1.0, partial(_16_bit_in_cache, block))
        yield at_least(f"bf16 over float32 elements, {block} in DRAM", 1.7, partial(_16_bit_from_memory, block))
    modes = (
        ("in inference_mode", torch.inference_mode(), False, 3.0),
        ("without gradient", torch.enable_grad(), False, 6.0),
        ("with gradient", torch.enable_grad(), True, 16.0),
    )
    for name, mode, needs_grad, limit in modes:
        yield Mark(NAME, f"a call on 1 x 64 {name}", limit, partial(_call, mode, needs_grad), "µs", quick=True)


MARKS = tuple(_marks())
