"""Traps that opcheck does not see: each would give wrong numbers, or memory that nobody wrote, without an error."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import battery
from calls import Call, assert_equal_results, every_operator, first_case, leaf
from sylvester.benchmarks import checks
from sylvester.ops._spec import OPERATORS, Operator


@every_operator
def test_mixed_devices_are_refused(operator: Operator) -> None:
    """Otherwise torch runs the fake kernel and returns memory that nobody wrote."""
    for case in operator.cases_of("small"):
        arguments = case.build(torch.float32)
        call = Call(operator, arguments)
        for name in call.names[1:]:
            with pytest.raises((ValueError, TypeError), match=name):
                operator.function(**{**arguments, name: arguments[name].to("meta")})
        for raw in operator.raw_calls(arguments):
            for position in range(1, len(raw.arguments)):
                if isinstance(raw.arguments[position], torch.Tensor):
                    mixed = list(raw.arguments)
                    mixed[position] = mixed[position].to("meta")
                    with pytest.raises((ValueError, TypeError, RuntimeError)):
                        raw.overload(*mixed)


@every_operator
def test_forward_mode_is_refused(operator: Operator) -> None:
    """Otherwise the tangent is zero, silently."""
    arguments = first_case(operator).build(torch.float32)
    for name in checks.leaves_of(operator, arguments):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(arguments[name], torch.ones_like(arguments[name]))
            with pytest.raises(NotImplementedError, match="forward-mode"):
                operator.function(**{**arguments, name: dual})


@every_operator
def test_torch_func_is_right_or_refused(operator: Operator) -> None:
    arguments = first_case(operator).build(torch.float32)
    name, *_ = checks.leaves_of(operator, arguments)

    def score(x: torch.Tensor) -> torch.Tensor:
        return battery.run(operator, {**arguments, name: x})[0].sum()

    x = leaf(arguments[name])
    (want,) = torch.autograd.grad(score(x), x)
    try:
        got = torch.func.grad(score)(arguments[name])
    except (RuntimeError, NotImplementedError) as error:
        assert str(error), "refused without a word"
    else:
        torch.testing.assert_close(got, want)


@every_operator
def test_in_place_form(operator: Operator) -> None:
    """Where a room has ``<op>_``: same values, gradients refused, the version counter moves."""
    in_place = getattr(import_module(f"sylvester.ops.{operator.room}"), f"{operator.name}_", None)
    if in_place is None:
        pytest.skip(f"{operator.name} has no in-place form")
    for case in operator.cases_of("small", "edge"):
        arguments = case.build(torch.float32)
        first, *_ = arguments
        x = arguments[first] = arguments[first].contiguous()  # overlapping views are refused, see below
        want = battery.run(operator, arguments)
        version = x._version
        assert in_place(**arguments) is x
        assert_equal_results(x, want[0], f"in place, {case.label}")
        assert x._version > version, "the version counter did not move"
        for name in checks.leaves_of(operator, arguments):
            with pytest.raises(RuntimeError, match="requires grad"):
                in_place(**{**arguments, name: leaf(arguments[name])})
        if x.numel():
            with pytest.raises((ValueError, RuntimeError), match="overlap|single memory location"):
                in_place(**{**arguments, first: x[:1].expand(2, *x.shape)})


def _schemas() -> list[Any]:
    return [s for s in torch._C._jit_get_all_schemas() if s.name.startswith("sylvester::")]


def test_schemas_keep_the_rules() -> None:
    """No defaults (the dispatcher drops them), no keyword-only arguments (no gradients), no str (they leak)."""
    for schema in _schemas():
        for argument in schema.arguments:
            assert not argument.has_default_value(), f"{schema.name}: {argument.name} has a default"
            assert not argument.kwarg_only, f"{schema.name}: {argument.name} is keyword-only"
            assert "str" not in str(argument.type), f"{schema.name}: {argument.name} is a str"
        assert not any("str" in str(result.type) for result in schema.returns), f"{schema.name} returns a str"


def test_every_registered_operator_is_reached() -> None:
    """opcheck sees what raw_calls names, so raw_calls must name everything."""
    called = {
        f"sylvester::{call.name}"
        for operator in OPERATORS.values()
        for case in operator.cases
        if case.kind != "benchmark"
        for call in operator.raw_calls(case.build(torch.float32))
    }
    public = {schema.name for schema in _schemas() if not schema.name.startswith("sylvester::_")}
    assert called == public
