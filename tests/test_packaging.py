"""What is shipped: a wheel that works away from the tree, a complete source archive, and a light, quiet import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sylvester

ROOT = Path(__file__).parents[1]
IMPORT_LIMIT = 0.1  # seconds beyond torch's own
IMPORT_TRIES = 8

pytestmark = [
    pytest.mark.xdist_group("packaging"),  # one build folder
    pytest.mark.skipif(
        not (ROOT / "build" / "CMakeCache.txt").exists(), reason="the library was installed, not built in this tree"
    ),
]


def python(*arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """Output of a child that has none of this suite's settings."""
    variables = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "PYTHONPATH")}
    command = [sys.executable, *arguments]
    child = subprocess.run(
        command, cwd=cwd, env={**variables, **environment}, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in the tree, as a user would; its objects are shared with the editable installation."""
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", str(folder), str(ROOT))
    (built,) = folder.glob("sylvester-*.whl")
    return built


def test_wheel_holds_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder, package in (("python/sylvester", ""), ("kernels", "kernels/"), ("benchmarks", "benchmarks/")):
        for path in (ROOT / folder).rglob("*.py"):
            assert f"sylvester/{package}{path.relative_to(ROOT / folder)}" in names
    assert "sylvester/libsylvester.so" in names
    assert not [name for name in names if name.startswith(("tests/", "csrc/"))]


def test_wheel_states_its_terms(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        text = archive.read(metadata).decode()
    assert "License-Expression: BSD-3-Clause" in text
    assert "Requires-Python: >=3.10" in text
    assert "Requires-Dist: torch>=2.10" in text
    assert not [line for line in text.splitlines() if line.startswith("Requires-Dist: triton") and "extra" not in line]


def test_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    code = (
        "import torch, sylvester; from sylvester import _library; x = torch.randn(3, 64)\n"
        "y = sylvester.hadamard_transform(sylvester.hadamard_transform(x))\n"
        "torch.testing.assert_close(x, y); print(_library.path())"
    )
    loaded = python("-c", code, cwd=tmp_path, PYTHONPATH=str(site)).strip()
    assert Path(loaded) == site / "sylvester" / "libsylvester.so"
    assert "levels" in python("-m", "sylvester", "info", cwd=tmp_path, PYTHONPATH=str(site))


def test_source_archive_can_be_built(tmp_path: Path) -> None:
    """Holds all that CMake, setup.py and the suite read."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "runs", "*.so", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, tree, ignore=ignored)
    python("setup.py", "-q", "sdist", cwd=tree)
    (archive,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    wanted = [p for folder in ("csrc", "python", "kernels", "benchmarks", "tests") for p in (tree / folder).rglob("*")]
    files = {str(p.relative_to(tree)) for p in wanted if p.suffix in (".py", ".h", ".cpp")}
    files |= {"CMakeLists.txt", "setup.py", "pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.md"}
    assert files <= names, sorted(files - names)


def test_works_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch, sylvester, sylvester.kernels\n"
        "print(sylvester.hadamard_transform(torch.ones(4), scale=1.0).tolist())"
    )
    assert python("-c", code).strip() == "[4.0, 0.0, 0.0, 0.0]"


def test_import_is_quick_and_quiet() -> None:
    """Processor time, tried again a few times, because other processes run too and slow this one down."""
    code = (
        "import sys, time, torch; start = time.process_time()\n"
        "import sylvester; sylvester.hadamard_transform; sylvester.hadamard_scan; sylvester.HadamRNN\n"
        "print(time.process_time() - start, torch.cuda.is_initialized(), 'triton' in sys.modules)"
    )
    taken = []
    while len(taken) < IMPORT_TRIES and min(taken, default=1.0) > IMPORT_LIMIT:
        seconds, *touched = python("-c", code).split()
        assert touched == ["False", "False"]
        taken.append(float(seconds))
    assert min(taken) <= IMPORT_LIMIT, f"{taken} seconds"


def test_version_is_the_package_version() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{sylvester.__version__}"' in text


def test_public_names_resolve() -> None:
    for name in sylvester.__all__:
        assert getattr(sylvester, name) is not None
