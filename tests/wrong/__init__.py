"""Kernels that the battery must reject: a promise that no wrong kernel breaks proves nothing.

A module ``wrong.<op>`` lists them in ``WRONG``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wrong:
    """A public function with one mistake, and the name of the promise (in tests/battery.py) that must see it."""

    label: str
    breaks: str
    function: Callable[..., Any]
    where: str = ""
    """In the labels of the cases to try first."""
