"""No kernel reads or writes outside its inputs, its results and its scratch, at any level."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sylvester.ops._spec import OPERATORS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def fences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the fences with")
    library = tmp_path_factory.mktemp("fences") / "fences.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", str(HERE / "fences.c"), "-o", str(library), "-ldl"], check=True
    )
    return library


def run(fences: Path, name: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "LD_PRELOAD": str(fences), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(HERE / "fences.py"), name]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_memory_outside_is_left_alone(fences: Path, name: str) -> None:
    child = run(fences, name)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 0


@pytest.mark.parametrize("mistake", ["read", "before", "after"])
def test_a_step_outside_is_seen(fences: Path, mistake: str) -> None:
    assert run(fences, mistake).returncode < 0
