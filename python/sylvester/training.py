"""The training loop behind the command line: one model, one task, Adam, until solved, out of steps or interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

TRAINING, VALIDATION, TEST = range(3)
"""Streams of random sequences that never meet: a seed has one of each."""

SPARE = 0.8
"""Training goes on until loss and mistakes are this share of what counts as solved, so that other sequences agree."""

Outcome = Literal["solved", "out of steps", "interrupted", "diverged"]


@dataclass(frozen=True)
class Settings:
    """How to train. ``sign_learning_rate`` is for latent signs, ``decay`` the factor on both after all steps.

    beta2 is below Adam's usual 0.999: the gradient shrinks a thousandfold within a few hundred updates, and a long
    memory of its early size would hold the later steps back (the copy task then takes three times as many).
    """

    steps: int = 3000
    batch_size: int = 128
    learning_rate: float = 1e-2
    sign_learning_rate: float = 1e-4
    decay: float = 0.1
    beta2: float = 0.95
    seed: int = 0
    evaluate_every: int = 25
    evaluation_sequences: int = 512

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluate_every", "evaluation_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "decay"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 must be at least 0 and below 1, got {self.beta2}")
        if self.sign_learning_rate < 0:
            raise ValueError(f"sign_learning_rate must not be negative, got {self.sign_learning_rate}")


@dataclass(frozen=True)
class Progress:
    """One update, on its training batch."""

    step: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    loss: float
    accuracy: float


@dataclass
class Result:
    outcome: Outcome = "out of steps"
    history: list[Progress] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.history)

    @property
    def seconds(self) -> float:
        return self.history[-1].seconds if self.history else 0.0


def sequences(seed: int, stream: int) -> torch.Generator:
    """The generator of one stream of sequences."""
    return torch.Generator().manual_seed(4 * seed + stream)


def train(model: Any, task: Any, settings: Settings, progress: Callable[[Progress], None] = lambda _: None) -> Result:
    """Train in place, calling ``progress`` after every update.

    Stops when fresh sequences are solved with something to spare. Ctrl-C ends the training, not the program: the model
    stays as the last finished update left it and the result says "interrupted".
    """
    groups = model.parameter_groups(settings.learning_rate, settings.sign_learning_rate)
    optimizer = torch.optim.Adam(groups, betas=(0.9, settings.beta2))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, settings.decay ** (1 / settings.steps))
    generator = sequences(settings.seed, TRAINING)
    device = next(model.parameters()).device
    result = Result()
    start = time.perf_counter()
    model.train()
    try:
        for step in range(1, settings.steps + 1):
            tokens, targets = (part.to(device) for part in task.batch(settings.batch_size, generator))
            logits, _ = model(tokens)
            loss = task.loss(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            if not math.isfinite(loss.item()):
                result.outcome = "diverged"
                break
            optimizer.step()
            schedule.step()
            accuracy = task.accuracy(logits.detach(), targets)
            result.history.append(Progress(step, loss.item(), accuracy, time.perf_counter() - start))
            progress(result.history[-1])
            if step % settings.evaluate_every == 0 and task.solved(loss.item(), accuracy):
                fresh = evaluate(model, task, settings.evaluation_sequences, seed=settings.seed, stream=VALIDATION)
                if task.solved(fresh.loss / SPARE, 1 - (1 - fresh.accuracy) / SPARE):
                    result.outcome = "solved"
                    break
    except KeyboardInterrupt:
        result.outcome = "interrupted"
    model.eval()
    return result


def evaluate(model: Any, task: Any, count: int, *, seed: int, stream: int = TEST, batch_size: int = 128) -> Evaluation:
    """Loss and accuracy on ``count`` sequences (rounded up to whole batches) that training never drew."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    generator = sequences(seed, stream)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    losses, accuracies = [], []
    with torch.inference_mode():
        for _ in range(-(-count // batch_size)):
            tokens, targets = (part.to(device) for part in task.batch(min(batch_size, count), generator))
            logits, _ = model(tokens)
            losses.append(task.loss(logits, targets).item())
            accuracies.append(task.accuracy(logits, targets))
    model.train(training)
    return Evaluation(sum(losses) / len(losses), sum(accuracies) / len(accuracies))
