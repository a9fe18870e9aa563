"""The calls that tests, checks and benchmarks run, the errors allowed and the costs counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._dispatch import LARGEST_BLOCK_CUDA
from .._hadamard import factor_of
from .._spec import Arguments, Case, Make, Misuse, Operator, RawCall, register
from ._operator import LAUNCHERS, check, hadamard_transform, reference, widened


def _case(
    label: str,
    shape: tuple[int, ...],
    view: Callable[[Tensor], Tensor] = Tensor.contiguous,
    vectors: str = "",
    **options: Any,
) -> Case:
    spec = {name: options.pop(name) for name in ("kind", "dtypes") if name in options}

    def make(m: Make) -> Arguments:
        x = view(m.normal(*shape))
        return {"x": x, **{name: m.normal(x.shape[-1]) for name in vectors.split()}, **options}

    return Case(label, make, **spec)


def _raw_calls(a: Arguments) -> list[RawCall]:
    x = a["x"]
    block = check(x, a.get("block_size"), None, None, None, False)
    rest = (block, a.get("scale"), widened(a.get("pre"), x), widened(a.get("post"), x), a.get("transpose", False))
    fresh = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    return [
        RawCall("hadamard_transform", (x, *rest)),
        RawCall("hadamard_transform_", (x.detach().clone(memory_format=torch.contiguous_format), *rest)),
        RawCall("hadamard_transform_out", (x, *rest, fresh)),
    ]


def _block(a: Arguments) -> int:
    return a.get("block_size") or a["x"].shape[-1]


def _stages(a: Arguments) -> int:
    """Roundings, one after the other, that an output is made with; about its operations, too."""
    m = factor_of(_block(a))
    return (_block(a) // m).bit_length() - 1 + {1: 0, 344: 25}.get(m, m // 8 + 5)


def _rows(a: Arguments) -> tuple[dict[str, int], tuple[int, ...]]:
    return ({"x": 0}, (0,)) if a["x"].dim() > 1 else ({}, (0,))


def _dense(a: Arguments) -> Callable[[], Tensor]:
    x, block = a["x"], _block(a)
    if block > 8192:
        raise NotImplementedError(f"a dense {block} x {block} matrix is out of proportion")
    matrix = reference(torch.eye(block, dtype=x.dtype, device=x.device), scale=a.get("scale"))
    return lambda: x.unflatten(-1, (-1, block)) @ matrix


_IN_L2 = [(256, 256), (64, 1024), (16, 4096)]
_IN_DRAM = [(1 << 26 - k, 1 << k) for k in (8, 10, 12, 20)]
_TIMED: dict[str, Any] = {"kind": "benchmark", "dtypes": (torch.float32, torch.bfloat16)}


def _misuse(label: str, match: str, error: type[Exception] = ValueError, /, *, x: Any = None, **rest: Any) -> Misuse:
    """A (2, 24) input in blocks of 8 with the named arguments replaced; where one is a function, by its result."""

    def make(m: Make) -> Arguments:
        given = {"x": m.normal(2, 24) if x is None else x, "block_size": 8, **rest}
        return {name: value(m) if callable(value) else value for name, value in given.items()}

    return Misuse(label, make, match, error)


MISUSES = (
    _misuse("no matrix", r"width 50 .* got 50; the largest that fits is 2$", x=lambda m: m.normal(50), block_size=None),
    _misuse("no factor", r"got 11136; the largest that fits is 384", x=lambda m: m.normal(11136), block_size=None),
    _misuse("block does not divide", r"divide the width 24 .* got 16; the largest that fits is 24", block_size=16),
    _misuse("block is no matrix", r"\(12, 20, 28, \.\.\. up to 344\), got 6;", block_size=6),
    _misuse("transpose is no bool", r"transpose must be a bool, got int 1", TypeError, transpose=1),
    _misuse("block of 0", r"block_size .* got 0", block_size=0),
    _misuse("negative block", r"block_size .* got -8", block_size=-8),
    _misuse("block too large", r"at most 1048576", x=lambda m: torch.zeros(1 << 21), block_size=None),
    _misuse("float block", r"block_size must be an int or None, got float 8\.0", TypeError, block_size=8.0),
    _misuse("x is a list", r"x must be .* got list", TypeError, x=[1.0, 2.0]),
    _misuse("x is integer", r"x must be .* got a int64 tensor", TypeError, x=lambda m: m.integers(9, 2, 24)),
    _misuse("x is bool", r"x must be .* got a bool tensor", TypeError, x=lambda m: m.normal(2, 24) > 0),
    _misuse("x is complex", r"x must be .* got a complex64", TypeError, x=lambda m: m.normal(2, 24) * 1j),
    _misuse(
        "x is sparse", r"x must be a dense .* torch.sparse_coo", TypeError, x=lambda m: m.normal(2, 24).to_sparse()
    ),
    _misuse("x has no axis", r"x must have at least one dimension.*\(\)", x=lambda m: m.normal()),
    _misuse("scale is nan", r"scale must be finite .* got nan", scale=float("nan")),
    _misuse("scale is infinite", r"scale must be finite .* got inf", scale=float("inf")),
    _misuse("scale overflows float32", r"scale must be finite in torch.float32, got 1e\+39", scale=1e39),
    _misuse("scale is a tensor", r"scale must be a float or None", TypeError, scale=lambda m: m.normal(1)),
    _misuse("pre is too short", r"pre must have shape \(24,\).* got \(8,\)", pre=lambda m: m.normal(8)),
    _misuse("post has two axes", r"post must have shape \(24,\).* got \(1, 24\)", post=lambda m: m.normal(1, 24)),
    _misuse("pre is integer", r"pre must be .* got a int64", TypeError, pre=lambda m: m.integers(2, 24)),
    _misuse("post elsewhere", r"post must be on .* cpu, got meta", post=lambda m: torch.ones(24, device="meta")),
    _misuse("out has another shape", r"out must have the shape.*\(24, 2\)", out=lambda m: m.normal(24, 2)),
    _misuse("out has another dtype", r"out must have .* float64", out=lambda m: m.normal(2, 24).double()),
    _misuse("out elsewhere", r"out must have .* on meta", out=lambda m: torch.empty(2, 24, device="meta")),
    _misuse("out is expanded", r"out must not overlap itself", out=lambda m: m.normal(1, 24).expand(2, 24)),
    _misuse("out needs grad", r"writing into out", RuntimeError, out=lambda m: m.normal(2, 24).requires_grad_()),
)

SPEC = register(
    Operator(
        name="hadamard_transform",
        function=hadamard_transform,
        reference=reference,
        cases=(
            *(_case(f"5 rows of {n}", (5, n)) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)),
            *(_case(f"{q} blocks of {n}", (3, q * n), block_size=n) for q, n in ((3, 4), (5, 16), (12, 1), (3, 128))),
            *(_case(f"5 rows of {n}", (5, n)) for n in (28, 44, 768)),
            *(_case(f"{q} blocks of {n}", (2, q * n), block_size=n) for q, n in ((3, 12), (2, 80), (2, 52), (1, 344))),
            _case("transposed factor, pre and post", (3, 92), vectors="pre post", transpose=True),
            _case("36 · 16, post", (3, 1152), vectors="post", block_size=576),
            _case("344 · 32", (2, 11008)),
            _case("344 · 32, transposed, post", (2, 11008), vectors="post", transpose=True),
            _case("one row, no leading axis", (64,)),
            _case("three leading axes", (2, 3, 5, 32)),
            _case("no rows", (0, 64)),
            _case("no columns", (3, 0), block_size=4),
            _case("±1 matrix", (7, 256), scale=1.0),
            _case("negative scale", (3, 48), block_size=16, scale=-0.37),
            _case("pre", (5, 128), vectors="pre"),
            _case("post", (5, 48), vectors="post", block_size=16),
            _case("pre and post", (33, 1024), vectors="pre post"),
            _case("pre and post, odd blocks", (4, 36), vectors="pre post", block_size=4, scale=0.5),
            _case("transposed", (64, 9), Tensor.t, vectors="pre post"),
            _case("every second column", (6, 128), lambda t: t[:, ::2]),
            _case("every second row", (9, 3, 32), lambda t: t[::2]),
            _case("expanded rows", (1, 64), lambda t: t.expand(7, 64)),
            _case("expanded columns", (7, 1), lambda t: t.expand(7, 64)),
            _case("shifted by one element", (5 * 64 + 1,), lambda t: t[1:].view(5, 64), vectors="post"),
            _case("rows one element apart from aligned", (5, 65), lambda t: t[:, 1:]),
            _case("2^16", (2, 1 << 16), kind="edge"),
            _case("2^20", (1, 1 << 20), kind="edge", dtypes=(torch.float32,)),
            _case("2^20 at the GPU's block", (1, 1 << 20), kind="edge", block_size=LARGEST_BLOCK_CUDA),
            *(_case(f"{rows} x {n} in L2", (rows, n), **_TIMED) for rows, n in _IN_L2),
            *(_case(f"{rows} x {n} in DRAM", (rows, n), **_TIMED) for rows, n in _IN_DRAM),
        ),
        misuses=MISUSES,
        raw_calls=_raw_calls,
        differentiable=("x", "pre", "post"),
        # Every stage rounds once, and so do scale, pre and post. Rounding errors of a stage are spread over the row by
        # the stages that follow, so they add like random numbers; the sum itself is a bound that needs no statistics
        # for the sizes tested.
        error_bound=lambda a: (_stages(a) + 4) * 2.0**-24,
        bytes_moved=lambda a: 2 * a["x"].numel() * a["x"].element_size(),
        operations=lambda a: a["x"].numel() * _stages(a),
        baselines={"dense matmul": _dense},
        launchers=LAUNCHERS,
        rows=_rows,
    )
)
