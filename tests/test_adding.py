"""The adding problem: its layout, its baseline, its verdicts."""

from __future__ import annotations

import math

import pytest
import torch

from sylvester.tasks import Adding


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [2, 3, 200, 751])
def test_one_mark_in_each_half_and_their_sum(length: int) -> None:
    inputs, targets = Adding(length).batch(64, generator())
    numbers, marks = inputs.unbind(-1)
    assert inputs.shape == (length, 64, 2) and targets.shape == (64,)
    assert inputs.dtype == targets.dtype == torch.float32
    assert numbers.min() >= 0 and numbers.max() < 1
    assert set(marks.unique().tolist()) <= {0.0, 1.0}
    half = length // 2
    assert (marks[:half].sum(0) == 1).all() and (marks[half:].sum(0) == 1).all()
    torch.testing.assert_close((numbers * marks).sum(0), targets)


def test_marks_stand_everywhere() -> None:
    inputs, _ = Adding(10).batch(5000, generator())
    share = inputs[..., 1].mean(1)
    assert (share - 1 / 5).abs().max() < 0.03


def test_baseline_is_the_loss_of_always_answering_one() -> None:
    task = Adding(20)
    _, targets = task.batch(40000, generator())
    assert task.loss(torch.ones(40000, 1), targets).item() == pytest.approx(task.baseline, rel=0.02)


def test_loss_and_score_are_the_mean_squared_error() -> None:
    task = Adding(20)
    _, targets = task.batch(8, generator())
    output = (targets + torch.linspace(-1, 1, 8)).unsqueeze(-1)
    expected = torch.linspace(-1, 1, 8).square().mean().item()
    assert task.loss(output, targets).item() == pytest.approx(expected) == pytest.approx(task.score(output, targets))


def test_solved_is_a_hundredth() -> None:
    task = Adding()
    assert task.solved(0.01, 0.01) and not task.solved(0.0101, 0.0101)
    assert not task.solved(0.0085, 0.0085, share=0.8)
    assert not task.solved(math.nan, math.nan)


def test_length_has_a_minimum() -> None:
    with pytest.raises(ValueError, match="length must be at least 2, got 1"):
        Adding(1)
