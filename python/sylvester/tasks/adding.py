"""The adding problem: the sum of the two marked numbers of a long sequence.

    channel 0   T numbers, uniform in [0, 1)
    channel 1   1 at one position of the first half and at one of the second, 0 elsewhere
    target      the sum of the two numbers at those positions

The loss is the mean squared error of the last output. Always answering 1, the mean, leaves the variance of a sum of
two uniform numbers: 1/6. This is the convention of the projUNN and expRNN experiments (200 and 750 steps).

A number counts or not by what stands beside it. That is a product, which a linear recurrence cannot form, and its
last state keeps no more than its width of the sequence's numbers: the HadamRNN learns the task with an encoder, whose
ReLU(number + mark - 1) is that product. Its signs stay as they are drawn: flipping them undoes what was learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings import Settings
from ._task import Metric, RandomTask


@dataclass(frozen=True)
class Adding(RandomTask):
    """The task at one length."""

    length: int = 750

    inputs = 2
    outputs = 1
    last_only = True
    metric = Metric("mean squared error", share=False)
    baseline_name = "always 1"
    baseline = 1 / 6
    settings = Settings(
        steps=3000,
        batch_size=50,
        learning_rate=3e-3,
        sign_learning_rate=0.0,
        beta2=0.999,
        schedule="cosine",
        decay=0.01,
        clip_norm=1.0,
    )
    model_options = {"hidden_size": 64, "encoder_size": 32}

    def __post_init__(self) -> None:
        if self.length < 2:
            raise ValueError(f"length must be at least 2, got {self.length}")

    @property
    def label(self) -> str:
        return f"adding-{self.length}"

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh sequences: inputs (T,B,2) and targets (B), float32."""
        numbers = torch.rand(self.length, size, generator=generator)
        half = self.length // 2
        first = torch.randint(half, (1, size), generator=generator)
        second = torch.randint(half, self.length, (1, size), generator=generator)
        marked = torch.cat([first, second])
        marks = torch.zeros(self.length, size).scatter_(0, marked, 1.0)
        return torch.stack([numbers, marks], dim=-1), numbers.gather(0, marked).sum(0)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error; output (B,1)."""
        return F.mse_loss(output.squeeze(-1), targets)

    def score(self, output: Tensor, targets: Tensor) -> float:
        return self.loss(output, targets).item()

    def solved(self, loss: float, score: float, share: float = 1.0) -> bool:
        """A mean squared error of at most 0.01."""
        return score <= share * 0.01
