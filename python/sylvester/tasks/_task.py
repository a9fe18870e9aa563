"""What a task is, and how its sequences are drawn: afresh without end, or in shuffled passes over a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..settings import Settings

TRAINING, VALIDATION, TEST = range(3)
"""Streams of sequences that never meet: a seed, or a data set, has one of each."""

Batch = tuple[Tensor, Tensor]
"""Inputs (T,B,I), or tokens (T,B), and targets."""


def sequences(seed: int, stream: int) -> torch.Generator:
    """The generator of one stream of random sequences."""
    return torch.Generator().manual_seed(4 * seed + stream)


@dataclass(frozen=True)
class Metric:
    """What a score means: a share of right answers (more is better) or an error (less is)."""

    name: str
    share: bool

    def text(self, score: float) -> str:
        return f"{score:.2%}" if self.share else f"{score:.3g}"


class Draws(ABC):
    """Training batches; after ``load_state_dict`` they go on where ``state_dict`` was taken."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    @abstractmethod
    def draw(self, size: int) -> Batch:
        """The next batch."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])


class Task(ABC):
    """Data, loss and metric. A task is a frozen dataclass whose fields fix it; saved runs keep them."""

    inputs: int
    """Width of an input vector, or number of tokens."""
    outputs: int
    last_only: bool
    """Whether only the last output of a sequence has a target."""
    metric: Metric
    baseline_name: str
    """The predictor that ``baseline`` is the loss of."""
    settings = Settings()
    """How a HadamRNN learns it, found by trying."""
    model_options: Mapping[str, Any]
    """Likewise for the model: values for fields of its configuration."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name of this very task, fit for a directory."""

    @property
    @abstractmethod
    def baseline(self) -> float:
        """The loss without what the task is about."""

    @abstractmethod
    def draws(self, seed: int) -> Draws:
        """Training batches."""

    @abstractmethod
    def examples(self, stream: int, count: int, batch_size: int, seed: int) -> Iterator[Batch]:
        """Batches to evaluate on, never those of the training."""

    @abstractmethod
    def loss(self, output: Tensor, targets: Tensor) -> Tensor: ...

    @abstractmethod
    def score(self, output: Tensor, targets: Tensor) -> float:
        """What ``metric`` names."""

    @abstractmethod
    def solved(self, loss: float, score: float, share: float = 1.0) -> bool:
        """Whether at most ``share`` of the loss and the mistakes that are allowed were made."""


class RandomTask(Task):
    """A task whose sequences are drawn afresh for every batch."""

    @abstractmethod
    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """Fresh sequences."""

    def draws(self, seed: int) -> Draws:
        return _FreshSequences(self, sequences(seed, TRAINING))

    def examples(self, stream: int, count: int, batch_size: int, seed: int) -> Iterator[Batch]:
        """``count`` fresh sequences, rounded up to whole batches."""
        generator = sequences(seed, stream)
        for _ in range(-(-count // batch_size)):
            yield self.batch(min(batch_size, count), generator)


class _FreshSequences(Draws):
    def __init__(self, task: RandomTask, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.task = task

    def draw(self, size: int) -> Batch:
        return self.task.batch(size, self.generator)


class DataTask(Task):
    """A task on a data set that is divided, once and for all, into training, validation and test."""

    @abstractmethod
    def split(self, stream: int) -> Batch:
        """All sequences of a part: inputs (T,N,I), targets (N)."""

    def draws(self, seed: int) -> Draws:
        return _ShuffledPasses(self.split(TRAINING), sequences(seed, TRAINING))

    def examples(self, stream: int, count: int, batch_size: int, seed: int) -> Iterator[Batch]:
        """The first ``count`` sequences of the part, or all it has; ``seed`` changes nothing."""
        inputs, targets = self.split(stream)
        for start in range(0, min(count, len(targets)), batch_size):
            chosen = slice(start, min(start + batch_size, count))
            yield inputs[:, chosen], targets[chosen]


class _ShuffledPasses(Draws):
    """Every sequence once a pass, each pass in another order. A batch may begin in one pass and end in the next."""

    def __init__(self, data: Batch, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.inputs, self.targets = data
        self.remaining = torch.empty(0, dtype=torch.int64)

    def draw(self, size: int) -> Batch:
        while len(self.remaining) < size:
            order = torch.randperm(len(self.targets), generator=self.generator)
            self.remaining = torch.cat([self.remaining, order])
        chosen, self.remaining = self.remaining[:size], self.remaining[size:]
        return self.inputs.index_select(1, chosen), self.targets[chosen]

    def state_dict(self) -> dict[str, Tensor]:
        return {**super().state_dict(), "remaining": self.remaining}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.remaining = state["remaining"]
