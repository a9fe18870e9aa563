"""Interrupted trainings: resumed they equal one that was not, and what cannot be resumed says why."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sylvester import models
from sylvester.checkpoints import CheckpointError, Checkpoints, configuration
from sylvester.settings import Settings
from sylvester.tasks import Adding, CopyMemory, Digits, Task
from sylvester.training import Progress, Result, train

SETTINGS = Settings(steps=12, batch_size=6, evaluate_every=4, evaluation_sequences=4, seed=5)

CASES: dict[str, tuple[str, Task, Settings]] = {
    "tokens": ("hadam", CopyMemory(21), SETTINGS),
    "data set": ("block-hadam", Digits(), replace(SETTINGS, batch_size=300, schedule="cosine", clip_norm=0.5)),
    "lstm": ("lstm", Adding(9), replace(SETTINGS, optimizer="adamw", weight_decay=0.1, schedule="step", stages=3)),
    "rmsprop": ("gru", Adding(9), replace(SETTINGS, optimizer="rmsprop", schedule="constant")),
}


def learner(name: str, task: Task) -> nn.Module:
    torch.manual_seed(0)
    options = {"block_size": 4} if name == "block-hadam" else {}
    shape = {"input_size": task.inputs, "output_size": task.outputs, "last_only": task.last_only}
    return models.build(name, **shape, hidden_size=16, **options)


def until(step: int) -> Callable[[Progress], None]:
    """Presses Ctrl-C after an update."""

    def press(now: Progress) -> None:
        if now.step == step:
            signal.raise_signal(signal.SIGINT)

    return press


def interrupted(directory: Path, name: str, task: Task, settings: Settings, step: int, every: int = 100) -> Checkpoints:
    model = learner(name, task)
    checkpoints = Checkpoints(directory, configuration(model, task, settings), every)
    result = train(model, task, settings, until(step), checkpoints)
    assert result.outcome == "interrupted" and result.steps == step
    return checkpoints


def same(model: nn.Module, result: Result, other: nn.Module, expected: Result) -> bool:
    weights = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    numbers = [[(entry.step, entry.loss, entry.score) for entry in run.history] for run in (result, expected)]
    return numbers[0] == numbers[1] and all(torch.equal(mine, theirs) for mine, theirs in weights)


@pytest.mark.parametrize("name, task, settings", CASES.values(), ids=CASES)
def test_a_resumed_training_equals_one_that_was_never_interrupted(
    tmp_path: Path, name: str, task: Task, settings: Settings
) -> None:
    torch.set_num_threads(1)
    whole = learner(name, task)
    expected = train(whole, task, settings)
    checkpoints = interrupted(tmp_path, name, task, settings, step=7)
    resumed = learner(name, task)
    result = train(resumed, task, settings, checkpoints=checkpoints, state=checkpoints.load())
    assert result.outcome == expected.outcome == "out of steps" and result.steps == 12
    assert same(resumed, result, whole, expected)
    assert result.history[7].seconds > result.history[6].seconds
    other = learner(name, task)
    assert not same(other, train(other, task, replace(settings, seed=6)), whole, expected)


def test_a_training_that_is_killed_goes_on_from_the_last_checkpoint_that_was_due(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    name, task, settings = CASES["tokens"]
    model = learner(name, task)
    checkpoints = Checkpoints(tmp_path, configuration(model, task, settings), 5)

    def die(now: Progress) -> None:
        if now.step == 8:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(model, task, settings, die, checkpoints)
    seen: list[Progress] = []
    resumed, whole = learner(name, task), learner(name, task)
    result = train(resumed, task, settings, seen.append, checkpoints, checkpoints.load())
    assert [entry.step for entry in seen] == list(range(6, 13))
    assert same(resumed, result, whole, train(whole, task, settings))


def test_a_training_that_ends_by_itself_leaves_no_checkpoint(tmp_path: Path) -> None:
    name, task, settings = CASES["tokens"]
    model = learner(name, task)
    checkpoints = Checkpoints(tmp_path, configuration(model, task, settings), 1)
    train(model, task, settings, checkpoints=checkpoints)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CheckpointError, match="has no checkpoint.pt: there is no training to resume"):
        checkpoints.load()


DIFFERENCES = {
    "a setting": (
        "hadam",
        CopyMemory(21),
        replace(SETTINGS, learning_rate=0.5),
        "settings.learning_rate = 0.01, .* 0.5",
    ),
    "the task's length": ("hadam", CopyMemory(22), SETTINGS, "task.length = 21, this training has 22"),
    "the task": ("hadam", Adding(21), SETTINGS, "task.name = 'copy', this training has 'adding'"),
    "the model": ("gru", CopyMemory(21), SETTINGS, "model.name = 'hadam', this training has 'gru'"),
}


@pytest.mark.parametrize("name, task, settings, message", DIFFERENCES.values(), ids=DIFFERENCES)
def test_another_configuration_is_named(
    tmp_path: Path, name: str, task: Task, settings: Settings, message: str
) -> None:
    interrupted(tmp_path, *CASES["tokens"], step=2)
    with pytest.raises(CheckpointError, match=message):
        Checkpoints(tmp_path, configuration(learner(name, task), task, settings)).load()


def test_a_field_that_one_side_lacks_is_named(tmp_path: Path) -> None:
    checkpoints = interrupted(tmp_path, *CASES["tokens"], step=2)
    older, newer = dict(checkpoints.configuration), {**checkpoints.configuration, "model.depth": 3}
    older.pop("settings.decay")
    with pytest.raises(CheckpointError, match="model.depth = 'absent', this training has 3"):
        Checkpoints(tmp_path, newer).load()
    with pytest.raises(CheckpointError, match="settings.decay = 0.1, this training has 'absent'"):
        Checkpoints(tmp_path, older).load()


@pytest.mark.parametrize("name, task", [("gru", CopyMemory(21)), ("lstm", Adding(9))])
def test_a_state_of_something_else_is_refused(tmp_path: Path, name: str, task: Task) -> None:
    state = interrupted(tmp_path, *CASES["tokens"], step=2).load()
    with pytest.raises(CheckpointError, match="does not fit this model and task"):
        train(learner(name, task), task, SETTINGS, state=state)


def rewritten(**values: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        torch.save({**torch.load(path, weights_only=True), **values}, path)

    return damage


def flipped(path: Path) -> None:
    """One bit of a weight."""
    weight = torch.load(path, weights_only=True)["state"]["model"]["recurrence.weight_ho"].numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight) + 5] ^= 1
    path.write_bytes(content)


class Danger:
    """Unpickling it runs code."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("this must not run",)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged or no checkpoint"),
    "empty": (lambda path: path.write_bytes(b""), "damaged or no checkpoint"),
    "one bit": (flipped, "damaged: wrong checksum"),
    "not a checkpoint": (lambda path: torch.save([1], path), "is not a sylvester-checkpoint"),
    "other format": (rewritten(format="other"), "is not a sylvester-checkpoint"),
    "newer": (rewritten(version=2), "version 2 of the format, this sylvester reads version 1"),
    "code": (lambda path: torch.save(Danger(), path), "damaged or no checkpoint"),
}


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoints_are_explained(
    tmp_path: Path, damage: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = interrupted(tmp_path, *CASES["tokens"], step=2)
    damage(checkpoints.path)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load()
    assert "must not run" not in capsys.readouterr().out


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = interrupted(tmp_path, *CASES["tokens"], step=2)
    before = checkpoints.path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save({})
    assert checkpoints.path.read_bytes() == before and list(tmp_path.iterdir()) == [checkpoints.path]


def test_checkpoints_come_at_least_every_update(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1, got 0"):
        Checkpoints(tmp_path, {}, 0)
