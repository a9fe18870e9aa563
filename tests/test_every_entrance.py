"""Every way torch can reach an operator: opcheck, modes, compile, export, CUDA graphs."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

import battery
import memory
from calls import Call, assert_equal_results, every_case, every_operator, first_case, leaf
from sylvester.benchmarks import checks
from sylvester.ops._spec import Arguments, Case, Operator, RawCall

QUICK = ("test_schema", "test_autograd_registration", "test_faketensor")
TRACED = "test_aot_dispatch_dynamic"


def _checkable(operator: Operator, case: Case) -> Iterator[tuple[RawCall, bool]]:
    """The registered operators behind a call, and whether they write to their arguments.

    Without those with two empty axes: torch's check itself computes a negative size when it clones them.
    """
    for call in operator.raw_calls(case.build(torch.float32)):
        if not any(isinstance(a, torch.Tensor) and a.shape.count(0) > 1 for a in call.arguments):
            yield call, bool(memory.written_arguments(call))


@every_case
def test_opcheck(operator: Operator, case: Case) -> None:
    """As it is and with inputs that require grad; torch has no gradient through written arguments."""
    for call, written in _checkable(operator, case):
        torch.library.opcheck(call.overload, call.arguments, test_utils=QUICK)
        if not written:
            torch.library.opcheck(call.overload, tuple(leaf(a) for a in call.arguments), test_utils=QUICK)


@every_operator
def test_opcheck_traces(operator: Operator) -> None:
    """Torch's slowest check, once for each set of arguments; it also differentiates where the operator allows it.

    Backward operators may refuse (see test_second_derivative).
    """
    seen = set()
    for case in operator.cases_of("small", "edge"):
        for call, written in _checkable(operator, case):
            structure = (call.name, *map(_kind, call.arguments))
            if structure in seen:
                continue
            seen.add(structure)
            differentiable = call.differentiable and not written and not call.name.endswith("_backward")
            arguments = tuple(leaf(a) for a in call.arguments) if differentiable else call.arguments
            torch.library.opcheck(call.overload, arguments, test_utils=TRACED)


def _kind(value: Any) -> Any:
    """What an argument is, whatever its sizes and values."""
    return value.dtype if isinstance(value, torch.Tensor) else type(value)


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
    for tensor in arguments.values():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            tensor.neg_()
    graph.replay()
    assert_equal_results(captured, battery.run(operator, arguments), "replayed")
