"""Which CPU level runs: it can be asked, forced and proved, and what this CPU lacks is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import battery
from sylvester import _library
from sylvester.ops._spec import OPERATORS, Operator

ROOT = Path(__file__).parents[1]
COMPILED = ("scalar", "avx2", "avx512")
"""Levels that every kernel is compiled for; without integer dot products a VNNI level falls to the one below."""
ABSENT = [level for level in _library.LEVELS if level not in _library.levels()]
UNKNOWN = ("avx", "AVX2", "nonsense")
one_worker = pytest.mark.xdist_group("imported")


def child(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


FORKS = """
import os, sys, torch
for level in sys.argv[1:]:
    child = os.fork()
    if not child:
        os.dup2(1, 2)
        os.environ["SYLVESTER_ISA"] = level
        import sylvester.ops
        print(sylvester._library.isa())
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end="\\0", flush=True)
"""


@cache
def imported() -> dict[str, str]:
    """What an import prints, with its exit status behind it, for each SYLVESTER_ISA; torch is imported once for all."""
    asked = ["", *_library.LEVELS, *UNKNOWN]
    command = [sys.executable, "-c", FORKS, *asked]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return dict(zip(asked, printed, strict=False))


def has_dots(operator: Operator) -> bool:
    return (ROOT / "csrc" / operator.room / f"{operator.room}_dot.cpp").exists()


def fallen(level: str, dots: bool) -> str:
    """The compiled level that runs when ``level`` is asked for, of integer dot products or of all else."""
    reachable = _library.LEVELS[: _library.LEVELS.index(level) + 1]
    return [name for name in (_library.LEVELS if dots else COMPILED) if name in reachable][-1]


@pytest.mark.parametrize("level", _library.LEVELS)
@pytest.mark.parametrize("operator", [pytest.param(o, id=o.name) for o in OPERATORS.values()])
def test_the_forced_level_ran(operator: Operator, level: str) -> None:
    if level in ABSENT:
        pytest.skip(f"this CPU lacks {level}")
    ran = set()
    for case in operator.cases_of("small", "edge") if has_dots(operator) else operator.cases_of("small")[-1:]:
        arguments = case.build(torch.float32)
        with _library.forced_isa("scalar" if level != "scalar" else _library.levels()[-1]):
            battery.run(operator, arguments)
        with _library.forced_isa(level):
            assert _library.isa() == level
            battery.run(operator, arguments)
            ran.add(_library.LEVELS[torch.ops.sylvester._ran()])
    assert ran == {fallen(level, dots=False), fallen(level, has_dots(operator))}


def test_float64_runs_on_the_scalar_level() -> None:
    for operator in OPERATORS.values():
        battery.run(operator, operator.cases_of("small")[0].build(torch.float64))
        assert torch.ops.sylvester._ran() == 0


def test_force_is_undone() -> None:
    before = _library.isa()
    with pytest.raises(KeyError), _library.forced_isa("scalar"):
        raise KeyError
    assert _library.isa() == before


@one_worker
def test_environment_chooses() -> None:
    """And the best level is the default."""
    levels = _library.levels()
    for asked in ("", *levels):
        assert imported()[asked] == f"{asked or levels[-1]}\n0"


@one_worker
def test_unknown_level_in_the_environment() -> None:
    for wanted in UNKNOWN:
        printed = imported()[wanted]
        assert f"ImportError: SYLVESTER_ISA={wanted}: no such level" in printed and printed.endswith("\n1")
        assert "scalar" in printed, "the message should name the levels there are"


def test_unknown_level_by_name_and_code() -> None:
    with pytest.raises(ValueError, match="level must be one of scalar, .*got 'sse2'"), _library.forced_isa("sse2"):
        pass
    for code in (-1, len(_library.LEVELS)):
        with pytest.raises(ValueError, match="level"):
            torch.ops.sylvester._force_isa(code)


@one_worker
@pytest.mark.skipif(not ABSENT, reason="this CPU has every level (tests/test_emulated.py takes levels away)")
@pytest.mark.parametrize("level", ABSENT)
def test_absent_level_is_refused(level: str) -> None:
    with pytest.raises(ValueError, match=f"{level}: this CPU lacks it"), _library.forced_isa(level):
        pass
    printed = imported()[level]
    assert f"ImportError: SYLVESTER_ISA={level}: this CPU lacks it" in printed and printed.endswith("\n1")


def test_second_copy_of_the_library_is_refused(tmp_path: Path) -> None:
    """Without the check this is a segmentation fault."""
    copy = shutil.copy(_library.path(), tmp_path / "libsylvester.so")
    found = child(f"import torch; torch.ops.load_library({str(copy)!r}); import sylvester.ops")
    assert found.returncode == 1
    assert "ImportError: another copy of libsylvester.so is loaded already" in found.stderr


def test_missing_library_names_the_remedy(tmp_path: Path) -> None:
    package = tmp_path / "sylvester"
    package.mkdir()
    for file in ("__init__.py", "_library.py"):
        shutil.copy(_library.path().parent / file, package)
    found = child("import sylvester._library", cwd=tmp_path)
    assert found.returncode == 1
    assert "ImportError: libsylvester.so was not built" in found.stderr
    assert "pip install --no-build-isolation" in found.stderr
