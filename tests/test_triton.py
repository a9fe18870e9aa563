"""What the Triton kernels compute, proved in Triton's interpreter: values, dtypes, strides, edges. No GPU is needed.

The launchers take the arguments of the raw operators, so each raw call of each case goes through both; float64 on the
CPU says what is right. Speed is no subject here (test_aot.py, benchmarks/gpu.py).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import memory
from launched import assert_close, launch, launched_calls, wanted
from sylvester import ops  # noqa: F401  (registers the operators)
from sylvester.benchmarks import checks
from sylvester.ops._spec import OPERATORS, Arguments, Case, Make, Operator, RawCall
from sylvester.ops.hadamard_scan._registration import Scan

triton = pytest.importorskip("triton", reason="triton is not installed")
if not triton.knobs.runtime.interpret:
    reason = "a GPU is present, so Triton compiles; TRITON_INTERPRET=1 pytest tests/test_triton.py runs these"
    pytest.skip(reason, allow_module_level=True)


from sylvester.kernels import _drive, _interpreter, _readout, hadamard_scan  # noqa: E402

_interpreter.repair()

LONGEST, WIDEST = 66, 512
"""Steps and states: larger scans run in float32 only, each step takes the interpreter milliseconds."""
MOST_DRIVEN, FEW_ROWS = 12_000, 5
"""Elements of a drive: larger ones have rows for the tiles of a CPU, of which the interpreter gets a few."""
SIXTEEN_BITS = (torch.bfloat16, torch.float16)


def _calls() -> list[Any]:
    """Every case, two of three in float32 and the third in a 16-bit dtype: a call takes the interpreter seconds."""
    found = []
    for operator in OPERATORS.values():
        for i, case in enumerate(operator.cases_of("small", "edge")):
            arguments = case.build(torch.float32)
            drive, width = arguments.get("drive", torch.empty(0)), len(arguments.get("sign", ()))
            quick = max(drive.shape[:2], default=0) <= LONGEST and width <= WIDEST
            dtype = SIXTEEN_BITS[i // 3 % 2] if quick and i % 3 == 1 else torch.float32
            label = f"{operator.name}-{case.label}-{str(dtype).removeprefix('torch.')}"
            found.append(pytest.param(operator, case, dtype, id=label))
    return found


def _with_few_rows(operator: Operator, arguments: Arguments) -> Arguments:
    if operator.rows is None or arguments.get("drive", torch.empty(0)).numel() <= MOST_DRIVEN:
        return arguments
    axes, _ = operator.rows(arguments)
    return arguments | {name: arguments[name].narrow(axis, 0, FEW_ROWS) for name, axis in axes.items()}


@pytest.mark.parametrize(("operator", "case", "dtype"), _calls())
def test_same_as_float64(operator: Operator, case: Case, dtype: torch.dtype) -> None:
    arguments = _with_few_rows(operator, case.build(dtype))
    bound = checks.GRADIENT_FACTOR * operator.error_bound(arguments)
    for call, given in launched_calls(operator, arguments):
        try:
            results = launch(operator, given)
        except ValueError as error:
            assert "at most 32768 on a GPU" in str(error)
            continue
        like = call.overload(*[a.clone() if isinstance(a, torch.Tensor) else a for a in call.arguments])
        for i, (got, want) in enumerate(zip(results, wanted(call), strict=True)):
            assert_close(got, want, bound, f"{call.name}, result {i}")
        for got, meta in zip(results, checks.tensors_of(like) if like is not None else (), strict=False):
            assert (got.dtype, got.stride()) == (meta.dtype, meta.stride()), call.name


def scan(kind: str, steps: int, rows: int, width: int, block: int, inputs: int = 3, **options: int) -> Scan:
    """Arguments of the raw scan. options: the flags, lengths, outputs of a read-out, the activation."""
    m = Make.seeded(3, torch.float32)
    drive, weight = m.normal(steps, rows, width), None
    if kind == "fused":
        drive, weight = m.normal(steps, rows, inputs), m.normal(width, inputs)
    elif kind == "tokens":
        drive, weight = m.integers(inputs, steps, rows), m.normal(inputs, width)
    vectors = (m.signs(width), m.normal(width), m.normal(rows, width))
    lengths = m.integers(steps + 1, rows) if options.get("lengths") else None
    outputs, activation = options.get("outputs", 0), options.get("activation", 0)
    read = (m.normal(outputs, width) / width**0.5, m.normal(outputs)) if outputs else (None, None)
    act_bias = m.normal(width) / 4 if activation == 2 else None
    flags = (bool(options.get(name)) for name in ("last_only", "reverse", "batch_first"))
    return Scan(drive, weight, *vectors, lengths, *read, act_bias, block, activation, *flags, True)


def backward_of(a: Scan) -> tuple[Any, ...]:
    """Arguments of the raw backward with states to rebuild, from the CPU."""
    output, last, checkpoints = torch.ops.sylvester.hadamard_scan(*a)
    options = (a.block_size, a.activation, a.last_only, a.reverse, a.batch_first, True, True, True)
    return (output, last, *a[:7], a.act_bias, None, last, checkpoints, *options)


def check_scan(a: Scan) -> None:
    """Forward and backward with rebuilt states."""
    operator = OPERATORS["hadamard_scan"]
    for call in (RawCall("hadamard_scan", tuple(a)), RawCall("hadamard_scan_backward", backward_of(a))):
        for i, (got, want) in enumerate(zip(launch(operator, call), wanted(call), strict=True)):
            assert_close(got, want, 2e-5, f"{call.name}, result {i}")


@pytest.mark.parametrize(
    ("kind", "inputs", "reverse"),
    [("fused", 20, False), ("fused", 2, True), ("tokens", 5, True), ("tokens", 300, False)],
)
def test_chunks_of_steps(kind: str, inputs: int, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an array (steps, B, D) has to exist it is made for whole checkpoint intervals at a time."""
    monkeypatch.setattr(_drive, "CHUNK_BYTES", 0)
    check_scan(scan(kind, 66, 2, 8, 4, inputs, reverse=reverse))
    check_scan(scan(kind, 66, 3, 8, 4, inputs, reverse=reverse, lengths=True, outputs=5, activation=1))


@pytest.mark.parametrize("options", [{}, {"outputs": 3}, {"activation": 2, "outputs": 3}], ids=str)
def test_lengths_from_no_step_to_all(options: dict[str, int]) -> None:
    """Also beyond: the values of lengths are on the device, so what cannot be is cut off."""
    a = scan("fused", 66, 5, 16, 16, reverse=True, lengths=True, **options)
    right = a._replace(lengths=torch.tensor([0, 1, 64, 65, 66]))
    check_scan(right)
    wrong = a._replace(lengths=torch.tensor([-5, 1, 64, 65, 1 << 40]))
    for got, want in zip(hadamard_scan.hadamard_scan(*wrong), hadamard_scan.hadamard_scan(*right), strict=True):
        assert torch.equal(got, want)


def test_blocks_that_do_not_fit_a_program() -> None:
    check_scan(scan("given", 66, 1, 8192, 8192, activation=2, lengths=True, reverse=True))
    check_scan(scan("tokens", 3, 2, 8192, 8192, outputs=2, lengths=True, reverse=True))
    check_scan(scan("fused", 3, 2, 8192, 8192, outputs=2, last_only=True, activation=1))


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that torch makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes = max(self.bytes, result.nbytes if isinstance(result, torch.Tensor) else 0)
        return result


def test_read_out_keeps_a_segment_of_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of size (T, B, D), forward or backward, but an array of as many steps as it has bytes for."""
    monkeypatch.setattr(_readout, "SEGMENT_BYTES", 64 * 64 * 4)
    a = scan("tokens", 130, 1, 64, 64, outputs=2)
    arguments = list(backward_of(a))
    arguments[-2] = False  # the gradient of the table is a product with all λ, which are made in chunks
    for run, given in ((hadamard_scan.hadamard_scan, a), (hadamard_scan.hadamard_scan_backward, arguments)):
        with Largest() as largest:
            run(*given)
        assert largest.bytes <= 64 * 64 * 4


def test_token_out_of_range_gives_nan_rows() -> None:
    """And nothing is read or written out of bounds; the other rows are right."""
    a = scan("tokens", 4, 3, 16, 16, 5)
    for wrong in (-1, 5, 1 << 32):
        a.drive[1, 1] = wrong
        states, last, kept = hadamard_scan.hadamard_scan(*a)
        assert states[1:, 1].isnan().all() and last[1].isnan().all()
        assert states[:, ::2].isfinite().all() and states[0].isfinite().all()
        gradients = hadamard_scan.hadamard_scan_backward(
            torch.ones_like(states), None, *a[:7], None, None, last, kept, *a[9:14], True, True, True
        )
        assert gradients[1].isfinite().all() and gradients[2].isnan().any()


def test_step_has_the_bits_of_the_scan() -> None:
    for activation, kind in enumerate(("given", "fused", "tokens")):
        a = scan(kind, 3, 2, 48, 16, activation=activation)
        states, _, _ = hadamard_scan.hadamard_scan(*a)
        h = a.h0
        for t in range(3):
            h = hadamard_scan.hadamard_step(a.drive[t], *a[1:4], h, a.act_bias, a.block_size, a.activation)
            assert torch.equal(h, states[t])


def test_row_has_its_bits_in_any_batch() -> None:
    for outputs, kind in ((0, "given"), (0, "fused"), (0, "tokens"), (9, "tokens")):
        a = scan(kind, 5, 4, 48, 16, outputs=outputs)
        states, _, _ = hadamard_scan.hadamard_scan(*a)
        alone, _, _ = hadamard_scan.hadamard_scan(*a._replace(drive=a.drive[:, 2:3], h0=a.h0[2:3]))
        assert torch.equal(alone, states[:, 2:3])
    a = scan("given", 5, 4, 48, 16, outputs=9)
    row = a._replace(drive=a.drive[:, 2:3], h0=a.h0[2:3])
    drive, _, _, _, h0, *_ = hadamard_scan.hadamard_scan_backward(*backward_of(a))
    own_drive, _, _, _, own_h0, *_ = hadamard_scan.hadamard_scan_backward(*backward_of(row))
    assert torch.equal(own_drive, drive[:, 2:3]) and torch.equal(own_h0, h0[2:3])


def test_everything_is_written() -> None:
    operator = OPERATORS["hadamard_scan"]
    case = next(case for case in operator.cases if case.label.startswith("fused T=70"))
    for call in operator.raw_calls(case.build(torch.float32)):
        clean = launch(operator, call)
        with memory.poisoned():
            for again, once in zip(launch(operator, call), clean, strict=True):
                assert torch.equal(again, once)


@pytest.mark.parametrize("operator", [o for o in OPERATORS.values() if o.launchers], ids=lambda o: o.name)
def test_float64_is_refused(operator: Operator) -> None:
    for _, call in launched_calls(operator, operator.cases[0].build(torch.float64)):
        with pytest.raises(TypeError, match="float64 runs on the CPU"):
            operator.launchers[call.name](*call.arguments)


def test_import_touches_no_driver() -> None:
    code = (
        "import torch, sylvester.kernels.hadamard_transform, sylvester.kernels.hadamard_scan\n"
        "from triton.runtime import driver\n"
        "print(torch.cuda.is_initialized(), driver._active)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "None"]


def test_gpu_benchmark_runs() -> None:
    """benchmarks/gpu.py is meant for another machine; here its code runs on tiny sizes."""
    child = [sys.executable, "-m", "benchmarks.gpu", "--interpret", "--tune"]
    run = subprocess.run(child, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == 0 and ", 0 wrong" in run.stdout, run.stdout + run.stderr
