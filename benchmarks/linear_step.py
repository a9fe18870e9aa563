"""A training step of TernaryLinear against one of nn.Linear; run as a module it prints the ratios.

python -m sylvester.benchmarks.linear_step
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from sylvester.layers import TernaryLinear

from .marks import Mark, ratio

SIZES = ((1024, 1024, 256), (1024, 1024, 1024), (1024, 4096, 256), (4096, 1024, 256))
"""in_features, out_features, rows of x"""


def step_of(layer: nn.Module, x: torch.Tensor, cotangent: torch.Tensor) -> Callable[[], None]:
    """Forward, and the gradients of x, weight and bias."""
    inputs = [x, *layer.parameters()]

    def step() -> None:
        torch.autograd.grad(layer(x), inputs, cotangent)

    return step


def over_linear(in_features: int, out_features: int, rows: int) -> float:
    """Time of a step over that of nn.Linear, in float32."""
    x, cotangent = torch.randn(rows, in_features, requires_grad=True), torch.randn(rows, out_features)
    layers = TernaryLinear(in_features, out_features), nn.Linear(in_features, out_features)
    return ratio(*(step_of(layer, x, cotangent) for layer in layers))


MARKS = tuple(
    Mark(
        "ternary_matmul",
        f"training step of TernaryLinear({size[0]}, {size[1]}), {size[2]} rows, over nn.Linear",
        1.1,
        partial(over_linear, *size),
    )
    for size in SIZES
)

if __name__ == "__main__":
    for mark in MARKS:
        print(f"{mark.name}: {mark.row().value:.3f}")
