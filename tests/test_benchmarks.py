"""The benchmark runner: red operators are not timed, and what it writes can be read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sylvester.benchmarks import baselines, checks, marks, marks_hadamard_transform, report, runner
from sylvester.ops._spec import OPERATORS, Case


def tiny(name: str) -> Case:
    case = OPERATORS[name].cases_of("small")[-1]
    return replace(case, kind="benchmark", label="tiny", dtypes=(torch.float32,))


@pytest.fixture(params=sorted(OPERATORS))
def small_operator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An operator with one case of each kind and one mark: quick to run."""
    operator = OPERATORS[request.param]
    cases = (operator.cases_of("small")[0], tiny(request.param))
    monkeypatch.setitem(OPERATORS, operator.name, replace(operator, cases=cases))
    mark = marks.Mark(operator.name, "two over one", 1.9, lambda: 2.0, at_most=False, quick=True)
    monkeypatch.setattr(marks, "found", lambda name: [mark])
    return operator.name


def test_results_are_written(small_operator: str, tmp_path: Path) -> None:
    console = Console(record=True, width=200, quiet=True)
    rows = runner.bench(small_operator, quick=True, out=tmp_path, show=console.print)
    contenders = {row.contender for row in rows if row.case == "tiny"}
    assert {report.OURS, *report.FLOORS, *OPERATORS[small_operator].baselines} <= contenders
    machine, *lines = (json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines())
    assert "CPU levels" in machine["machine"]
    assert [line["value"] for line in lines] == [row.value for row in rows]
    assert lines[-1]["met"] is True
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.jsonl", "results.png"]


def test_what_was_measured_before_an_interruption_is_written(
    small_operator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    mark = replace(marks.found(small_operator)[0], measure=interrupted)
    monkeypatch.setattr(marks, "found", lambda name: [mark])
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        runner.bench(small_operator, quick=True, out=tmp_path, begin=told.append)
    _, *lines = (json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines())
    assert {line["case"] for line in lines} == {"tiny"}
    begun = [text.split()[0] for text in told]
    assert begun == sorted(begun, key=["checking", "timing", "marking"].index) and len(set(begun)) == 3


def test_red_operator_is_not_timed(small_operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = OPERATORS[small_operator]

    def wrong(**arguments: object) -> tuple[torch.Tensor, ...]:
        return tuple(2 * output for output in checks.tensors_of(operator.function(**arguments)))

    monkeypatch.setitem(OPERATORS, operator.name, replace(operator, function=wrong))
    assert not any(result.passed for result in checks.check(small_operator))
    with pytest.raises(runner.Red, match="checks fail"):
        runner.bench(small_operator, quick=True)


def test_unknown_operator() -> None:
    with pytest.raises(ValueError, match="no operator 'fourier'; there are hadamard"):
        runner.check("fourier")


def test_marks_are_stated_once() -> None:
    for name in OPERATORS:
        names = [mark.name for mark in marks.stated(name)]
        assert names and len(names) == len(set(names))
        assert all(mark.operator == name for mark in marks.stated(name))


@pytest.mark.parametrize(("text", "size"), [("512K\n", 1 << 19), ("2048K\n", 1 << 21), ("", 1 << 20), (None, 1 << 20)])
def test_rows_in_cache_follow_its_size(
    text: str | None, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "size"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(baselines, "_SECOND_LEVEL", file)
    assert baselines.second_level_cache() == size
    assert list(marks_hadamard_transform.in_cache(256)) == [size // 8 // 1024, 3 * size // 8 // 1024]
    assert list(marks_hadamard_transform.in_cache(1 << 18)) == [1, 2], "rows that no cache holds still have a slope"


def test_error_fraction() -> None:
    """1.0 is the limit: bound times the largest, plus half a unit of the last place in 16 bits."""
    want = torch.tensor([1.0, 2.0, -4.0], dtype=torch.float64)
    off = want.float() + torch.tensor([0.0, 0.0, 4e-3])
    assert checks.error_fraction(off, want, 1e-3) == pytest.approx(1.0, rel=1e-3)
    assert checks.error_fraction(want.bfloat16(), want, 0.0) == 0.0
    assert checks.error_fraction(off.bfloat16(), want, 1e-9) == 0.0  # 4e-3 of 4 is below half a bf16 unit
    assert checks.error_fraction(torch.full((3,), torch.nan), want, 1.0) == float("inf")
    assert checks.error_fraction(want.float()[:2], want, 1.0) == float("inf")
    huge = torch.tensor([1e6], dtype=torch.float64)
    assert checks.error_fraction(huge.half(), huge, 1e-6) == 0.0, "infinity is the right rounding in float16"
