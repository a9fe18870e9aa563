"""What all commands share: the consoles, the answer to mistakes, options and tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

console, errors = Console(), Console(stderr=True)

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes: what was asked for failed, a user's mistake, and what Ctrl-C ended."""

Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's choice when left out.")]

Device = Annotated[str, typer.Option(help="Where the model computes: cpu or cuda.")]


def complain(error: object) -> None:
    errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def mistakes(kinds: tuple[type[Exception], ...] = (ValueError, OSError, ImportError)) -> Iterator[None]:
    """What a user got wrong becomes a message and exit code 2, without a traceback."""
    try:
        yield
    except kinds as error:
        complain(error)
        raise typer.Exit(USAGE) from None


def set_threads(threads: int | None) -> int:
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def found_device(name: str) -> torch.device:
    """Raises ValueError for a device that is not there."""
    if name not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device cuda was asked for, but torch {torch.__version__} sees no GPU")
    return torch.device(name)


def print_facts(facts: dict[str, str]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)
