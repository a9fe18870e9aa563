"""Loads the compiled library once and answers which CPU level runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

LEVELS = ("scalar", "avx2", "avxvnni", "avx512", "avx512vnni")
"""CPU levels in ascending order; the codes of the C++ side are the positions."""


def path() -> Path:
    """The file of the compiled library that belongs to this package (it may not exist)."""
    return Path(__file__).resolve().parent / "libsylvester.so"


def load() -> None:
    """Load the library and settle the CPU level.

    Raises ImportError when the library is missing, when another copy is loaded already, and when
    ``SYLVESTER_ISA`` names a level that does not exist or that this CPU lacks.
    """
    library = path()
    if not library.exists():
        raise ImportError(
            f"{library.name} was not built (looked in {library.parent}); "
            "run `pip install --no-build-isolation .` in the source tree"
        )
    if hasattr(torch.ops.sylvester, "_isa"):
        if str(library) not in torch.ops.loaded_libraries:
            raise ImportError(
                f"another copy of libsylvester.so is loaded already ({sorted(torch.ops.loaded_libraries)}); "
                "two installations of sylvester are on sys.path: remove one"
            )
        return
    torch.ops.load_library(str(library))
    try:
        torch.ops.sylvester._isa()
    except ValueError as error:
        raise ImportError(str(error)) from None


def isa() -> str:
    """The CPU level that kernels run at, e.g. ``"avx512"``."""
    return LEVELS[torch.ops.sylvester._isa()]


def levels() -> tuple[str, ...]:
    """The levels this CPU (and its operating system) supports, ascending."""
    mask = torch.ops.sylvester._isa_supported()
    return tuple(name for code, name in enumerate(LEVELS) if mask >> code & 1)


@contextmanager
def forced_isa(level: str) -> Iterator[None]:
    """Run at another level inside the block. Process-wide, so for tests and measurements only.

    Raises ValueError when the level does not exist or this CPU lacks it.
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    before = torch.ops.sylvester._isa()
    torch.ops.sylvester._force_isa(LEVELS.index(level))
    try:
        yield
    finally:
        torch.ops.sylvester._force_isa(before)


load()
