"""The training loop and the files a run leaves."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import pytest
import torch

from sylvester import runs
from sylvester.models import HadamConfig, HadamModel, ModelDirectoryError
from sylvester.tasks import CopyMemory
from sylvester.training import (
    TEST,
    TRAINING,
    VALIDATION,
    Progress,
    Result,
    Settings,
    evaluate,
    sequences,
    train,
)

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
    assert task.solved(final.loss, final.accuracy)


def test_progress_is_reported_after_every_update() -> None:
    seen: list[Progress] = []
    result = train(model(), TASK, Settings(steps=4, batch_size=2), seen.append)
    assert [entry.step for entry in seen] == [1, 2, 3, 4]
    assert result.history == seen and result.outcome == "out of steps"
    assert all(math.isfinite(entry.loss) and 0 <= entry.accuracy <= 1 for entry in seen)
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


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    whole = model()
    with torch.no_grad():
        whole.readout.bias.fill_(math.nan)
    result = train(whole, TASK, Settings(steps=100, batch_size=2))
    assert result.outcome == "diverged" and result.steps == 0


def test_streams_never_meet() -> None:
    drawn = {
        tuple(torch.randint(0, 2**62, (2,), generator=sequences(seed, stream)).tolist())
        for seed in range(5)
        for stream in (TRAINING, VALIDATION, TEST)
    }
    assert len(drawn) == 15


def test_evaluation_leaves_the_model_as_it_was() -> None:
    whole = model().train()
    first, second = (evaluate(whole, TASK, 8, seed=1, batch_size=4) for _ in range(2))
    assert first == second and whole.training
    with pytest.raises(ValueError, match="count must be at least 1"):
        evaluate(whole, TASK, 0, seed=1)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.inf},
        {"sign_learning_rate": -1.0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Settings(**options)


def saved(directory: Path) -> dict:
    history = [Progress(step, 1 / step, 0.5, 0.1 * step) for step in range(1, 5)]
    result = Result("out of steps", history)
    settings = Settings(steps=9, evaluation_sequences=8)
    summary, final = runs.save_run(directory, model(), TASK, settings, result, threads=2)
    assert summary["loss"] == final.loss and summary["accuracy"] == final.accuracy
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
    assert summary["baseline"] == TASK.baseline and not summary["solved"]
    assert summary["parameters"] == 10 * 16 + 2 * 16 + 9 * 16 + 9
    assert summary["bytes"] == (16 + (10 + 9) * 16 * 4) // 8 + 4 * (16 + 9)
    loaded, task = runs.load_run(tmp_path)
    assert task == TASK and isinstance(loaded, HadamModel)


@pytest.mark.parametrize(
    "task, message",
    [
        (None, "saved with task None"),
        ({"name": "sorting"}, "'sorting', known are copy"),
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
