"""The device that benchmarks/gpu.py works on: kernels of this checkout, random inputs, a timer."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FLUSH_BYTES = 1 << 30
Calls = dict[str, Callable[[], Any]]
"""Candidates by name; the first is the floor, or what the others are compared with."""
Group = tuple[str, Callable[[], Calls]]
"""A label, and what makes the inputs when it is the group's turn."""
Check = tuple[str, Callable[[], Iterator[tuple[str, float]]]]
"""A label, and what gives each error as a fraction of what is allowed."""


class Bench:
    """The kernels of this checkout on one device; ``tiny``: sizes for the interpreter."""

    def __init__(self, tiny: bool) -> None:
        folder = Path(__file__).parents[1] / "kernels"
        spec = importlib.util.spec_from_file_location(
            "checkout_kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
        load = partial(import_module, package=spec.name)
        self.tiny, self.device = tiny, torch.device("cpu" if tiny else "cuda")
        if tiny:
            load("._interpreter").repair()
        self.transforms, self.scans = load(".hadamard_transform"), load(".hadamard_scan")
        self.backwards, self.codes = load("._hadamard_scan_adjoint"), load(".hadamard_quantize")
        self.lowbit, self.products = load(".lowbit_matmul"), load("._lowbit_product")
        self.bases, self.readouts = load(".hadamard_basis"), load("._readout")
        self.flushed: Tensor | None = None

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, device=self.device).to(dtype)

    def signs(self, width: int) -> Tensor:
        return torch.randint(0, 2, (width,), device=self.device) * 2.0 - 1.0

    def drive(self, kind: str, steps: int, rows: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """(drive, weight); ``kind`` is given, tokens, or the number of inputs of a fused drive."""
        if kind == "given":
            return self.normal(steps, rows, width, dtype=dtype), None
        if kind == "tokens":
            tokens = 5 if self.tiny else 50
            return torch.randint(0, tokens, (steps, rows), device=self.device), self.normal(tokens, width, dtype=dtype)
        inputs = int(kind)
        return self.normal(steps, rows, inputs, dtype=dtype), self.normal(width, inputs, dtype=dtype) / inputs**0.5

    def time(self, calls: Calls, samples: int) -> dict[str, list[float]]:
        """Seconds of every sample; a candidate that the chip cannot run is named and left out."""
        if self.flushed is None and not self.tiny:
            self.flushed = torch.empty(FLUSH_BYTES // 4, device=self.device)
        ready = {}
        for name, call in calls.items():
            try:
                ready[name] = self._captured(call)
            except Exception as error:
                print(f"  {name}: {type(error).__name__}: {str(error)[:200]}")
        taken: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(samples):
            for name, call in ready.items():
                taken[name].append(self._sample(call))
        return taken

    def _captured(self, call: Callable[[], Any]) -> Callable[[], Any]:
        if self.tiny:
            return call
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def _sample(self, call: Callable[[], Any]) -> float:
        if self.flushed is None:
            began = time.perf_counter()
            call()
            return time.perf_counter() - began
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.flushed.fill_(1.0)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def planned(modules: list[Any], plan: Any, call: Callable[[], Any], attribute: str = "plan") -> None:
    """Run ``call`` with another plan: one is read when the launch is captured."""
    kept = [getattr(module, attribute) for module in modules]
    try:
        for module in modules:
            setattr(module, attribute, lambda *_: plan)
        call()
    finally:
        for module, before in zip(modules, kept, strict=True):
            setattr(module, attribute, before)
