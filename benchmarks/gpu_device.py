"""The device that benchmarks/gpu.py works on: kernels of this checkout, random inputs, a timer."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FLUSH_BYTES = 1 << 30
Calls = dict[str, Callable[[], Any]]
"""Candidates by name; the first is the floor, or what the others are compared with."""


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
            load("._interpreter").convert_one_element_arrays()
        self.transforms, self.scans = load(".hadamard_transform"), load(".hadamard_scan")
        self.backwards = load("._hadamard_scan_adjoint")
        self.flushed = None if tiny else torch.empty(FLUSH_BYTES // 4, device=self.device)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, device=self.device).to(dtype)

    def signs(self, width: int) -> Tensor:
        return torch.randint(0, 2, (width,), device=self.device) * 2.0 - 1.0

    def drive(self, kind: str, steps: int, rows: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """(drive, weight); ``kind`` is given, tokens, or the number of inputs of a fused drive."""
        if kind == "given":
            return self.normal(steps, rows, width, dtype=dtype), None
        if kind == "tokens":
            return torch.randint(0, 50, (steps, rows), device=self.device), self.normal(50, width, dtype=dtype)
        inputs = int(kind)
        return self.normal(steps, rows, inputs, dtype=dtype), self.normal(width, inputs, dtype=dtype) / inputs**0.5

    def time(self, calls: Calls, samples: int) -> dict[str, list[float]]:
        """Seconds of every sample."""
        ready = {name: self._captured(call) for name, call in calls.items()}
        taken: dict[str, list[float]] = {name: [] for name in calls}
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
