"""Reads the built library and its objects: what it needs from torch, and where vector registers may appear."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from sylvester import _library

ROOT = Path(__file__).parents[1]
OBJECTS = ROOT / "build" / "CMakeFiles"
TARGET = "0x020a000000000000"  # torch 2.10, as in CMakeLists.txt
CPP_OF_TORCH = re.compile(r"c10|caffe2|2at\d|5torch")  # as they stand inside mangled names
LINKER = ("_ITM_", "__gmon_start__", "__cxa_finalize", "__bss_start", "_edata", "_end")


def symbols(file: Path, section: str) -> list[tuple[str, str, bool]]:
    """(name, binding, is defined) of every named symbol."""
    with file.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(section)
        assert isinstance(table, SymbolTableSection)
        found = [(s.name, s["st_info"]["bind"], s["st_shndx"] != "SHN_UNDEF") for s in table.iter_symbols()]
    return [symbol for symbol in found if symbol[0]]


@cache
def needed() -> set[str]:
    """Undefined symbols of the library, without their version suffix."""
    return {name.partition("@")[0] for name, _, defined in symbols(_library.path(), ".dynsym") if not defined}


@cache
def stable_in_2_10() -> set[str]:
    """Names that torch's own C headers declare when compiled for target 2.10."""
    include = Path(torch.__file__).parent / "include"
    headers = "#include <torch/csrc/inductor/aoti_torch/c/shim.h>\n#include <torch/csrc/stable/c/shim.h>\n"
    flags = [f"-DTORCH_TARGET_VERSION={TARGET}", f"-I{include}", "-std=c++20", "-E", "-P", "-x", "c++", "-"]
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler to read torch's headers with")
    text = subprocess.run([compiler, *flags], input=headers, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\b(?:aoti_)?torch_\w+(?=\s*\()", text))


def test_torch_symbols_are_stable_in_2_10() -> None:
    used = {name for name in needed() if re.match(r"(aoti_)?torch_", name)}
    assert used, "the library must use torch"
    assert used <= stable_in_2_10(), f"not in torch 2.10's stable ABI: {sorted(used - stable_in_2_10())}"


def test_no_cpp_symbol_of_torch() -> None:
    assert not [name for name in needed() if name.startswith("_Z") and CPP_OF_TORCH.search(name)]


def test_no_python_symbol() -> None:
    assert not [name for name in needed() if re.match(r"_?Py[A-Z_]", name)]


def test_no_openmp_of_its_own() -> None:
    """Threads come from torch: a second runtime would fight over the cores."""
    assert not [name for name in needed() if re.match(r"GOMP_|omp_|__kmpc_", name)]


def test_needed_libraries() -> None:
    with _library.path().open("rb") as stream:
        dynamic = ELFFile(stream).get_section_by_name(".dynamic")
        libraries = {tag.needed for tag in dynamic.iter_tags("DT_NEEDED")}
        paths = [tag for tag in dynamic.iter_tags() if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")]
    system = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2"}
    assert libraries - system == {"libtorch_cpu.so"}
    assert not paths, "torch is imported first, so no search path belongs into the library"


def test_library_exports_nothing() -> None:
    """Operators register themselves; an exported symbol could be taken by another library."""
    exported = [name for name, bind, defined in symbols(_library.path(), ".dynsym") if defined and bind == "STB_GLOBAL"]
    assert not [name for name in exported if not name.startswith(LINKER)]


def test_no_machine_path_inside() -> None:
    text = _library.path().read_bytes()
    for folder in (str(ROOT), str(Path(torch.__file__).parent)):
        assert folder.encode() not in text, f"{folder} stands in the library"


def objects(target: str) -> list[Path]:
    if not OBJECTS.is_dir():
        pytest.skip(f"no objects in {OBJECTS.parent}: the library was installed, not built here")
    found = sorted((OBJECTS / f"{target}.dir").rglob("*.o"))
    assert found, f"no object of {target} in {OBJECTS}"
    return found


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_level_objects_have_no_weak_symbol(level: str) -> None:
    """The linker could keep the copy with AVX code for everyone."""
    for file in objects(f"kernels_{level}"):
        weak = [name for name, bind, defined in symbols(file, ".symtab") if defined and bind == "STB_WEAK"]
        assert not weak, f"{file.name}: {weak}"


def disassembled(target: str) -> Iterator[tuple[str, str]]:
    """(name, machine code) of every object."""
    if shutil.which("objdump") is None:
        pytest.skip("no objdump (Debian: binutils) to disassemble with")
    for file in objects(target):
        command = ["objdump", "-d", "--no-show-raw-insn", str(file)]
        yield file.name, subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("target", "forbidden"),
    [("sylvester", ("%ymm", "%zmm")), ("kernels_scalar", ("%ymm", "%zmm")), ("kernels_avx2", ("%zmm", "{%k"))],
)
def test_vector_registers_stay_in_their_level(target: str, forbidden: tuple[str, ...]) -> None:
    for name, code in disassembled(target):
        for register in forbidden:
            assert register not in code, f"{name} uses {register}"


@pytest.mark.parametrize(("level", "register"), [("avx2", "%ymm"), ("avx512", "%zmm")])
def test_levels_use_their_registers(level: str, register: str) -> None:
    """The other direction: a level whose flags were lost would pass the test above."""
    for name, code in disassembled(f"kernels_{level}"):
        assert register in code, f"{name} at {level} uses no {register}"
