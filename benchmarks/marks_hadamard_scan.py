"""Marks of hadamard_scan: against the eager loop, against copying its drive, in training, and how far gradients err."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sylvester.layers.hadam_rnn import HadamRNN
from sylvester.machine import keep_freed_memory
from sylvester.ops._spec import OPERATORS, Arguments, Make
from sylvester.ops.hadamard_scan import hadamard_scan, hadamard_step
from sylvester.timing import measure

from . import training_step, updates
from .checks import cotangents, gradients, tensors_of
from .marks import Mark, arguments_of, fastest, median_of_rounds, ratio

NAME = "hadamard_scan"
LOOP = "eager addmm loop"


def _over_loop(label: str) -> float:
    """How many times as long the eager loop takes."""
    a = arguments_of(NAME, label)
    with torch.inference_mode():
        loop = OPERATORS[NAME].baselines[LOOP](a)
        return ratio(loop, lambda: hadamard_scan(**a), samples=7)


def _of_copy(label: str) -> float:
    a = arguments_of(NAME, label)
    with torch.inference_mode():
        return ratio(lambda: hadamard_scan(**a), partial(torch.ops.sylvester._fresh_copy, a["drive"]))


def _layer_over_loop() -> float:
    """B = 1, D = 128, T = 1000: the layer as it is called, against a GEMM for all inputs and a loop of addmm."""
    layer, x = HadamRNN(10, 128).eval(), torch.randn(1000, 1, 10)
    with torch.inference_mode():
        transposed, weight, bias = layer.weight.t().contiguous(), layer.weight_ih.clone(), layer.bias

        def loop() -> Tensor:
            h, states = torch.zeros(1, 128), []
            for z in functional.linear(x, weight, bias).unbind(0):
                h = torch.addmm(z, h, transposed)
                states.append(h)
            return torch.stack(states)

        return ratio(loop, lambda: layer(x), samples=9)


def _training_over_loop(label: str, plan: str) -> float:
    keep_freed_memory()  # else the pages that the loop frees are unmapped while ours is timed
    torch.set_num_threads(2)
    a = training_step.arguments(label)
    return ratio(training_step.eager(a), training_step.ours(a, plan), samples=3)


def _update(make: Callable[[], Callable[[], None]]) -> float:
    """Milliseconds, with freed memory kept, as training does."""
    keep_freed_memory()
    torch.set_num_threads(2)
    return measure({"update": make()}, samples=9, min_sample=0.05)["update"].median * 1e3


def _growth(module: str, name: str) -> int:
    """Peak bytes that a step or update adds, in a process of its own."""
    command = [sys.executable, "-m", f"sylvester.benchmarks.{module}", name]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _chunked_over_plain(reads_out: bool) -> float:
    """The plain scan on one thread over the chunked one on two, B = 1, D = 128: tokens in and nine outputs a step, or
    one input and the last state."""
    m = Make.seeded(0, torch.float32)
    tokens, table, sign = m.integers(10, 100_000, 1), m.normal(10, 128), m.signs(128)
    inputs, weight, readout = m.normal(100_000, 1, 1), m.normal(128, 1), (m.normal(9, 128), None)

    def run(plan: str, threads: int) -> None:
        torch.set_num_threads(threads)
        if reads_out:
            hadamard_scan(tokens, sign, weight=table, readout=readout, plan=plan)
        else:
            hadamard_scan(inputs, sign, weight=weight, last_only=True, plan=plan)

    with torch.inference_mode():
        return ratio(partial(run, "scan", 1), partial(run, "chunked", 2))


def _memory_of_loop(contender: str) -> float:
    """Peak memory that a training step adds, as a share of what the eager loop's adds."""
    return _growth("training_step", contender) / _growth("training_step", "eager")


def _step_call() -> float:
    """Microseconds of one hadamard_step at B = 1, D = 128."""
    m = Make.seeded(0, torch.float32)
    drive, sign, h = m.normal(1, 128), m.signs(128), m.normal(1, 128)
    with torch.inference_mode():
        return median_of_rounds(lambda: fastest({"step": lambda: hadamard_step(drive, sign, None, h)})["step"] * 1e6)


def _gradient_error(steps: int, dtype: torch.dtype) -> float:
    """Largest relative error of a gradient against float64, over sizes and numbers of blocks.

    The bias's is left to tests/test_hadamard_scan_gradients.py: for some signs its terms cancel almost entirely, and an
    error relative to what remains says nothing.
    """
    blocks = ((64, 1), (64, 4), (128, 1), (512, 1)) if steps > 10_000 else product((64, 128, 512), (1, 4))
    return max(_gradient_error_of(steps, dtype, block, count) for block, count in blocks)


def _gradient_error_of(steps: int, dtype: torch.dtype, block: int, blocks: int) -> float:
    """The truth is the operator's float64 instance, which the battery holds to the reference."""
    m, width = Make.seeded(block + blocks, dtype), block * blocks
    vectors = {"sign": m.signs(width), "bias": m.normal(width, dtype=torch.float32) / steps}
    h0 = m.normal(1, width, dtype=torch.float32)
    a: Arguments = {"drive": m.normal(steps, 1, 10), "weight": m.normal(width, 10), **vectors, "h0": h0}
    fixed: Arguments = {"block_size": block, "last_only": True}
    wide = {name: tensor.double() for name, tensor in a.items()}
    # The gradient of a 16-bit weight is rounded to 16 bits: only the float32 ones can be this exact.
    names = ("sign", "h0") + (("weight",) if dtype == torch.float32 else ())
    grads = cotangents(tensors_of(hadamard_scan(**wide, **fixed)))[:1]
    score: Callable[..., Any] = lambda **given: hadamard_scan(**given, **fixed)[1]  # noqa: E731
    got = gradients(score, a, names, grads)
    want = gradients(score, wide, names, grads)
    return max(float((got[n].double() - want[n]).abs().max() / want[n].abs().max()) for n in names)


def _marks() -> Iterator[Mark]:
    mark, at_least = partial(Mark, NAME), partial(Mark, NAME, at_most=False)
    given, wide = "given T=100 B=128 D=512", "given T=200 B=128 D=512"
    fused = "fused T=100 B=128 D=512 I=10 last_only bias"
    yield at_least(f"eager loop over ours, {given}", 35, partial(_over_loop, given), quick=True)
    yield at_least(f"eager loop over ours, {fused}", 80, partial(_over_loop, fused), quick=True)
    yield at_least("eager loop over HadamRNN, B=1 D=128 T=1000", 100, _layer_over_loop, quick=True)
    yield mark(f"ours over a copy of the drive, {wide}", 1.25, partial(_of_copy, wide), quick=True)
    for plan in ("scan", "basis"):
        trained = partial(_training_over_loop, training_step.LABEL, plan)
        yield at_least(f"eager training over ours, plan {plan}, two threads, {training_step.LABEL}", 60, trained)
        memory = partial(_memory_of_loop, "ours" if plan == "scan" else plan)
        yield mark(f"peak memory of training, plan {plan}, over the eager loop's", 1 / 50, memory)
    narrow, long = (f"basis fused {sizes} D=512 I=1 last_only bias" for sizes in ("T=200 B=128", "T=784 B=100"))
    yield at_least(f"eager loop over ours, {narrow}", 400, partial(_over_loop, narrow), quick=True)
    yield at_least(f"eager loop over ours, basis {fused}", 80, partial(_over_loop, f"basis {fused}"), quick=True)
    trained = partial(_training_over_loop, long, "basis")
    yield at_least(f"eager training over ours, two threads, {long}", 300, trained)
    digits, copy = partial(_update, updates.digits), partial(_update, updates.copy)
    yield mark("update of the permuted-digits model, two threads", 4.0, digits, "ms", quick=True)
    yield mark("update of the copy model, T=1000, two threads", 15.0, copy, "ms", quick=True)
    yield mark("peak memory that update adds", 64.0, lambda: _growth("updates", "copy") / 2**20, "MB")
    for what, reads_out in (("last state of 1 input", False), ("read-out of 9", True)):
        name = f"plain scan on one thread over chunked on two, T=100000 B=1 D=128, {what}"
        yield at_least(name, 2.5, partial(_chunked_over_plain, reads_out))
    for dtype in (torch.float32, torch.bfloat16):
        short = str(dtype).removeprefix("torch.")
        for steps, limit in ((1000, 5e-6), (100_000, 5e-5)):
            yield mark(f"gradient error, T={steps}, {short} drive", limit, partial(_gradient_error, steps, dtype))
    yield mark("hadamard_step, B=1 D=128, in inference_mode", 4.0, _step_call, "µs", quick=True)


MARKS = tuple(_marks())
