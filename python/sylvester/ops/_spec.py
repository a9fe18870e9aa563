"""What an operator states about itself: the one list that tests, benchmarks and the command line read.

A room (``ops/<op>.py``) ends with ``SPEC = register(Operator(...))``. The battery
(``tests/test_every_op.py``), ``sylvester check`` and ``sylvester bench`` find it through ``OPERATORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Arguments = dict[str, Any]
"""Keyword arguments of the public function (and of the reference: they share one signature)."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Make:
    """Seeded source of inputs for one case; everything a case draws comes from here."""

    dtype: torch.dtype
    device: torch.device
    generator: torch.Generator

    @staticmethod
    def seeded(seed: int, dtype: torch.dtype, device: str | torch.device = "cpu") -> Make:
        return Make(dtype, torch.device(device), torch.Generator().manual_seed(seed))

    def normal(self, *shape: int, dtype: torch.dtype | None = None, std: float = 1.0) -> torch.Tensor:
        """Normal values, drawn in float64 and rounded once, so every dtype and every device sees one sample."""
        drawn = std * torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.device, dtype or self.dtype)

    def signs(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Values in {-1, +1}."""
        drawn = torch.randint(0, 2, shape, generator=self.generator)
        return (2 * drawn - 1).to(self.device, dtype)

    def integers(self, high: int, *shape: int) -> torch.Tensor:
        """int64 values in [0, high)."""
        return torch.randint(0, high, shape, generator=self.generator).to(self.device)


@dataclass(frozen=True)
class Case:
    """One seeded call. ``kind``: small and edge cases are tested, benchmark cases are timed."""

    label: str
    make: Callable[[Make], Arguments]
    kind: Literal["small", "edge", "benchmark"] = "small"
    dtypes: tuple[torch.dtype, ...] = FLOATS
    seed: int = 0

    def build(self, dtype: torch.dtype, device: str | torch.device = "cpu") -> Arguments:
        return self.make(Make.seeded(self.seed, dtype, device))


@dataclass(frozen=True)
class Misuse:
    """A call that must raise ``error`` with a message that matches the regular expression ``match``."""

    label: str
    make: Callable[[Make], Arguments]
    match: str
    error: type[Exception] = ValueError


@dataclass(frozen=True)
class RawCall:
    """A registered operator with positional arguments, as the public function would call it."""

    name: str
    arguments: tuple[Any, ...]
    differentiable: bool = True
    """False: a derivative is refused by name."""

    @property
    def overload(self) -> Any:
        return getattr(torch.ops.sylvester, self.name).default


@dataclass(frozen=True)
class Operator:
    """All that the battery and the benchmarks need to know of an operator."""

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    cases: tuple[Case, ...]
    misuses: tuple[Misuse, ...]
    raw_calls: Callable[[Arguments], list[RawCall]]
    """Every registered operator behind a call, backward operators included (opcheck runs on each)."""
    differentiable: tuple[str, ...] | Callable[[Arguments], tuple[str, ...]]
    """Arguments that may get a gradient; a case may leave some of them out. A function where options decide."""
    error_bound: Callable[[Arguments], float]
    """Largest |error| / max|float64 reference| in float32; 16-bit outputs add one rounding of their dtype."""
    bytes_moved: Callable[[Arguments], int]
    operations: Callable[[Arguments], int]
    """Floating-point additions (and multiplications) the algorithm cannot avoid."""
    baselines: Mapping[str, Callable[[Arguments], Callable[[], Any]]] = field(default_factory=dict)
    """Rivals that only this operator has: name -> (arguments -> thunk to time)."""
    launchers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Raw operator name -> GPU launcher with the same positional arguments (run in Triton's interpreter)."""
    straight_through: bool = False
    """The gradient is an estimator's, which finite differences of the values do not show."""
    levels_agree: bool = True
    """The CPU levels return the same bits."""
    rows: Callable[[Arguments], tuple[dict[str, int], tuple[int, ...]]] | None = None
    """The axis of independent rows of each argument that has one, and of each output (in order): the battery takes
    rows out of the batch and asks for the same bits, and compiles with the batch size dynamic."""

    room: str = ""
    """The folder of ``ops`` that it shares with its siblings; its own name when it has a room of its own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "room", self.room or self.name)

    def cases_of(self, *kinds: str) -> tuple[Case, ...]:
        return tuple(case for case in self.cases if case.kind in kinds)


OPERATORS: dict[str, Operator] = {}


def register(operator: Operator) -> Operator:
    """Add an operator to the list (a reload replaces it)."""
    OPERATORS[operator.name] = operator
    return operator
