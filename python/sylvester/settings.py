"""How to train: everything but the model and the task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

Optimizer = Literal["adam", "adamw", "rmsprop"]
Schedule = Literal["exponential", "step", "cosine", "constant"]


@dataclass(frozen=True)
class Settings:
    """How to train. A run is fixed by its settings, its model and its task.

    beta2 is below the usual 0.999: on the copy task the gradient shrinks a thousandfold within a few hundred updates,
    and a long memory of its early size would hold the later steps back (it then takes three times as many).
    """

    steps: int = 3000
    batch_size: int = 128
    learning_rate: float = 1e-2
    sign_learning_rate: float = 1e-4
    """Of latent signs."""
    optimizer: Optimizer = "adam"
    beta2: float = 0.95
    """Share of the old in the running mean of squared gradients (RMSprop calls it alpha)."""
    weight_decay: float = 0.0
    schedule: Schedule = "exponential"
    decay: float = 0.1
    """What the schedule multiplies all learning rates by, over all steps."""
    stages: int = 10
    """Equal parts into which the schedule "step" divides the steps."""
    clip_norm: float | None = None
    """A gradient of all parameters together that is longer is scaled to this length."""
    seed: int = 0
    spare: float = 0.8
    """Training ends when fresh sequences are solved with this share of the loss and the mistakes that are allowed, so
    that others agree; 0 is for tasks whose few examples would end it by luck."""
    evaluate_every: int = 25
    evaluation_sequences: int = 512

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "stages", "evaluate_every", "evaluation_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "decay", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("sign_learning_rate", "weight_decay", "spare"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative or infinite, got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 must be at least 0 and below 1, got {self.beta2}")
        for name, choices in (("optimizer", get_args(Optimizer)), ("schedule", get_args(Schedule))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def make_optimizer(self, model: Any) -> torch.optim.Optimizer:
        """The optimiser of a model; ``schedule_factor`` scales its learning rates."""
        groups = model.parameter_groups(self.learning_rate, self.sign_learning_rate)
        if self.optimizer == "rmsprop":
            return torch.optim.RMSprop(groups, alpha=self.beta2, weight_decay=self.weight_decay)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer]
        return kind(groups, betas=(0.9, self.beta2), weight_decay=self.weight_decay)

    def schedule_factor(self, step: int) -> float:
        """What the learning rates are multiplied by at update ``step``, counted from 1.

        A function of the step alone, so a run that is resumed needs no state of it.
        """
        done = (step - 1) / self.steps
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "cosine":
            return self.decay + (1 - self.decay) * (1 + math.cos(math.pi * done)) / 2
        return self.decay ** (math.floor(done * self.stages) / self.stages if self.schedule == "step" else done)
