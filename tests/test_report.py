"""The table of several runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sylvester import models, report, runs
from sylvester.settings import Settings
from sylvester.tasks import Adding, CopyMemory, Task
from sylvester.training import Progress, Result


def saved(directory: Path, name: str, task: Task, **options: object) -> Path:
    torch.manual_seed(0)
    shape = {"input_size": task.inputs, "output_size": task.outputs, "last_only": task.last_only}
    model = models.build(name, **shape, hidden_size=8, **options)
    result = Result("out of steps", [Progress(1, 0.5, 0.5, 1.25), Progress(2, 0.5, 0.5, 2.5)])
    runs.save_run(directory / name, model, task, Settings(seed=3, evaluation_sequences=8), result, threads=1)
    return directory / name


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def test_a_row_says_what_its_run_did(tmp_path: Path) -> None:
    directories = [saved(tmp_path, "hadam", CopyMemory(21), bits=1), saved(tmp_path, "gru", Adding(5))]
    heading, rule, first, second = map(cells, report.markdown(report.table(directories)).splitlines())
    assert set(rule) == {"---"} and len(heading) == len(first) == len(second)
    hadam, gru = dict(zip(heading, first, strict=True)), dict(zip(heading, second, strict=True))
    summaries = [json.loads((directory / "summary.json").read_text()) for directory in directories]
    assert hadam["task"] == "copy-21" and gru["task"] == "adding-5"
    assert (hadam["model"], hadam["bits"]) == ("hadam", "1") and (gru["model"], gru["bits"]) == ("gru", "32")
    for row, summary in zip((hadam, gru), summaries, strict=True):
        assert row["hidden"] == "8" and row["updates"] == "2" and row["seconds"] == "2.5" and row["seed"] == "3"
        assert int(row["parameters"]) == summary["parameters"] and int(row["bytes"]) == summary["bytes"]
        assert float(row["loss"]) == pytest.approx(summary["loss"], rel=5e-3)
        assert row["solved"] == "no"
    assert hadam["result"].endswith("% (symbols recalled)") and gru["result"].endswith("(mean squared error)")


def test_report_is_written_as_text_and_picture(tmp_path: Path) -> None:
    rows = report.table([saved(tmp_path, "hadam", CopyMemory(21))])
    report.write(rows, tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "report.md").read_text() == report.markdown(rows)
    assert (tmp_path / "a" / "b" / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "has no summary.json: it holds no finished run"),
        ("{", "summary.json is damaged"),
        ("[]", "summary.json is damaged"),
        ('{"task": "copy"}', "summary.json has no 'label'"),
    ],
)
def test_what_is_no_run_is_explained(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        report.table([tmp_path])


def test_what_is_no_directory_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a directory"):
        report.table([tmp_path / "nowhere"])
