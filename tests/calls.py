"""What the tests of torch's entrances and of its traps share: every operator and case, and an operator as a module."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import battery
from sylvester.benchmarks import checks
from sylvester.ops._spec import OPERATORS, Arguments, Case, Operator

every_operator = pytest.mark.parametrize("operator", [pytest.param(o, id=o.name) for o in OPERATORS.values()])
every_case = pytest.mark.parametrize(
    ("operator", "case"),
    [pytest.param(o, c, id=f"{o.name}-{c.label}") for o in OPERATORS.values() for c in o.cases_of("small", "edge")],
)


def first_case(operator: Operator) -> Case:
    return operator.cases_of("small")[0]


class Call(torch.nn.Module):
    """An operator as a module of its tensors: what is traced and exported."""

    def __init__(self, operator: Operator, arguments: Arguments) -> None:
        super().__init__()
        self.function = operator.function
        self.names = [name for name, value in arguments.items() if isinstance(value, torch.Tensor)]
        self.fixed = {name: value for name, value in arguments.items() if name not in self.names}

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.function(**dict(zip(self.names, tensors, strict=True)), **self.fixed)

    def tensors(self, arguments: Arguments) -> tuple[torch.Tensor, ...]:
        return tuple(arguments[name] for name in self.names)


def assert_equal_results(got: Any, want: Any, what: str) -> None:
    for g, w in zip(checks.tensors_of(got), checks.tensors_of(want), strict=True):
        assert battery.same_bits(g, w), f"other bits {what}"


def leaf(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value
