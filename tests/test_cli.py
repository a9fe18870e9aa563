"""The command line: what it prints, what it writes, how it answers mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sylvester import _library, cli, machine
from sylvester.benchmarks import runner
from sylvester.cli import app
from sylvester.models import MODELS
from sylvester.tasks import TASKS, CopyMemory, Digits

TINY = ["train", "copy", "--length", "21", "--hidden-size", "8", "--steps", "3", "--batch-size", "4"]


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def wide_screen_and_no_traces(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lines that do not wrap at CliRunner's 80 columns; what a command sets for its process ends with the test."""
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: None)
    for console in (cli.console, cli.errors):
        monkeypatch.setattr(console, "width", 200)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_training_writes_a_run_that_can_be_evaluated(tmp_path: Path) -> None:
    trained = run(*TINY, "--seed", "7", "--bits", "1", "--block-size", "4", "--threads", "1", "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    assert "not solved" in trained.output and "saved to" in trained.output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["steps"] == 3 and summary["settings"]["seed"] == 7 and summary["threads"] == 1
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["bits"] == 1 and config["block_size"] == 4 and config["hidden_size"] == 8
    evaluated = run("eval", tmp_path / "run", "--sequences", "16")
    assert evaluated.exit_code == 0, evaluated.output
    assert "not solved" in evaluated.output and "without memory" in evaluated.output


def test_one_seed_gives_one_model(tmp_path: Path) -> None:
    for name in ("a", "b", "a"):
        assert run(*TINY, "--seed", "1", "--out", tmp_path / name).exit_code == 0
    assert run(*TINY, "--seed", "2", "--out", tmp_path / "c").exit_code == 0
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_full_precision_is_32_bits(tmp_path: Path) -> None:
    assert run(*TINY, "--bits", "32", "--out", tmp_path).exit_code == 0
    assert json.loads((tmp_path / "config.json").read_text())["config"]["bits"] is None


def test_options_of_the_model_become_its_configuration(tmp_path: Path) -> None:
    given = {"num_layers": 2, "activation": "relu", "dropout": 0.25, "block_size": 2}
    options = [str(part) for name, value in given.items() for part in ("--" + name.replace("_", "-"), value)]
    assert run(*TINY, *options, "--out", tmp_path).exit_code == 0
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert config.items() >= given.items()


def test_ctrl_c_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, calls = CopyMemory.batch, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return batch(*arguments)

    monkeypatch.setattr(CopyMemory, "batch", interrupted)
    long = [*TINY, "--steps", "1000", "--out", tmp_path]
    result = run(*long)
    assert result.exit_code == 130, result.output
    assert "interrupted" in result.output
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 3
    assert run("eval", tmp_path, "--sequences", "4").exit_code == 0
    calls.clear()
    result = run(*long, "--resume")
    assert result.exit_code == 130, result.output
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 6
    result = run(*long, "--resume", "--seed", "9")
    assert result.exit_code == 2 and "settings.seed = 0, this training has 9" in result.output


PAIRS = [("copy", name) for name in MODELS] + [("adding", "hadam"), ("adding", "lstm"), ("digits", "hadam")]


@pytest.mark.parametrize("task, model", PAIRS)
def test_a_model_trains_on_a_task_and_is_evaluated_and_reported(task: str, model: str, tmp_path: Path) -> None:
    own = {"copy": ["--length", "21"], "adding": ["--length", "8"], "digits": ["--permuted"]}[task]
    block = ["--block-size", "4"] if model == "block-hadam" else []
    small = ["--model", model, "--hidden-size", "8", "--steps", "2", "--batch-size", "4", "--threads", "1"]
    result = run("train", task, *own, *small, *block, "--out", tmp_path)
    assert result.exit_code == 0 and "not solved" in result.output, result.output
    evaluated = run("eval", tmp_path, "--sequences", "8")
    assert evaluated.exit_code == 0 and TASKS[task].metric.name in evaluated.output
    reported = run("report", tmp_path)
    assert f"| {task}-" in reported.output and f"| {model} |" in reported.output


def test_ctrl_c_ends_a_benchmark_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, begin: Any, **__: Any) -> None:
        begin("timing an operator")
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "bench", interrupted)
    result = run("bench", "--out", tmp_path)
    assert result.exit_code == 130
    assert f"stopped; what was measured until then, if anything, is in {tmp_path}" in result.output


def test_options_become_settings(tmp_path: Path) -> None:
    given = {
        "optimizer": "adamw", "weight_decay": 0.5, "schedule": "step", "stages": 3, "decay": 0.25, "beta2": 0.5,
        "clip_norm": 2.0, "learning_rate": 0.125, "sign_learning_rate": 0.0625, "seed": 4, "steps": 2, "batch_size": 3,
    }  # fmt: skip
    options = [str(part) for name, value in given.items() for part in ("--" + name.replace("_", "-"), value)]
    assert run(*TINY, *options, "--out", tmp_path).exit_code == 0
    assert json.loads((tmp_path / "summary.json").read_text())["settings"].items() >= given.items()


def test_defaults_are_the_tasks_own(tmp_path: Path) -> None:
    assert run("train", "digits", "--steps", "1", "--out", tmp_path).exit_code == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["settings"] == {**asdict(Digits.settings), "steps": 1}
    assert summary["model_settings"].items() >= Digits.model_options.items()


def test_a_run_goes_where_its_task_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*TINY).exit_code == 0 and run(*TINY, "--model", "gru").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["copy-21", "copy-21-gru"]
    assert run("report", "runs/copy-21", "runs/copy-21-gru", "--out", "table").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == ["report.md", "report.png"]


def test_divergence_is_an_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CopyMemory, "loss", lambda self, logits, targets: logits.sum() * float("nan"))
    result = run(*TINY, "--out", tmp_path)
    assert result.exit_code == 1 and "diverged" in result.output


MISTAKES = {
    "length": ([*TINY, "--length", "20"], "length must be at least 21, got 20"),
    "hidden size": ([*TINY, "--hidden-size", "24"], "got 24; the largest that fits is 8"),
    "block size": ([*TINY, "--block-size", "3"], "block_size must be a power of two"),
    "bits": ([*TINY, "--bits", "9"], "got 9"),
    "steps": ([*TINY, "--steps", "0"], "steps must be at least 1"),
    "learning rate": ([*TINY, "--learning-rate", "-1"], "learning_rate must be positive"),
    "threads": ([*TINY, "--threads", "0"], "threads"),
    "device": ([*TINY, "--device", "tpu"], "device must be cpu or cuda, got 'tpu'"),
    "not a number": ([*TINY, "--seed", "x"], "seed"),
    "optimizer": ([*TINY, "--optimizer", "sgd"], "sgd"),
    "model": ([*TINY, "--model", "elman"], "must be one of hadam, block-hadam, rnn, lstm, gru, got 'elman'"),
    "no block size": ([*TINY, "--model", "block-hadam"], "block_size must be given for block-hadam"),
    "layers": ([*TINY, "--num-layers", "0"], "num_layers must be"),
    "activation": ([*TINY, "--activation", "tanh"], "activation must be one of identity, relu, modrelu, got 'tanh'"),
    "activation of a baseline": ([*TINY, "--model", "rnn", "--activation", "relu"], "rnn has no activation"),
    "bits of a baseline": ([*TINY, "--model", "gru", "--bits", "4"], "gru has no bits"),
    "side": (["train", "digits", "--side", "9"], "side must be 8 or 28, got 9"),
    "short adding": (["train", "adding", "--length", "1"], "length must be at least 2"),
    "checkpoints": ([*TINY, "--checkpoint-every", "0"], "checkpoint_every must be at least 1"),
    "nothing to resume": ([*TINY, "--resume"], "there is no training to resume"),
    "no run": (["report", "."], "has no summary.json"),
    "no directory": (["eval", "nowhere"], "nowhere is not a directory"),
    "no model": (["eval", "."], "has no config.json"),
    "out is a file": ([*TINY, "--out", __file__], "File exists"),
    "no operator": (["check", "nothing"], "no operator 'nothing'"),
    "no operator to time": (["bench", "nothing"], "no operator 'nothing'"),
    "no command": (["tarin"], "No such command"),
}


@pytest.mark.parametrize("arguments, message", MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_get_a_message_and_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_info_names_levels_and_reasons() -> None:
    result = run("info")
    assert result.exit_code == 0
    assert f"level {_library.isa()}" in result.output
    assert all(level in result.output for level in _library.LEVELS)
    assert torch.__version__ in result.output
    assert torch.cuda.is_available() or "do not run: no GPU" in result.output


def test_info_explains_a_level_that_cannot_be_forced() -> None:
    environment = {**os.environ, "SYLVESTER_ISA": "nonsense", "COLUMNS": "200"}
    command = [sys.executable, "-m", "sylvester"]
    result = subprocess.run([*command, "info"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "do not run" in result.stdout and "nonsense" in result.stdout
    result = subprocess.run([*command, "check"], env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and "nonsense" in result.stderr and "Traceback" not in result.stderr


def test_libpath_is_the_library_that_is_loaded() -> None:
    assert str(Path(run("libpath").output.strip()).resolve()) in torch.ops.loaded_libraries


@pytest.mark.parametrize(
    "command",
    [[], ["train"], ["train", "copy"], ["train", "digits"], ["eval"], ["report"], ["info"], ["check"], ["bench"]],
    ids=str,
)
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0 and "Usage" in result.output
