"""Kernels that start before the kernel ahead of them is done, on Hopper and later chips (dependent launch).

A kernel launched with ``early`` calls ``open_door`` first, so that the one after it may start where programs fit, and
``wait`` before it reads what may just have been written, or writes anything. What it reads before the wait must be old:
``settled`` weights, which a launch without EARLY has read since they were last written. That launch started when
their writer was done, and every later one starts after it.
"""

from __future__ import annotations

import weakref
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from . import _blocks as blocks

_settled: dict[int, tuple[weakref.ref[Tensor], int]] = {}
"""id -> the tensor and its version when a kernel first read it."""


@triton.jit
def open_door(EARLY: tl.constexpr):
    if EARLY:
        gdc_launch_dependents()


@triton.jit
def wait(EARLY: tl.constexpr):
    if EARLY:
        gdc_wait()


def early(weights: Tensor) -> dict[str, bool]:
    """Launch options of a kernel that reads ``weights`` before it waits: EARLY from the second launch on."""
    if able(weights.device) and not weights.is_inference() and settled(weights):
        return {"EARLY": True, "launch_pdl": True}
    return {"EARLY": False}


def settled(weights: Tensor) -> bool:
    """Whether this was asked before, since the last time they were written to; what is only recorded does not count."""
    name, version = id(weights), weights._version
    found = _settled.get(name)
    if found is not None and found[0]() is weights and found[1] == version:
        return True
    if not torch.cuda.is_current_stream_capturing():
        _settled[name] = weakref.ref(weights, lambda gone: _forget(name, gone)), version
    return False


def _forget(name: int, gone: weakref.ref[Tensor]) -> None:
    """Another tensor may have the identity by now."""
    if name in _settled and _settled[name][0] is gone:
        del _settled[name]


@cache
def able(device: torch.device) -> bool:
    return device.type == "cuda" and not blocks.amd() and torch.cuda.get_device_capability(device) >= (9, 0)
