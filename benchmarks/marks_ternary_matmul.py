"""Marks of ternary_matmul: against peak dot products, the bandwidth of reading, torch's int8 products and F.linear.

Calls are those of a frozen layer: ``prepared`` with its layout. Weights are in cache unless said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor
from torch.ao.nn.quantized import dynamic
from torch.nn import functional

from sylvester.ops.lowbit_matmul import prepared

from . import linear_step
from .lowbit import Options, Shape, of_peak, product, random_codes, random_layout
from .marks import Mark, fastest, median_of_rounds, ratio

NAME = "ternary_matmul"
TWO_BIT, TRITS = 1, 9
IN_DRAM = 1 << 28
"""Bytes of weights that take turns: more than any cache holds."""

ALONE = ((1024, 1024), (4096, 4096), (11008, 4096))
TOGETHER = ((512, 512), (1024, 1024), (4096, 4096))


def _over_linear() -> float:
    """How many times as long F.linear takes in float32 for one row of 4096 by 4096."""
    x, weight = torch.randn(1, 4096), torch.randn(4096, 4096)
    with torch.inference_mode():
        return ratio(lambda: functional.linear(x, weight), product(1, (4096, 4096), TWO_BIT), samples=9)


def _rotating(shape: Shape, encoding: int) -> tuple[Callable[[], Tensor], int]:
    """One row by weights that were not used for long, and their bytes."""
    first = random_layout(shape, encoding)
    layouts = cycle([torch.ops.sylvester._fresh_copy(first) for _ in range(IN_DRAM // first.nbytes)])
    given, scale = random_codes(1, shape[1]), torch.tensor(1.0)
    options: Options = {"scale": scale, "encoding": encoding, "out_features": shape[0]}
    return lambda: prepared(**given, layout=next(layouts), **options), first.nbytes


def _of_bandwidth(encoding: int) -> float:
    """Bytes of weights a second over those of reading and nothing else."""
    call, size = _rotating((11008, 4096), encoding)
    memory = torch.ops.sylvester._fresh_copy(torch.zeros(IN_DRAM // 4))
    with torch.inference_mode():
        return ratio(partial(torch.ops.sylvester._read, memory), call, samples=7) * size / memory.nbytes


def _fewer_bits() -> float:
    """How many times as long 2 bits a weight take as 1.6, from memory."""
    two_bit, trits = (_rotating((11008, 4096), encoding)[0] for encoding in (TWO_BIT, TRITS))
    with torch.inference_mode():
        return ratio(two_bit, trits, samples=7)


def _over_torch(rows: int, shape: Shape) -> float:
    """Time of torch's fastest int8 product over ours; each is given what it takes."""
    given = random_codes(rows, shape[1])
    columns = torch.randint(-127, 128, shape, dtype=torch.int8).t()
    module = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(*shape[::-1], bias=False)))
    assert isinstance(module[0], dynamic.Linear)
    floats = torch.randn(rows, shape[1])
    calls: dict[str, Callable[[], Any]] = {
        "ours": product(rows, shape, TWO_BIT, given),
        "_int_mm": lambda: torch._int_mm(given["x"], columns),
        "dynamic": lambda: module(floats),
    }

    def over() -> float:
        seconds = fastest(calls)
        return min(seconds[name] for name in calls if name != "ours") / seconds["ours"]

    with torch.inference_mode():
        return median_of_rounds(over)


def _floats_over_codes(rows: int, shape: Shape) -> float:
    """Time with the quantisation of x over that without."""
    layout, given = random_layout(shape, TWO_BIT), random_codes(rows, shape[1])
    floats: Options = {"x": torch.randn(rows, shape[1])}
    options: Options = {"scale": torch.tensor(1.0), "encoding": TWO_BIT, "out_features": shape[0]}
    with torch.inference_mode():
        return ratio(
            lambda: prepared(**floats, layout=layout, **options), lambda: prepared(**given, layout=layout, **options)
        )


def _two_threads(rows: int, shape: Shape) -> float:
    """Time on one thread over that on two."""
    call = product(rows, shape, TWO_BIT)

    def speed_up() -> float:
        one = fastest({"call": call})["call"]
        torch.set_num_threads(2)
        two = fastest({"call": call})["call"]
        torch.set_num_threads(1)
        return one / two

    with torch.inference_mode():
        return median_of_rounds(speed_up)


def _marks() -> Iterator[Mark]:
    at_least = partial(Mark, NAME, at_most=False)
    for level, alone, eight, more in (("avx512vnni", 0.5, 0.7, 0.9), ("avx2", 0.65, 0.75, 0.8)):
        for rows, shapes, limit in ((1, ALONE, alone), (8, ALONE, eight), (32, TOGETHER, more), (128, TOGETHER, more)):
            for shape in shapes:
                name = f"M = {rows}, {shape[0]} x {shape[1]} of peak dot products, {level}"
                quick = rows == 8 and shape == (1024, 1024)
                yield at_least(name, limit, partial(of_peak, rows, shape, TWO_BIT), level=level, quick=quick)
        # Only VBMI decodes trits as fast as memory brings them.
        for encoding, bits, limit in ((TWO_BIT, "2", 0.8), (TRITS, "1.6", 0.8 if level == "avx512vnni" else 0.1)):
            name = f"M = 1 from DRAM at {bits} bits, bytes over those of reading, {level}"
            yield at_least(name, limit, partial(_of_bandwidth, encoding), level=level)
    best = "avx512vnni"
    yield at_least("F.linear over M = 1, 4096 x 4096", 30.0, _over_linear, level=best)
    yield at_least("M = 1 from DRAM, 2 bits over 1.6", 1.1, _fewer_bits, level=best)
    for rows in (32, 128):
        for shape in TOGETHER:
            name = f"torch's int8 over M = {rows}, {shape[0]} x {shape[1]}"
            yield at_least(name, 1.03, partial(_over_torch, rows, shape), level=best)
    for rows in (8, 32, 128):
        name = f"float32 over int8 x, M = {rows}, 1024 x 1024"
        yield Mark(NAME, name, 1.1, partial(_floats_over_codes, rows, (1024, 1024)), level=best)
    for rows, shape in ((1, (4096, 4096)), (128, (1024, 1024))):
        name = f"two threads over one, M = {rows}, {shape[0]} x {shape[1]}"
        yield at_least(name, 1.85, partial(_two_threads, rows, shape), level=best)


MARKS = (*_marks(), *linear_step.MARKS)
