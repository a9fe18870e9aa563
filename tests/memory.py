"""Memory as kernels really get it: full of old data, shifted, strided, with neighbours that must not be touched."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from sylvester.ops._spec import RawCall

M_PERTURB = -6  # mallopt(3): glibc fills what it hands out
FILL_WITH_ONES = 0x100  # glibc xors the low byte with 0xFF: all ones, a NaN in every float dtype
GUARD = 67
"""Elements kept on either side of a tensor to see what is written, or read, outside of it; odd, so it also shifts."""
SENTINEL = 77.0


@contextmanager
def poisoned() -> Iterator[None]:
    """Fresh memory, torch's and the library's own, is full of NaN inside the block.

    Now and then glibc serves up to 1 KiB from its thread cache without filling it, so a caller repeats what it tests.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("this C library has no mallopt to poison fresh memory with")
    libc.mallopt(M_PERTURB, FILL_WITH_ONES)
    try:
        if not all(torch.empty(size).isnan().all() for size in (1000, 1 << 20)):
            pytest.fail("fresh memory is not poisoned: the test would prove nothing")
        yield
    finally:
        libc.mallopt(M_PERTURB, 0)


def guarded(tensor: torch.Tensor, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A contiguous copy inside a larger buffer, and that buffer."""
    size = tensor.numel() + 2 * GUARD
    buffer = torch.full((size,), fill if tensor.is_floating_point() else int(SENTINEL), dtype=tensor.dtype)
    view = buffer[GUARD : GUARD + tensor.numel()].view(tensor.shape)
    return view.copy_(tensor.detach()), buffer


def written_arguments(call: RawCall) -> tuple[int, ...]:
    """Positions of the arguments that the operator's schema says it writes."""
    declared = call.overload._schema.arguments
    return tuple(i for i, argument in enumerate(declared) if argument.alias_info and argument.alias_info.is_write)


def assert_writes_inside(call: Callable[..., Any], arguments: tuple[Any, ...], written: tuple[int, ...]) -> None:
    """The call writes inside the arguments at positions ``written`` only."""
    changed, buffers = list(arguments), []
    for position in written:
        changed[position], buffer = guarded(arguments[position], SENTINEL)
        buffers.append(buffer)
    call(*changed)
    for buffer in buffers:
        assert (buffer[:GUARD] == SENTINEL).all(), "wrote before the start"
        assert (buffer[-GUARD:] == SENTINEL).all(), "wrote past the end"


def _every_second(tensor: torch.Tensor) -> torch.Tensor:
    doubled = torch.repeat_interleave(tensor, 2, dim=-1)
    if tensor.is_floating_point():
        doubled[..., ::2] = torch.nan
    return doubled[..., 1::2]


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "shifted inside NaN": lambda t: guarded(t, torch.nan)[0],
    "every second element": lambda t: _every_second(t) if t.dim() else t,
    "last axis outermost": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() else t,
    "first axes swapped": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1) if t.dim() > 2 else t,
}
"""The same values in another place of memory."""
