"""Operators against their float64 references: the one measure that tests, ``sylvester check`` and the benchmark share.

An error is stated as a fraction of what is allowed, so 1.0 is the limit whatever the operator and dtype:

    allowed = bound · max|reference| + rounding to the dtype of the output
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sylvester import _library, ops  # noqa: F401  (importing ops registers the operators)
from sylvester.ops._spec import OPERATORS, Arguments, Case, Operator

GRADIENT_FACTOR = 4.0
"""Gradients of weights add the errors of many rows, so they get this multiple of the operator's bound."""


def selected(name: str | None = None) -> list[Operator]:
    """The named operator, or all of them."""
    if name is None:
        return list(OPERATORS.values())
    if name not in OPERATORS:
        raise ValueError(f"no operator {name!r}; there are {', '.join(OPERATORS)}")
    return [OPERATORS[name]]


def tensors_of(result: Any) -> tuple[torch.Tensor, ...]:
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def map_tensors(arguments: Arguments, change: Callable[[torch.Tensor], torch.Tensor]) -> Arguments:
    return {name: change(value) if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


def widened(arguments: Arguments) -> Arguments:
    """Floating-point tensors in float64 on the CPU: what the reference is given, rounded inputs included."""
    return map_tensors(arguments, lambda t: t.cpu().double() if t.is_floating_point() else t.cpu())


def expected(operator: Operator, arguments: Arguments) -> tuple[torch.Tensor, ...]:
    return tensors_of(operator.reference(**widened(arguments)))


def error_fraction(actual: torch.Tensor, reference: torch.Tensor, bound: float, gradient: bool = False) -> float:
    """Largest |actual − reference| over what is allowed; infinite where shapes differ or one is not finite.

    ``bound`` is stated for float32, and float64 is held to the same number of its own roundings. 16-bit values may
    be off by one rounding each; 16-bit gradients pass through a second rounding that is relative to the largest.
    """
    if actual.shape != reference.shape:
        return math.inf
    if actual.numel() == 0:
        return 0.0
    if not actual.is_floating_point():
        return _codes_fraction(actual, reference)
    info = torch.finfo(actual.dtype)
    got, want = actual.detach().cpu().double(), reference.detach().double()
    finite = want[want.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 0.0
    if actual.dtype == torch.float64:
        bound *= info.eps / torch.finfo(torch.float32).eps
    rounding = info.eps / 2 if info.bits == 16 else 0.0
    rounded = rounding * (want.abs() + 3 * scale) if gradient else rounding * want.abs()
    allowed = bound * scale * (1 + rounding) + rounded + info.smallest_normal * info.eps
    # Rounding the reference may overflow to the infinity that the operator returns.
    agree = (got == want.to(actual.dtype).double()) | (got.isnan() & want.isnan())
    fraction = torch.where(agree, 0.0, (got - want).abs() / allowed)
    return torch.where(fraction.isnan(), math.inf, fraction).max().item()


def _codes_fraction(actual: torch.Tensor, reference: torch.Tensor) -> float:
    """Codes are rounded reals: one off is right where a real is nearly half way, which few are; the laws are exact.

    uint8 holds two codes a byte.
    """
    if actual.dtype != reference.dtype:
        return math.inf
    got, want = (t.detach().cpu().int() for t in (actual, reference))
    if actual.dtype == torch.uint8:
        got, want = (torch.stack((t & 15, t >> 4)) for t in (got, want))
    off = (got - want).abs()
    most = 1 + off.numel() / 128  # half ways themselves are not rare in 16 bits
    return math.inf if off.max() > 1 else off.sum().item() / most


def value_fraction(operator: Operator, arguments: Arguments, wanted: Iterable[torch.Tensor]) -> float:
    """Error of the operator's outputs, as a fraction of what is allowed."""
    got, wanted = tensors_of(operator.function(**arguments)), tuple(wanted)
    if len(got) != len(wanted):
        return math.inf
    bound = operator.error_bound(arguments)
    return max(error_fraction(g, w, bound) for g, w in zip(got, wanted, strict=True))


def leaves_of(operator: Operator, arguments: Arguments) -> tuple[str, ...]:
    """The arguments of this call that can get a gradient."""
    names = operator.differentiable
    names = names(arguments) if callable(names) else names
    present = (name for name in names if isinstance(arguments.get(name), torch.Tensor))
    return tuple(name for name in present if arguments[name].is_floating_point())


def cotangents(outputs: Iterable[torch.Tensor], seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.device, o.dtype) for o in outputs)
    return list(drawn)


def gradients(
    function: Callable[..., Any],
    arguments: Arguments,
    names: Iterable[str],
    grads: Iterable[torch.Tensor],
    create_graph: bool = False,
) -> dict[str, torch.Tensor]:
    """Vector-Jacobian product of every output with ``grads``, by argument name; an unused argument gets zeros."""
    leaves = {name: arguments[name].detach().clone().requires_grad_() for name in names}
    pairs = zip(tensors_of(function(**{**arguments, **leaves})), grads, strict=True)
    used = [(output, grad) for output, grad in pairs if output.requires_grad]
    outputs, chosen = [output for output, _ in used], [grad.to(output.dtype) for output, grad in used]
    found = torch.autograd.grad(
        outputs, list(leaves.values()), chosen, create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))


def gradient_fractions(operator: Operator, arguments: Arguments, names: tuple[str, ...]) -> Mapping[str, float]:
    """Error of each gradient against the reference's autograd in float64, as a fraction of what is allowed."""
    grads = cotangents(tensors_of(operator.function(**arguments)))
    got = gradients(operator.function, arguments, names, grads)
    wide = widened(arguments)
    want = gradients(operator.reference, wide, names, [grad.cpu().double() for grad in grads])
    bound = GRADIENT_FACTOR * operator.error_bound(arguments)
    return {name: error_fraction(got[name], want[name], bound, gradient=True) for name in names}


@dataclass
class CheckResult:
    """What one operator did at one CPU level."""

    operator: str
    level: str
    checks: int = 0
    worst: float = 0.0
    """Largest error as a fraction of what is allowed."""
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def add(self, label: str, fraction: float) -> None:
        self.checks += 1
        self.worst = max(self.worst, fraction)
        if not fraction <= 1.0:
            self.failures.append(f"{label}: error is {fraction:.3g} of what is allowed")


def check(op: str | None = None) -> list[CheckResult]:
    """Values at every CPU level this machine has and gradients, on all small and edge cases."""
    results: list[CheckResult] = []
    for operator in selected(op):
        levels = {level: CheckResult(operator.name, level) for level in _library.levels()}
        for case in operator.cases_of("small", "edge"):
            for dtype in case.dtypes:
                _check_case(operator, case, dtype, levels)
        results += levels.values()
    return results


def _check_case(operator: Operator, case: Case, dtype: torch.dtype, levels: Mapping[str, CheckResult]) -> None:
    arguments = case.build(dtype)
    wanted = expected(operator, arguments)
    label = f"{case.label} {str(dtype).removeprefix('torch.')}"
    for level, result in levels.items():
        start = time.perf_counter()
        with _library.forced_isa(level):
            result.add(label, value_fraction(operator, arguments, wanted))
            names = leaves_of(operator, arguments)
            if names and dtype == torch.float32:
                for name, fraction in gradient_fractions(operator, arguments, names).items():
                    result.add(f"{label}, gradient of {name}", fraction)
        result.seconds += time.perf_counter() - start
