"""Every way torch can reach an operator, and the traps that opcheck does not see, over every operator and case."""

from __future__ import annotations

import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import battery
import memory
from sylvester.benchmarks import checks
from sylvester.ops._spec import OPERATORS, Arguments, Case, Operator

every_operator = pytest.mark.parametrize("operator", [pytest.param(o, id=o.name) for o in OPERATORS.values()])
every_case = pytest.mark.parametrize(
    ("operator", "case"),
    [pytest.param(o, c, id=f"{o.name}-{c.label}") for o in OPERATORS.values() for c in o.cases_of("small", "edge")],
)
OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
QUICK = OPCHECKS[:3]


def first_case(operator: Operator) -> Case:
    return operator.cases_of("small")[0]


def float_tensors(arguments: Arguments) -> list[str]:
    return [n for n, v in arguments.items() if isinstance(v, torch.Tensor) and v.is_floating_point()]


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


@every_case
def test_opcheck(operator: Operator, case: Case) -> None:
    """Every registered operator behind the call, as it is and with inputs that require grad.

    Torch's slowest check, of tracing, also differentiates: with inputs that require grad where the operator allows it.
    Backward operators may refuse (see test_second_derivative), and torch has no gradient through written arguments.
    """
    for call in operator.raw_calls(case.build(torch.float32)):
        if any(isinstance(a, torch.Tensor) and a.shape.count(0) > 1 for a in call.arguments):
            continue  # torch's check itself computes a negative size when it clones a tensor with two empty axes
        written = memory.written_arguments(call)
        differentiable = not written and not call.name.endswith("_backward")
        torch.library.opcheck(call.overload, call.arguments, test_utils=QUICK if differentiable else OPCHECKS)
        if not written:
            leaves = tuple(_leaf(value) for value in call.arguments)
            torch.library.opcheck(call.overload, leaves, test_utils=OPCHECKS if differentiable else QUICK)


def _leaf(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


@every_case
def test_fake_shapes(operator: Operator, case: Case) -> None:
    for dtype in case.dtypes:
        arguments = case.build(dtype)
        real = battery.run(operator, arguments)
        with FakeTensorMode() as mode:
            fake = battery.run(operator, checks.map_tensors(arguments, mode.from_tensor))
        for f, r in zip(fake, real, strict=True):
            assert (f.shape, f.dtype, f.stride()) == (r.shape, r.dtype, r.stride())


@every_case
def test_modes(operator: Operator, case: Case) -> None:
    """inference_mode, no_grad and autocast: the operators run in the dtype they are given, with the same bits."""
    for dtype in case.dtypes:
        arguments = case.build(dtype)
        want = battery.run(operator, arguments)
        for mode in (torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16)):
            with mode:
                assert_equal_results(battery.run(operator, arguments), want, f"under {type(mode).__name__}")


@every_operator
def test_compiled_cases(operator: Operator) -> None:
    """fullgraph for every set of arguments and options that the cases know."""
    seen = set()
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=64):
        for case in operator.cases_of("small"):
            arguments = case.build(torch.float32)
            call = Call(operator, arguments)
            structure = (*call.names, *call.fixed.items())
            if structure in seen:
                continue
            seen.add(structure)
            compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
            tensors = call.tensors(arguments)
            assert_equal_results(compiled(*tensors), call(*tensors), f"compiled, {case.label}")


@every_operator
def test_compiled_with_dynamic_rows(operator: Operator) -> None:
    """Two graphs serve every batch size and all values."""
    if operator.rows is None:
        pytest.skip(f"{operator.name} states no rows")
    case = next(c for c in operator.cases_of("small") if _batch(operator, c.build(torch.float32)) >= 2)
    arguments = case.build(torch.float32)
    axes, _ = operator.rows(arguments)
    call = Call(operator, arguments)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, fullgraph=True, backend=counter)
    for size in (2, 3, 5, 7):
        index = torch.arange(size)
        resized = {name: arguments[name].index_select(axis, index % 2).contiguous() for name, axis in axes.items()}
        tensors = call.tensors({**arguments, **resized})
        assert_equal_results(compiled(*tensors), call(*tensors), f"compiled, {size} rows")
    assert counter.frame_count <= 2, f"{counter.frame_count} graphs for 4 batch sizes"


def _batch(operator: Operator, arguments: Arguments) -> int:
    assert operator.rows is not None
    axes, _ = operator.rows(arguments)
    return min((arguments[name].shape[axis] for name, axis in axes.items()), default=0)


@pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="Inductor needs Python's headers (python3-dev)"
)
@every_operator
def test_inductor_trains(operator: Operator) -> None:
    arguments = first_case(operator).build(torch.float32)
    names = checks.leaves_of(operator, arguments)
    torch._dynamo.reset()
    compiled = torch.compile(Call(operator, arguments), fullgraph=True)

    def function(**given: Any) -> Any:
        return compiled(*(given[name] for name in compiled.names))

    grads = checks.cotangents(battery.run(operator, arguments))
    got = checks.gradients(function, arguments, names, grads)
    want = checks.gradients(operator.function, arguments, names, grads)
    for name in names:
        torch.testing.assert_close(got[name], want[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
@every_operator
def test_export(operator: Operator, strict: bool) -> None:
    arguments = first_case(operator).build(torch.float32)
    call = Call(operator, arguments)
    tensors = call.tensors(arguments)
    exported = torch.export.export(call, tensors, strict=strict)
    assert_equal_results(exported.module()(*tensors), call(*tensors), "exported")


@every_operator
def test_cuda_graph(operator: Operator) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    arguments = first_case(operator).build(torch.float32, "cuda")
    battery.run(operator, arguments)  # compiles the kernel: not allowed while capturing
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = battery.run(operator, arguments)
    for name in float_tensors(arguments):
        arguments[name].neg_()
    graph.replay()
    assert_equal_results(captured, battery.run(operator, arguments), "replayed")


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

    def score(leaf: torch.Tensor) -> torch.Tensor:
        return battery.run(operator, {**arguments, name: leaf})[0].sum()

    leaf = arguments[name].clone().requires_grad_()
    (want,) = torch.autograd.grad(score(leaf), leaf)
    try:
        got = torch.func.grad(score)(arguments[name])
    except (RuntimeError, NotImplementedError) as error:
        assert str(error), "refused without a word"
    else:
        torch.testing.assert_close(got, want)


@every_operator
def test_in_place_form(operator: Operator) -> None:
    """Where a room has ``<op>_``: same values, gradients refused, the version counter moves."""
    in_place = getattr(import_module(f"sylvester.ops.{operator.name}"), f"{operator.name}_", None)
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
                in_place(**{**arguments, name: _leaf(arguments[name])})
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
