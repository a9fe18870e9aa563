"""The house keeps its order: every operator has its files, rooms say what they must, imports go one way."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import sylvester
from sylvester import ops
from sylvester.ops._spec import OPERATORS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "sylvester"
SOURCES = [*ROOT.glob("python/**/*.py"), *ROOT.glob("kernels/*.py"), *ROOT.glob("benchmarks/*.py")]
CPP = [*ROOT.glob("csrc/**/*.h"), *ROOT.glob("csrc/**/*.cpp")]
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_KERNEL = 250, 60, 80

LAYERS = ["ops", "layers", "models", "tasks", "cli"]
"""Ascending: a module may import what stands before it, never what stands after."""

CPU_ONLY = {"lowbit_matmul"}
"""Rooms whose GPU kernels are still to come: their operators refuse CUDA tensors by name."""

every_operator = pytest.mark.parametrize("name", sorted(OPERATORS))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(name: str) -> str:
    """Operators of one kind may share a room, its kernels and its launchers."""
    return OPERATORS[name].room


def room_files(name: str) -> list[Path]:
    folder = PACKAGE / "ops" / room_of(name)
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def test_rooms_and_operators_are_the_same() -> None:
    rooms = {p.stem for p in (PACKAGE / "ops").iterdir() if not p.name.startswith("_") and p.suffix in ("", ".py")}
    lines = re.findall(r"^from \. import (\w+)", inspect.getsource(ops), re.MULTILINE)
    assert rooms == {operator.room for operator in OPERATORS.values()} == set(lines)


@every_operator
def test_operator_has_its_files(name: str) -> None:
    """One basename in every wing."""
    room = room_of(name)
    wings = [f"csrc/{room}/{room}.h", f"csrc/{room}/{room}.cpp", f"csrc/{room}/{room}_simd.cpp"]
    wings += [] if room in CPU_ONLY else [f"kernels/{room}.py"]
    missing = [
        file for file in [*wings, f"tests/test_{name}.py", f"tests/wrong/{name}.py"] if not (ROOT / file).exists()
    ]
    assert not missing


@every_operator
def test_room_says_what_it_must(name: str) -> None:
    room = import_module(f"sylvester.ops.{room_of(name)}")
    text = room.__doc__ or ""
    for section in ("Cost:", "Determinism:", "Gradient:", "Source:", "Siblings:", "computes in"):
        assert section in text, f"the docstring of {name} lacks {section!r}"
    for sibling in re.findall(r"[\w/]+/[\w/]*\.?\w*", text.partition("Siblings:")[2]):
        assert (ROOT / sibling).exists(), f"{name} names {sibling}, which does not exist"


@every_operator
def test_room_reads_from_top_to_bottom(name: str) -> None:
    """Reference, check, public function, fake, GPU, autograd, cases."""
    text = "\n".join(file.read_text() for file in _in_reading_order(name))
    marks = [
        r"def reference\(",
        r"def check\(",
        rf"def {name}\(",
        "register_fake",
        '"CUDA"',
        "register_autograd",
        r"register\(",
    ]
    places = [re.search(mark, text) for mark in marks]
    assert all(places), f"missing: {[m for m, p in zip(marks, places, strict=True) if p is None]}"
    starts = [place.start() for place in places if place]
    assert starts == sorted(starts), f"{name} is not in the reading order"


def _in_reading_order(name: str) -> list[Path]:
    """A room that is a folder states the order of its files in its docstring: 'Read on: _a.py (...), _b.py'."""
    folder = PACKAGE / "ops" / room_of(name)
    if not folder.is_dir():
        return room_files(name)
    text = import_module(f"sylvester.ops.{room_of(name)}").__doc__ or ""
    listed = re.findall(r"_\w+\.py", text.partition("Read on:")[2].partition("Siblings:")[0])
    assert {folder / file for file in listed} == set(room_files(name)) - {folder / "__init__.py"}
    return [folder / file for file in listed]


@every_operator
def test_reference_shares_the_public_signature(name: str) -> None:
    operator = OPERATORS[name]
    public, reference = inspect.signature(operator.function), inspect.signature(operator.reference)
    assert public.parameters == reference.parameters
    assert getattr(sylvester, name) is inspect.unwrap(operator.function)


@every_operator
def test_cases_are_enough(name: str) -> None:
    operator = OPERATORS[name]
    assert operator.cases_of("small") and operator.cases_of("benchmark")
    assert operator.misuses, "bad input must be tested"
    assert operator.rows is not None, "the axis of the rows must be stated"
    assert operator.launchers or operator.room in CPU_ONLY, "the GPU launchers must be reachable without a GPU"


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a module of the package imports."""
    package = ("sylvester", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def test_imports_go_one_way() -> None:
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in LAYERS:
            continue
        above = LAYERS[LAYERS.index(part) + 1 :]
        for name in imports(path):
            top = name.split(".")[1] if name.startswith("sylvester.") else ""
            assert top not in above, f"{named(path)} imports {name}"


def included(path: Path) -> Iterator[tuple[Path, str]]:
    """(file, system header) of everything that compiling ``path`` reads."""
    text = path.read_text()
    for header in re.findall(r"#include <([\w./]+)>", text):
        yield path, header
    for own in re.findall(r'#include "([\w./]+)"', text):
        yield from included(ROOT / "csrc" / own)


def test_kernels_know_neither_torch_nor_containers() -> None:
    """Inline functions of a library compiled for a level could be the copy the linker keeps for everyone."""
    allowed = {"cstdint", "cstddef", "cstring", "cmath", "limits", "optional", "type_traits", "immintrin.h"}
    for kernel in (*ROOT.glob("csrc/*/*_simd.cpp"), *ROOT.glob("csrc/*/*_dot.cpp")):
        for path, header in included(kernel):
            assert header in allowed, f"{named(kernel)} reads {named(path)}, which includes <{header}>"


def test_torch_is_included_in_common_only() -> None:
    for path in CPP:
        headers = re.findall(r"#include <((?:torch|ATen|c10)/[\w./]+)>", path.read_text())
        assert not headers or path.parent == ROOT / "csrc" / "common", f"{named(path)} includes {headers}"
        assert not [
            header
            for header in headers
            if not re.match("torch/(csrc/stable|csrc/inductor/aoti_torch|headeronly)", header)
        ]


def test_triton_is_imported_by_its_kernels_only() -> None:
    for path in SOURCES:
        if path.parent == ROOT / "kernels" and path.name != "__init__.py":
            continue
        tree = ast.parse(path.read_text())
        at_import = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = {a.name for n in at_import if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in at_import if isinstance(n, ast.ImportFrom)}
        assert not [name for name in names if name.split(".")[0] == "triton"], named(path)


def test_files_and_functions_stay_small() -> None:
    everything = [*SOURCES, *CPP, *ROOT.glob("tests/**/*.py")]
    long = [f"{named(p)}: {n} lines" for p in everything if (n := p.read_text().count("\n")) > LONGEST_FILE]
    for path in SOURCES:
        limit = LONGEST_KERNEL if path.parent == ROOT / "kernels" else LONGEST_FUNCTION
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > limit:
                long.append(f"{named(path)}: {node.name} is longer than {limit} lines")
    assert not long


def test_nothing_is_left_to_do() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert not [named(path) for path in [*SOURCES, *CPP] if marks.search(path.read_text())]
