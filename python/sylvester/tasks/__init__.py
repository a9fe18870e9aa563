"""Tasks: data, loss and metric of one benchmark each. Adding a task adds one line to ``TASKS``."""

from __future__ import annotations

from ._task import TEST as TEST
from ._task import TRAINING as TRAINING
from ._task import VALIDATION as VALIDATION
from ._task import Task as Task
from .adding import Adding as Adding
from .copy_memory import CopyMemory as CopyMemory
from .digits import Digits as Digits

TASKS: dict[str, type[Task]] = {
    "copy": CopyMemory,
    "adding": Adding,
    "digits": Digits,
}
"""Name on the command line and in saved runs -> the task, a dataclass."""


def name_of_task(task: Task) -> str:
    """The name under which a task is saved."""
    return next(name for name, kind in TASKS.items() if type(task) is kind)
