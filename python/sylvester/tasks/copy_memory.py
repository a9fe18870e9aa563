"""The copy task: remember ten symbols over a long blank stretch, then recite them.

    position   0 … 9      10 … L-11    L-10      L-9 … L-1
    input      s_1 … s_10   blank       marker      blank
    target          blank (L-10 times)     s_1 …… s_10

L is the total length, L - 20 the number of blanks in the middle; symbols 1 … 8, blank 0, marker 9. This is the
convention of the HadamRNN experiments (others count only the blanks and call L = 1020 a length of 1000).
The loss is the cross-entropy over all positions. Without memory the best guess is a blank at the first L - 10
positions and a uniform symbol at the others: 10 ln 8 / L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._task import Metric, RandomTask

SYMBOLS, RECALLED = 8, 10
BLANK, MARKER = 0, 9


@dataclass(frozen=True)
class CopyMemory(RandomTask):
    """The task at one total length."""

    length: int = 1000

    inputs = SYMBOLS + 2
    outputs = SYMBOLS + 1
    last_only = False
    metric = Metric("symbols recalled", share=True)
    baseline_name = "without memory"
    model_options = {"hidden_size": 128}

    def __post_init__(self) -> None:
        if self.length < 2 * RECALLED + 1:
            raise ValueError(f"length must be at least {2 * RECALLED + 1}, got {self.length}")

    @property
    def label(self) -> str:
        return f"copy-{self.length}"

    @property
    def baseline(self) -> float:
        """Cross-entropy of the best predictor without memory."""
        return RECALLED * math.log(SYMBOLS) / self.length

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Fresh sequences: input tokens and target tokens, each (L, size) int64."""
        symbols = torch.randint(1, SYMBOLS + 1, (RECALLED, size), generator=generator)
        tokens = torch.full((self.length, size), BLANK)
        tokens[:RECALLED] = symbols
        tokens[-RECALLED] = MARKER
        targets = torch.full((self.length, size), BLANK)
        targets[-RECALLED:] = symbols
        return tokens, targets

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over all positions; logits (L, B, 9)."""
        # A cross-entropy whose classes are the middle axis: torch walks along B in lanes, and on every core.
        likelihoods = logits.movedim(-1, 1).log_softmax(1).gather(1, targets.unsqueeze(1))
        return -likelihoods.mean()

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Share of the ten recalled symbols that are right."""
        return (logits[-RECALLED:].argmax(-1) == targets[-RECALLED:]).float().mean().item()

    def solved(self, loss: float, score: float, share: float = 1.0) -> bool:
        """At most 1/40 of the loss of a memoryless predictor, and at least 99 % of the symbols."""
        return loss <= share * self.baseline / 40 and score >= 1 - share * 0.01
