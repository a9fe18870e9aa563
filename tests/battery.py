"""What every operator promises: one function a promise, each raises AssertionError when the promise is broken.

They are functions, not tests, so that the wrong kernels of tests/wrong can be put through them too:
``test_every_op.py`` asks that the operators pass and that the wrong kernels do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import memory
from sylvester import _library
from sylvester.benchmarks import checks
from sylvester.ops._spec import Arguments, Case, Operator

Tensors = tuple[torch.Tensor, ...]


def run(operator: Operator, arguments: Arguments) -> Tensors:
    return checks.tensors_of(operator.function(**arguments))


def run_all(operator: Operator, arguments: Arguments, grads: list[torch.Tensor] | None = None) -> dict[str, Any]:
    """Outputs, and the gradients of all arguments that can have one."""
    outputs = run(operator, arguments)
    found = {f"output {i}": output for i, output in enumerate(outputs)}
    names = checks.leaves_of(operator, arguments)
    if names:
        grads = checks.cotangents(outputs) if grads is None else grads
        by_name = checks.gradients(operator.function, arguments, names, grads)
        found |= {f"gradient of {name}": grad for name, grad in by_name.items()}
    return found


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit: NaN equals NaN, and +0 differs from −0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.numel() == 0:
        return True
    a, b = (t.detach().cpu().contiguous().flatten().view(torch.uint8) for t in (a, b))
    return torch.equal(a, b)


def assert_same_bits(got: dict[str, Any], want: dict[str, Any], what: str) -> None:
    for name in want:
        assert same_bits(got[name], want[name]), f"{name} has other bits {what}"


def value(operator: Operator, case: Case, dtype: torch.dtype, device: str = "cpu") -> None:
    """Within the stated bound of the float64 reference, plus one rounding of a 16-bit dtype."""
    wanted = checks.expected(operator, case.build(dtype))
    fraction = checks.value_fraction(operator, case.build(dtype, device), wanted)
    assert fraction <= 1, f"error is {fraction:.3g} of what is allowed"


def levels_agree(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    arguments = case.build(dtype)
    with _library.forced_isa("scalar"):
        scalar = run_all(operator, arguments)
    for level in _library.levels():
        with _library.forced_isa(level):
            assert_same_bits(run_all(operator, arguments), scalar, f"at {level} and scalar")


def gradient(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """Against the reference's autograd in float64: all arguments together, then each alone."""
    arguments = case.build(dtype)
    names = checks.leaves_of(operator, arguments)
    for chosen in {names, *((name,) for name in names)} - {()}:
        for name, fraction in checks.gradient_fractions(operator, arguments, chosen).items():
            assert fraction <= 1, f"gradient of {name} ({chosen} asked for): {fraction:.3g} of what is allowed"


def finite_differences(operator: Operator, case: Case) -> None:
    """gradcheck of the float64 instance. Signs may only be ±1, so theirs is left to ``gradient``."""
    arguments = case.build(torch.float64)
    wide = [name for name in checks.leaves_of(operator, arguments) if arguments[name].dtype == torch.float64]
    names = [name for name in wide if not bool((arguments[name].abs() == 1).all())]
    leaves = [arguments[name].clone().requires_grad_() for name in names]

    def call(*values: torch.Tensor) -> Tensors:
        return run(operator, {**arguments, **dict(zip(names, values, strict=True))})

    if leaves and not operator.straight_through:
        assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def second_derivative(operator: Operator, case: Case) -> None:
    """Right, or refused by name: never silently zero."""
    arguments = case.build(torch.float64)
    names = checks.leaves_of(operator, arguments)
    if not names:
        return
    try:
        got = _second(operator.function, arguments, names)
    except (NotImplementedError, RuntimeError) as error:
        assert "second derivative" in str(error), f"refused without saying why: {error}"
        return
    for name, want in _second(operator.reference, checks.widened(arguments), names).items():
        fraction = checks.error_fraction(got[name], want, 100 * operator.error_bound(arguments))
        assert fraction <= 1, f"second derivative by {name}: {fraction:.3g} of what is allowed"


def _second(function: Callable[..., Any], arguments: Arguments, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Gradient of the squared norm of the gradient, by the arguments and by the incoming gradients."""
    leaves = {name: arguments[name].clone().requires_grad_() for name in names}
    outputs = [output for output in checks.tensors_of(function(**{**arguments, **leaves})) if output.requires_grad]
    grads = [grad.requires_grad_() for grad in checks.cotangents(outputs)]
    first = torch.autograd.grad(outputs, list(leaves.values()), grads, create_graph=True, materialize_grads=True)
    score = sum((grad * grad).sum() for grad in first)
    wanted = {**leaves, **{f"incoming gradient {i}": grad for i, grad in enumerate(grads)}}
    second = torch.autograd.grad(score, list(wanted.values()), materialize_grads=True)
    return dict(zip(wanted, second, strict=True))


IN_FLOAT64 = (finite_differences, second_derivative)
"""Promises about the formulas alone: they take no dtype."""


def poisoned(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """No output, gradient or scratch depends on memory that nobody wrote."""
    clean = run_all(operator, case.build(dtype))
    with memory.poisoned():
        for _ in range(3):
            assert_same_bits(run_all(operator, case.build(dtype)), clean, "when fresh memory is full of NaN")


def layouts(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """Strides and offsets change nothing, neither of inputs nor of incoming gradients."""
    arguments = case.build(dtype)
    grads = checks.cotangents(run(operator, arguments))
    dense = run_all(operator, arguments, grads)
    for layout, change in memory.LAYOUTS.items():
        changed = checks.map_tensors(arguments, change)
        got = run_all(operator, changed, [change(grad) for grad in grads])
        assert_same_bits(got, dense, f"from inputs and gradients {layout}")


def repeatable(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """The same bits again, and for any number of threads."""
    arguments = case.build(dtype)
    torch.set_num_threads(1)
    once = run_all(operator, arguments)
    assert_same_bits(run_all(operator, arguments), once, "the second time")
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_same_bits(run_all(operator, arguments), once, f"on {threads} threads")


def row_by_row(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """A row has the same bits, its gradients included, in whatever batch it stands."""
    if operator.rows is None:
        pytest.skip(f"{operator.name} states no rows")
    arguments = case.build(dtype)
    inside, outside = operator.rows(arguments)
    size = min((arguments[name].shape[axis] for name, axis in inside.items()), default=0)
    grads = checks.cotangents(run(operator, arguments))
    leaves = tuple(name for name in checks.leaves_of(operator, arguments) if name in inside)

    def rows(start: int, stop: int) -> dict[str, torch.Tensor]:
        cut = {name: arguments[name].narrow(axis, start, stop - start).contiguous() for name, axis in inside.items()}
        chosen = {**arguments, **cut}
        found = {f"output {i}": output for i, output in enumerate(run(operator, chosen))}
        cut_grads = [grad.narrow(axis, start, stop - start) for grad, axis in zip(grads, outside, strict=True)]
        return found | (checks.gradients(operator.function, chosen, leaves, cut_grads) if leaves else {})

    if size < 2:
        return
    axes = {**inside, **{f"output {i}": axis for i, axis in enumerate(outside)}}
    whole = rows(0, size)
    for start, stop in {(0, 1), (size // 2, size), (size - 1, size)}:
        want = {name: tensor.narrow(axes[name], start, stop - start) for name, tensor in whole.items()}
        assert_same_bits(rows(start, stop), want, f"as rows {start} to {stop} of {size}")


def untouched(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    """Inputs keep their bits and their version, and no result shares their memory."""
    arguments = case.build(dtype)
    before = checks.map_tensors(arguments, torch.clone)
    tensors = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    owners = {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items() if tensor.numel()}
    results = run_all(operator, arguments)
    for name, tensor in tensors.items():
        assert same_bits(tensor, before[name]), f"{name} was changed"
        assert tensor._version == versions[name], f"{name} was written to"
    for name, result in results.items():
        owner = owners.get(result.untyped_storage().data_ptr()) if result.numel() else None
        assert owner is None, f"{name} shares memory with {owner}"
