"""Floors and rivals: what times are compared with. Operator-specific rivals stand in the operator's room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sylvester.ops._spec import Arguments, Operator

Thunk = Callable[[], Any]

MOST_TRACED_CALLS = 200
"""torch.compile unrolls a loop over time: beyond this many torch calls it takes minutes."""


class _Counter(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


_SECOND_LEVEL = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


def second_level_cache() -> int:
    """Bytes of a core's second-level cache; 1 MiB where the system does not tell."""
    text = _SECOND_LEVEL.read_text().strip() if _SECOND_LEVEL.exists() else ""
    return int(text[:-1]) << 10 if text.endswith("K") else 1 << 20


def adds_per_second() -> float:
    """Peak rate of float32 additions at the active level, on one thread."""
    return float(torch.ops.sylvester._adds_per_second())


def products_per_second() -> float:
    """Peak rate of integer dot products, in products, at the active level, on one thread."""
    return float(torch.ops.sylvester._products_per_second())


def copy_floor(operator: Operator, arguments: Arguments) -> Thunk:
    """Moves as many bytes as the operator must: half read, half written to fresh memory."""
    count = max(operator.bytes_moved(arguments) // 8, 1)
    source = torch.ones(count)
    return lambda: torch.ops.sylvester._fresh_copy(source)


def rivals(operator: Operator, arguments: Arguments, compiled: bool) -> dict[str, Thunk]:
    """The operator's own baselines, its reference, and the compiled reference where that is of a size to compile."""
    found: dict[str, Thunk] = {}
    for name, build in operator.baselines.items():
        try:
            found[name] = build(arguments)
        except NotImplementedError:
            continue  # the baseline says that this case is out of its proportion
    if compiled:
        with _Counter() as counter:
            operator.reference(**arguments)
        if counter.calls <= MOST_TRACED_CALLS:
            traced = torch.compile(operator.reference, dynamic=False)
            found["compiled reference"] = lambda: traced(**arguments)
    return found
