"""The copy task: its layout, its baseline, its verdicts; and how sequences are drawn for any task."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sylvester.tasks import TASKS, TEST, TRAINING, VALIDATION, Task, name_of_task
from sylvester.tasks._task import sequences
from sylvester.tasks.copy_memory import CopyMemory

every_task = pytest.mark.parametrize("task", [kind() for kind in TASKS.values()], ids=TASKS)


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


def test_loss_and_score() -> None:
    task = CopyMemory(40)
    _, targets = task.batch(8, generator())
    logits = torch.randn(40, 8, 9, generator=generator())
    assert task.loss(logits, targets).item() == pytest.approx(
        F.cross_entropy(logits.reshape(-1, 9), targets.reshape(-1)).item()
    )
    perfect = F.one_hot(targets, 9).float()
    assert task.score(perfect, targets) == 1.0
    perfect[-5:] = 0.0
    perfect[-5:, :, 0] = 1.0
    assert task.score(perfect, targets) == 0.5


def test_solved_needs_both_loss_and_symbols() -> None:
    task = CopyMemory(1000)
    assert task.solved(5e-4, 0.99)
    assert not task.solved(5.3e-4, 0.99)
    assert not task.solved(5e-4, 0.989)
    assert not task.solved(math.nan, 1.0)
    assert task.solved(4e-4, 0.992, share=0.8)
    assert not task.solved(4.3e-4, 0.992, share=0.8)
    assert not task.solved(4e-4, 0.991, share=0.8)


def test_length_has_a_minimum() -> None:
    with pytest.raises(ValueError, match="length must be at least 21, got 20"):
        CopyMemory(20)


def test_tasks_know_their_names() -> None:
    assert [name_of_task(kind()) for kind in TASKS.values()] == list(TASKS)


def test_streams_never_meet() -> None:
    drawn = {
        tuple(torch.randint(0, 2**62, (2,), generator=sequences(seed, stream)).tolist())
        for seed in range(5)
        for stream in (TRAINING, VALIDATION, TEST)
    }
    assert len(drawn) == 15


@every_task
def test_a_task_is_what_its_attributes_say(task: Task) -> None:
    inputs, targets = task.draws(0).draw(3)
    if inputs.is_floating_point():
        assert inputs.shape[1:] == (3, task.inputs)
    else:
        assert inputs.shape[1] == 3 and inputs.min() >= 0 and inputs.max() < task.inputs
    lengths = () if task.last_only else (len(inputs),)
    assert targets.shape == (*lengths, 3)
    output = torch.randn(*lengths, 3, task.outputs, generator=generator(), requires_grad=True)
    loss = task.loss(output, targets)
    loss.backward()
    assert loss.shape == () and output.grad is not None and output.grad.abs().sum() > 0
    score = task.score(output.detach(), targets)
    assert task.metric.text(score).endswith("%") == task.metric.share
    assert not task.solved(10 * task.baseline, 0.0 if task.metric.share else 10 * task.baseline)
    assert task.label.startswith(name_of_task(task))


@every_task
def test_draws_go_on_where_their_state_was_taken(task: Task) -> None:
    whole, again = task.draws(7), task.draws(8)
    whole.draw(300)
    again.load_state_dict(whole.state_dict())
    for _ in range(5):
        for drawn, expected in zip(again.draw(300), whole.draw(300), strict=True):
            assert torch.equal(drawn, expected)


def contents(inputs: torch.Tensor) -> set[bytes]:
    return {sequence.numpy().tobytes() for sequence in inputs.unbind(1)}


@every_task
def test_examples_are_not_those_of_the_training(task: Task) -> None:
    trained = contents(task.draws(0).draw(1300)[0])
    seen = {
        stream: contents(torch.cat([inputs for inputs, _ in task.examples(stream, 100, 40, seed=0)], dim=1))
        for stream in (VALIDATION, TEST)
    }
    assert len(seen[TEST]) >= 100
    assert not trained & seen[VALIDATION] and not trained & seen[TEST] and not seen[VALIDATION] & seen[TEST]
