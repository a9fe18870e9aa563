"""The copy task: its layout, its baseline, its verdicts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sylvester.tasks import TASKS, name_of_task
from sylvester.tasks.copy_memory import CopyMemory


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [21, 22, 200, 1000])
def test_layout_is_that_of_the_published_experiments(length: int) -> None:
    tokens, targets = CopyMemory(length).batch(5, generator())
    assert tokens.shape == targets.shape == (length, 5)
    symbols = tokens[:10]
    assert symbols.min() >= 1 and symbols.max() <= 8
    assert (tokens[10 : length - 10] == 0).all()
    assert (tokens[length - 10] == 9).all()
    assert (tokens[length - 9 :] == 0).all()
    assert (targets[: length - 10] == 0).all()
    assert torch.equal(targets[length - 10 :], symbols)


def test_all_symbols_are_drawn_alike() -> None:
    tokens, _ = CopyMemory(21).batch(8000, generator())
    counts = torch.bincount(tokens[:10].flatten(), minlength=9)[1:]
    assert (counts / counts.sum() - 1 / 8).abs().max() < 0.005


def test_batches_follow_their_generator() -> None:
    task = CopyMemory(30)
    stream = generator(3)
    first, second = task.batch(4, stream)[0], task.batch(4, stream)[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, task.batch(4, generator(3))[0])


def test_baseline_is_the_loss_of_the_best_guess_without_memory() -> None:
    task = CopyMemory(200)
    _, targets = task.batch(16, generator())
    guess = torch.full((200, 16, 9), -1e4)
    guess[:190, :, 0] = 0.0
    guess[190:, :, 1:] = -math.log(8)
    assert task.loss(guess, targets).item() == pytest.approx(task.baseline, rel=1e-5)
    assert CopyMemory(1000).baseline == pytest.approx(0.0208, abs=5e-5)


def test_loss_and_accuracy() -> None:
    task = CopyMemory(40)
    _, targets = task.batch(8, generator())
    logits = torch.randn(40, 8, 9, generator=generator())
    assert task.loss(logits, targets).item() == pytest.approx(
        F.cross_entropy(logits.reshape(-1, 9), targets.reshape(-1)).item()
    )
    perfect = F.one_hot(targets, 9).float()
    assert task.accuracy(perfect, targets) == 1.0
    perfect[-5:] = 0.0
    perfect[-5:, :, 0] = 1.0
    assert task.accuracy(perfect, targets) == 0.5


def test_solved_needs_both_loss_and_symbols() -> None:
    task = CopyMemory(1000)
    assert task.solved(5e-4, 0.99)
    assert not task.solved(5.3e-4, 0.99)
    assert not task.solved(5e-4, 0.989)
    assert not task.solved(math.nan, 1.0)


def test_length_has_a_minimum() -> None:
    with pytest.raises(ValueError, match="length must be at least 21, got 20"):
        CopyMemory(20)


def test_tasks_know_their_names() -> None:
    assert [name_of_task(kind()) for kind in TASKS.values()] == list(TASKS)
