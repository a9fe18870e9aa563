"""Whole updates of models, as the training loop makes them, freed memory kept: what marks of layers time and weigh.

python -m sylvester.benchmarks.updates copy|digits      peak resident bytes that an update adds to those before it
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from sylvester.layers import HadamRNN
from sylvester.models import HadamConfig, HadamModel
from sylvester.tasks import CopyMemory

from .training_step import resident


def digits() -> Callable[[], None]:
    """784 pixels one by one, B = 100, d = 512, ten classes, 4 bits."""
    layer = HadamRNN(1, 512, output_size=10, last_only=True)
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    pixels, labels = torch.rand(784, 100, 1), torch.randint(10, (100,))

    def update() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(layer(pixels)[0], labels).backward()
        optimizer.step()

    return update


def copy(length: int = 1000) -> Callable[[], None]:
    """The copy task of the paper: d = 128, batch 128, 4 bits, fresh sequences for every update."""
    task = CopyMemory(length)
    model: Any = HadamModel(HadamConfig(task.inputs, 128, task.outputs))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    draws = task.draws(0)

    def update() -> None:
        tokens, targets = draws.draw(128)
        optimizer.zero_grad()
        task.loss(model(tokens)[0], targets).backward()
        optimizer.step()

    return update


def main(name: str) -> None:
    torch.set_num_threads(2)
    update, small = {"copy": (copy(), copy(21)), "digits": (digits(), digits())}[name]
    small()  # what a first update of any size loads is not the update's
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    update()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1])
