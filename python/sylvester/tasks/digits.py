"""Handwritten digits read one pixel a step: the 1797 images of 8 x 8 pixels that come with scikit-learn.

inputs   (T,N,1), brightness in [0, 1], row after row: T = 64, or 784 when enlarged (bilinear) to the 28 x 28 of MNIST
targets  (N), the digit; only the last output counts, by its cross-entropy. Guessing costs ln 10.

A permutation of the pixels, the same for every image, takes the nearness of neighbours away. The division into
training (70 %), validation (10 %) and test (20 %) is the same for every run, and each digit has its share of each part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from ..settings import Settings
from ._task import TEST, TRAINING, VALIDATION, DataTask, Metric

SIDES = (8, 28)
PERMUTATION = 92916
"""Seed of the permutation in the permuted-MNIST experiments of expRNN, projUNN and HadamRNN."""
SHARES = {TEST: 0.2, VALIDATION: 0.1}
"""Parts of each digit's images; the rest is for training."""


@dataclass(frozen=True)
class Digits(DataTask):
    """The task at one size; ``permutation`` is the seed of a fixed order of the pixels, None leaves them in rows."""

    side: int = 8
    permutation: int | None = None

    inputs = 1
    outputs = 10
    last_only = True
    metric = Metric("accuracy", share=True)
    baseline_name = "guessing"
    baseline = math.log(10)
    settings = Settings(
        steps=2000,
        batch_size=50,
        learning_rate=2e-3,
        sign_learning_rate=1e-4,
        beta2=0.999,
        schedule="cosine",
        decay=0.01,
        spare=0.0,
    )
    model_options = {"hidden_size": 512}

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise ValueError(f"side must be {' or '.join(map(str, SIDES))}, got {self.side}")
        if find_spec("sklearn") is None:
            raise ImportError("the digits come with scikit-learn: pip install 'sylvester[digits]'")

    @property
    def label(self) -> str:
        return f"digits-{self.side**2}{'' if self.permutation is None else '-permuted'}"

    def split(self, stream: int) -> tuple[Tensor, Tensor]:
        return _split(self.side, self.permutation)[stream]

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy; output (B,10)."""
        return F.cross_entropy(output, targets)

    def score(self, output: Tensor, targets: Tensor) -> float:
        """Share of the digits that are right."""
        return (output.argmax(-1) == targets).float().mean().item()

    def solved(self, loss: float, score: float, share: float = 1.0) -> bool:
        """At least 96 % right."""
        return score >= 1 - share * 0.04


@lru_cache(maxsize=4)
def _split(side: int, permutation: int | None) -> dict[int, tuple[Tensor, Tensor]]:
    """Inputs and targets of each part."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16
    if side != images.shape[-1]:
        images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    inputs, targets = images.flatten(1).t().unsqueeze(-1), torch.from_numpy(data.target).long()
    if permutation is not None:
        # RandomState is frozen by NumPy's policy: the seed alone keeps the permutation for later versions.
        inputs = inputs[numpy.random.RandomState(permutation).permutation(side**2)]
    return {
        stream: (inputs[:, chosen].contiguous(), targets[chosen]) for stream, chosen in _division(data.target).items()
    }


def _division(targets: numpy.ndarray) -> dict[int, Tensor]:
    """Which images belong to which part, ascending."""
    random = numpy.random.RandomState(0)
    parts: dict[int, list[int]] = {TRAINING: [], VALIDATION: [], TEST: []}
    for digit in range(10):
        images = random.permutation(numpy.flatnonzero(targets == digit)).tolist()
        for stream, share in SHARES.items():
            count = round(share * (targets == digit).sum())
            parts[stream] += images[:count]
            images = images[count:]
        parts[TRAINING] += images
    return {stream: torch.tensor(sorted(chosen)) for stream, chosen in parts.items()}
