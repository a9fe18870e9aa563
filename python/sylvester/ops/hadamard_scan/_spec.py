"""What the operator states about itself: errors allowed, costs counted, rivals, raw calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import hadamard_transform as transform
from .._spec import Arguments, Operator, RawCall, register
from ._basis import BASIS_LAUNCHERS
from ._basis_cases import BASIS_CASES, BASIS_MISUSES, basis_calls
from ._cases import CASES
from ._check import ACTIVATIONS, check
from ._function import hadamard_scan
from ._misuses import MISUSES
from ._reference import drives, reference
from ._registration import LAUNCHERS


def _flat(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The function with the pair ``readout`` as two arguments: a case holds its tensors by name."""

    @wraps(function)
    def call(
        *arguments: Any, readout_weight: Tensor | None = None, readout_bias: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        readout = None if readout_weight is None else (readout_weight, readout_bias)
        return function(*arguments, readout=readout, **options)

    return call


def _raw_calls(a: Arguments) -> list[RawCall]:
    if a.get("plan") == "basis":
        return basis_calls(a)
    last_only, reverse, batch_first = (a.get(name, False) for name in ("last_only", "reverse", "batch_first"))
    drive, weight, sign, bias, h0 = (a.get(name) for name in ("drive", "weight", "sign", "bias", "h0"))
    lengths, act_bias = a.get("lengths"), a.get("act_bias")
    read, shift = a.get("readout_weight"), a.get("readout_bias")
    assert drive is not None and sign is not None
    row_axis = 0 if batch_first else 1
    block = check(drive, weight, sign, bias, h0, a.get("block_size"), row_axis)
    options = (block, ACTIVATIONS[a.get("activation", "identity")])
    vectors = (lengths, read, shift, act_bias)
    scan = RawCall(
        "hadamard_scan", (drive, weight, sign, bias, h0, *vectors, *options, last_only, reverse, batch_first, True)
    )
    output, last, checkpoints = scan.overload(*scan.arguments)
    grads, arrays = (
        (None if last_only and read is None else output, last),
        (drive, weight, sign, bias, h0, lengths, read, act_bias),
    )
    flags = (*options, last_only, reverse, batch_first, drive.is_floating_point(), weight is not None, True)
    calls = [scan, RawCall("hadamard_scan_backward", (*grads, *arrays, None, last, checkpoints, *flags))]
    if not last_only and read is None and output.dtype == last.dtype:
        calls.append(RawCall("hadamard_scan_backward", (*grads, *arrays, output, last, checkpoints, *flags)))
    if drive.shape[1 - row_axis]:
        first = drive.select(1 - row_axis, 0)
        calls.append(RawCall("hadamard_step", (first, weight, sign, bias, last, act_bias, *options)))
    return calls


def _rows(a: Arguments) -> tuple[dict[str, int], tuple[int, ...]]:
    axis = 0 if a.get("batch_first") else 1
    inside = {"drive": axis} | {name: 0 for name in ("h0", "lengths") if name in a}
    return inside, (0 if a.get("last_only") else axis, 0)


def _outputs(a: Arguments) -> int:
    return (a["readout_weight"] if "readout_weight" in a else a["sign"]).shape[0]


def _io(a: Arguments) -> torch.dtype:
    return (a["weight"] if "weight" in a else a["drive"]).dtype


def _steps(a: Arguments) -> int:
    return a["drive"].shape[1 if a.get("batch_first") else 0]


def _inputs(a: Arguments) -> int:
    return a["weight"].shape[1] if "weight" in a and a["drive"].is_floating_point() else 0


def _stages(a: Arguments) -> int:
    return (a.get("block_size") or a["sign"].shape[0]).bit_length() - 1


def _error_bound(a: Arguments) -> float:
    # A step rounds once a stage, then for the scale, z and b, and sqrt(I) for the products of a fused input. It keeps
    # the length of earlier errors, so T of them add like random numbers, while the state itself grows like sqrt(T) or
    # faster: relative to the largest state, what is left is one step's error and the drift of the first few.
    # Each output of a read-out adds its D products in turn.
    products = sqrt(a["sign"].shape[0]) if "readout_weight" in a else 0
    return (_stages(a) + 6 + sqrt(_inputs(a)) + products) * sqrt(_steps(a) + 1) * 2.0**-24


def _bytes_moved(a: Arguments) -> int:
    read = sum(value.numel() * value.element_size() for value in a.values() if isinstance(value, Tensor))
    rows, width = a["drive"].shape[0 if a.get("batch_first") else 1], a["sign"].shape[0]
    return read + rows * (4 * width + (1 if a.get("last_only") else _steps(a)) * _outputs(a) * _io(a).itemsize)


def _operations(a: Arguments) -> int:
    rows = a["drive"].shape[0 if a.get("batch_first") else 1]
    transformed, width = rows, a["sign"].shape[0]
    if a.get("plan") == "basis":
        tokens = not a["drive"].is_floating_point()
        transformed = a["weight"].shape[0 if tokens else 1] + ("bias" in a)
    products = _inputs(a) + (_outputs(a) if "readout_weight" in a else 0)
    return _steps(a) * width * (transformed * (_stages(a) + 3) + rows * 2 * products)


def _loop(a: Arguments, step: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
    """The recurrence as a user would write it in PyTorch: one GEMM for all inputs, then a loop over time."""
    drive, weight, bias, last_only = a["drive"], a.get("weight"), a.get("bias"), a.get("last_only", False)
    readout, relu = a.get("readout_weight"), a.get("activation") == "relu"
    time_axis = 1 if a.get("batch_first") else 0

    def run() -> Tensor:
        z = drives(drive, weight, bias, _io(a)).unbind(time_axis)
        h = torch.zeros_like(z[0]) if a.get("h0") is None else a["h0"].to(z[0].dtype)
        states = []
        for z_t in reversed(z) if a.get("reverse") else z:
            h = step(h, z_t).relu_() if relu else step(h, z_t)
            if not last_only:
                states.append(h)
        if last_only:
            return h
        output = torch.stack(states[::-1] if a.get("reverse") else states, time_axis)
        return output if readout is None else functional.linear(output.relu(), readout, a["readout_bias"])

    return run


def _eager_addmm(a: Arguments) -> Callable[[], Tensor]:
    width = a["sign"].shape[0]
    eye = torch.eye(width, dtype=torch.float64, device=a["sign"].device)
    transposed = (transform.reference(eye, block_size=a.get("block_size")) * a["sign"]).to(_io(a))
    return _loop(a, lambda h, z_t: torch.addmm(z_t, h, transposed))


def _eager_transform(a: Arguments) -> Callable[[], Tensor]:
    run = partial(transform.hadamard_transform, block_size=a.get("block_size"), post=a["sign"])
    return _loop(a, lambda h, z_t: run(h) + z_t)


SPEC = register(
    Operator(
        name="hadamard_scan",
        function=_flat(hadamard_scan),
        reference=_flat(reference),
        cases=(*CASES, *BASIS_CASES),
        misuses=(*MISUSES, *BASIS_MISUSES),
        raw_calls=_raw_calls,
        differentiable=("drive", "sign", "bias", "h0", "weight", "readout_weight", "readout_bias", "act_bias"),
        error_bound=_error_bound,
        bytes_moved=_bytes_moved,
        operations=_operations,
        baselines={"eager addmm loop": _eager_addmm, "eager loop over hadamard_transform": _eager_transform},
        launchers=LAUNCHERS | BASIS_LAUNCHERS,
        rows=_rows,
    )
)
