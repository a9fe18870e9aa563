"""Calls of the products with packed weights, as a frozen layer makes them, and their rate against peak dot products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sylvester.formats import _encoding
from sylvester.ops.lowbit_matmul import layout_of_codes, prepared

from .baselines import products_per_second
from .marks import Mark, median_of_rounds, slope

Shape = tuple[int, int]  # N, K
Options = dict[str, Any]


def random_layout(shape: Shape, encoding: int) -> Tensor:
    e = _encoding.ENCODINGS[encoding]
    codes = torch.randint(e.lowest, e.highest + 1, shape, dtype=torch.int8)
    return layout_of_codes(2 * (codes >= 0).to(torch.int8) - 1 if encoding == _encoding.BINARY else codes, encoding)


def random_codes(rows: int, columns: int) -> Options:
    return {"x": torch.randint(-127, 128, (rows, columns), dtype=torch.int8), "x_scale": torch.rand(rows)}


def product(rows: int, shape: Shape, encoding: int, x: Options | None = None) -> Callable[[], Tensor]:
    given, layout, scale = x or random_codes(rows, shape[1]), random_layout(shape, encoding), torch.tensor(1.0)
    return lambda: prepared(**given, layout=layout, scale=scale, encoding=encoding, out_features=shape[0])


def of_peak(rows: int, shape: Shape, encoding: int) -> float:
    """Products a second over the peak rate, without the fixed cost of a call: that of 16 columns is taken off."""
    calls = {columns: product(rows, (columns, shape[1]), encoding) for columns in (16, shape[0])}

    def figure() -> float:
        peak = max(products_per_second() for _ in range(5))
        return rows * shape[1] / slope(lambda call: call(), calls) / peak

    with torch.inference_mode():
        return median_of_rounds(figure)


def peak_marks(operator: str, encodings: Mapping[str, int]) -> tuple[Mark, ...]:
    """Against peak dot products, for each encoding by its name; what ternary_matmul shares is marked there."""
    return tuple(
        Mark(
            operator,
            f"{name}, M = {rows}, 1024 x 1024 of peak dot products, avx512vnni",
            limit,
            partial(of_peak, rows, (1024, 1024), encoding),
            at_most=False,
            quick=rows == 8,
            level="avx512vnni",
        )
        for name, encoding in encodings.items()
        for rows, limit in ((8, 0.7), (32, 0.9))
    )
