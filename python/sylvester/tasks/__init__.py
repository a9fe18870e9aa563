"""Tasks: data, loss and metric of one benchmark each. Adding a task adds one line to ``TASKS``."""

from __future__ import annotations

from typing import Any

from .copy_memory import CopyMemory as CopyMemory

TASKS: dict[str, type[Any]] = {
    "copy": CopyMemory,
}
"""Name on the command line and in saved runs -> the task, a dataclass."""


def name_of_task(task: Any) -> str:
    """The name under which a task is saved."""
    return next(name for name, kind in TASKS.items() if type(task) is kind)
