"""The training loop and the files a run leaves."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from sylvester import runs
from sylvester.models import HadamConfig, HadamModel, ModelDirectoryError
from sylvester.settings import Settings
from sylvester.tasks import Adding, CopyMemory, Digits, Task
from sylvester.training import Progress, Result, evaluate, train

TASK = CopyMemory(21)


def model(hidden_size: int = 16) -> HadamModel:
    torch.manual_seed(0)
    return HadamModel(HadamConfig(TASK.inputs, hidden_size, TASK.outputs))


def test_a_short_task_is_solved_and_stops_the_training() -> None:
    task, whole = CopyMemory(30), model(128)
    result = train(whole, task, Settings(steps=1500, batch_size=64, learning_rate=1e-2))
    assert result.outcome == "solved"
    assert result.steps < 1500 and result.steps % Settings.evaluate_every == 0
    final = evaluate(whole, task, 256, seed=5)
    assert task.solved(final.loss, final.score)


def test_progress_is_reported_after_every_update() -> None:
    seen: list[Progress] = []
    result = train(model(), TASK, Settings(steps=4, batch_size=2), seen.append)
    assert [entry.step for entry in seen] == [1, 2, 3, 4]
    assert result.history == seen and result.outcome == "out of steps"
    assert all(math.isfinite(entry.loss) and 0 <= entry.score <= 1 for entry in seen)
    assert 0 < seen[0].seconds < seen[-1].seconds == result.seconds


def test_training_repeats_bit_for_bit() -> None:
    runs_of_one_seed = [train(model(), TASK, Settings(steps=5, batch_size=4, seed=3)) for _ in range(2)]
    losses = [[entry.loss for entry in result.history] for result in runs_of_one_seed]
    assert losses[0] == losses[1]


def test_interrupt_ends_the_training_and_keeps_the_model() -> None:
    def interrupt(now: Progress) -> None:
        if now.step == 3:
            signal.raise_signal(signal.SIGINT)

    result = train(model(), TASK, Settings(steps=100, batch_size=2), interrupt)
    assert result.outcome == "interrupted" and result.steps == 3


def test_a_second_interrupt_is_not_caught() -> None:
    """Set, because Python leaves the signal ignored where a shell started it in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(now: Progress) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(model(), TASK, Settings(steps=100, batch_size=2), interrupt)
    assert signal.getsignal(signal.SIGINT) is handler


def test_training_works_outside_the_main_thread() -> None:
    """Where Python delivers no signals."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(train, model(), TASK, Settings(steps=2, batch_size=2)).result()
    assert result.outcome == "out of steps" and result.steps == 2


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    whole = model()
    with torch.no_grad():
        whole.recurrence.bias_ho.fill_(math.nan)
    result = train(whole, TASK, Settings(steps=100, batch_size=2))
    assert result.outcome == "diverged" and result.steps == 0


def test_evaluation_leaves_the_model_as_it_was() -> None:
    whole = model().train()
    first, second = (evaluate(whole, TASK, 8, seed=1, batch_size=4) for _ in range(2))
    assert first == second and whole.training
    with pytest.raises(ValueError, match="count must be at least 1"):
        evaluate(whole, TASK, 0, seed=1)


class One(torch.nn.Module):
    """The number 1, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.weight.expand(x.shape[1], 1), None


class Uneven(Digits):
    """Batches of 4 and 2, whose losses are their targets' means."""

    def examples(self, *_: object) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield torch.zeros(1, 4, 1), torch.tensor([1.0, 2.0, 3.0, 4.0])
        yield torch.zeros(1, 2, 1), torch.tensor([10.0, 20.0])

    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return targets.mean()

    def score(self, output: torch.Tensor, targets: torch.Tensor) -> float:
        return 2 * targets.mean().item()


def test_evaluation_weighs_sequences_alike() -> None:
    found = evaluate(One(), Uneven(), 6, seed=0)
    assert found.loss == pytest.approx(40 / 6) and found.score == pytest.approx(80 / 6) and found.count == 6


def saved(directory: Path) -> dict:
    history = [Progress(step, 1 / step, 0.5, 0.1 * step) for step in range(1, 5)]
    result = Result("out of steps", history)
    settings = Settings(steps=9, evaluation_sequences=8)
    summary, final = runs.save_run(directory, model(), TASK, settings, result, threads=2)
    assert summary["loss"] == final.loss and summary["score"] == final.score
    return summary


def test_a_run_leaves_model_summary_and_curve(tmp_path: Path) -> None:
    summary = saved(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "loss.png", "summary.json", "weights.safetensors"
    ]  # fmt: skip
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    expected = {"task": "copy", "model": "hadam", "steps": 4, "seconds": 0.4, "seconds_per_step": 0.1}
    assert summary.items() >= expected.items()
    assert summary["metric"] == "symbols recalled" and summary["label"] == "copy-21" and summary["sequences"] == 8
    assert summary["baseline"] == TASK.baseline and not summary["solved"]
    assert summary["parameters"] == 10 * 16 + 2 * 16 + 9 * 16 + 9
    assert summary["bytes"] == (16 + (10 + 9) * 16 * 4) // 8 + 4 * (16 + 9)
    loaded, task = runs.load_run(tmp_path)
    assert task == TASK and isinstance(loaded, HadamModel)


@pytest.mark.parametrize("task", [Adding(7), Digits(8, 3)], ids=str)
def test_every_task_is_saved_with_its_fields(tmp_path: Path, task: Task) -> None:
    torch.manual_seed(0)
    whole = HadamModel(HadamConfig(task.inputs, 8, task.outputs, last_only=True))
    runs.save_run(tmp_path, whole, task, Settings(evaluation_sequences=8), Result(), threads=1)
    assert runs.load_run(tmp_path)[1] == task


@pytest.mark.parametrize(
    "task, message",
    [
        (None, "saved with task None"),
        ({"name": "sorting"}, "'sorting', known are copy, adding, digits"),
        ({"name": "copy", "length": 3}, "length must be at least 21"),
        ({"name": "copy", "depth": 3}, "its task cannot be made"),
    ],
)
def test_a_damaged_task_is_explained(tmp_path: Path, task: object, message: str) -> None:
    saved(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "task": task}))
    with pytest.raises(ModelDirectoryError, match=message):
        runs.load_run(tmp_path)
