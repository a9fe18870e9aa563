"""Levels that are really absent: qemu runs the operators on CPUs without AVX-512 and without AVX2.

Every result, gradients included, must have the bits of this machine's best level.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import battery
from sylvester.ops._spec import OPERATORS

QEMU = shutil.which("qemu-x86_64-static")
MOST_ELEMENTS = 5000  # of all arguments of a case: emulation is slow
CPUS = {"Haswell": "avx2", "IvyBridge": "scalar"}

pytestmark = [
    pytest.mark.xdist_group("emulated"),  # they share what was recorded
    pytest.mark.skipif(QEMU is None, reason="no qemu-x86_64-static (Debian: qemu-user-static)"),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("emulated") / "cases.pt"
    found = []
    for operator in OPERATORS.values():
        for i, case in enumerate(operator.cases_of("small") if operator.levels_agree else ()):
            dtype = case.dtypes[i % len(case.dtypes)]  # in turn: a forced level has them all (test_every_op.py)
            arguments = case.build(dtype)
            if sum(v.numel() for v in arguments.values() if isinstance(v, torch.Tensor)) <= MOST_ELEMENTS:
                results = {k: v.detach() for k, v in battery.run_all(operator, arguments).items()}
                found.append((operator.name, f"{case.label} {dtype}", arguments, results))
    torch.save(found, path)
    return path


@pytest.mark.parametrize(("cpu", "level"), CPUS.items())
def test_same_bits_without_the_level(cpu: str, level: str, recorded: Path) -> None:
    assert QEMU is not None
    tests = Path(__file__).parent
    command = [QEMU, "-cpu", cpu, sys.executable, str(tests / "emulated.py"), str(recorded)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SYLVESTER_ISA": ""}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert child.returncode == 0, child.stderr
    report = json.loads(child.stdout)
    assert report["isa"] == level
    assert report["levels"][-1] == level
    for absent, message in report["refused"].items():
        assert f"{absent}: this CPU lacks it" in message
    assert "avx512" in report["refused"]
    assert report["cases"] > 50
    assert not report["failures"]
