"""One training step of the scan and of the eager loop; run as a module it prints how much memory a step adds.

python -m sylvester.benchmarks.training_step ours|basis|eager      peak resident bytes beyond the inputs
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from sylvester.ops._spec import OPERATORS, Arguments
from sylvester.ops.hadamard_scan import hadamard_scan
from sylvester.ops.hadamard_transform import reference as transform

LABEL = "fused T=784 B=100 D=512 I=10 last_only bias"
LEARNED = ("sign", "bias", "weight")

Contender = Callable[[Arguments], Callable[[], tuple[Tensor, ...]]]


def arguments(label: str = LABEL) -> Arguments:
    """Inputs of a benchmark case, its parameters ready to be learned."""
    (case,) = (case for case in OPERATORS["hadamard_scan"].cases if case.label == label)
    built = case.build(torch.float32)
    return built | {name: built[name].requires_grad_() for name in LEARNED}


def ours(a: Arguments, plan: str = "scan") -> Callable[[], tuple[Tensor, ...]]:
    def step() -> tuple[Tensor, ...]:
        output, _ = hadamard_scan(**a | {"plan": plan})
        return torch.autograd.grad(output.sum(), [a[name] for name in LEARNED])

    return step


def eager(a: Arguments) -> Callable[[], tuple[Tensor, ...]]:
    """A GEMM for all inputs, then a loop over unbind (indexing would allocate a full gradient each step)."""
    width = a["sign"].shape[0]
    matrix = transform(torch.eye(width))

    def step() -> tuple[Tensor, ...]:
        transposed = matrix * a["sign"]
        h = torch.zeros(a["drive"].shape[1], width)
        for z in functional.linear(a["drive"], a["weight"], a["bias"]).unbind(0):
            h = torch.addmm(z, h, transposed)
        return torch.autograd.grad(h.sum(), [a[name] for name in LEARNED])

    return step


def resident(field: str) -> int:
    """Bytes of VmRSS, or of its peak VmHWM, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main(contender: str) -> None:
    torch.set_num_threads(2)
    contenders: dict[str, Contender] = {"ours": ours, "basis": partial(ours, plan="basis"), "eager": eager}
    step = contenders[contender](arguments())
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of importing
    before = resident("VmRSS")
    step()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1])
