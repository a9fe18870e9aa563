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


def statuses(fences: Path, *names: str) -> dict[str, int]:
    variables = {**os.environ, "LD_PRELOAD": str(fences), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(HERE / "fences.py"), *names]
    printed = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {name: int(status) for name, status in map(str.split, printed.splitlines())}


def test_memory_outside_is_left_alone(fences: Path) -> None:
    assert statuses(fences, *OPERATORS) == dict.fromkeys(OPERATORS, 0)


def test_a_step_outside_is_seen(fences: Path) -> None:
    found = statuses(fences, "read", "before", "after")
    assert len(found) == 3 and all(status < 0 for status in found.values())
