"""plan="chunked": the numbers of the plain scan, whatever T, drive, direction and layout; and when it cuts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sylvester.benchmarks import checks
from sylvester.ops._spec import Make
from sylvester.ops.hadamard_scan import hadamard_scan, reference
from sylvester.ops.hadamard_scan._chunked import CHUNKS, FEWEST_STEPS, chunks_of

BOUND = 2e-5
"""Relative to the largest value: the plain scan's own at these lengths is 5e-6, and a gradient adds up T of them."""
CUT = CHUNKS[-1] * FEWEST_STEPS


def arguments(source: str, steps: int, rows: int, width: int, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    m = Make.seeded(0, dtype)
    drives: dict[str, dict[str, Any]] = {
        "given": {"drive": m.normal(steps, rows, width)},
        "fused": {"drive": m.normal(steps, rows, 3), "weight": m.normal(width, 3)},
        "wide": {"drive": m.normal(steps, rows, 20), "weight": m.normal(width, 20) / 4},
        "tokens": {"drive": m.integers(7, steps, rows), "weight": m.normal(7, width)},
    }
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    state = {"h0": m.normal(rows, width, dtype=wide), "bias": m.normal(width) / 100}
    return drives[source] | {"sign": m.signs(width, dtype=dtype)} | state


def results(a: dict[str, Any], plan: str) -> list[Tensor]:
    """Outputs and all gradients."""
    leaves = {k: v.clone().requires_grad_() for k, v in a.items() if isinstance(v, Tensor) and v.is_floating_point()}
    outputs = hadamard_scan(**a | leaves, plan=plan)
    return [*outputs, *torch.autograd.grad(outputs, list(leaves.values()), checks.cotangents(outputs))]


def assert_agree(got: list[Tensor], want: list[Tensor], bound: float) -> None:
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape and g.dtype == w.dtype
        assert (g - w).abs().max() <= bound * w.abs().max()


@pytest.mark.parametrize("source", ["given", "fused", "wide", "tokens"])
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"last_only": True}, {"last_only": True, "reverse": True}])
@pytest.mark.parametrize("steps", [CUT, CUT + 7])
def test_numbers_are_those_of_the_scan(source: str, options: dict[str, Any], steps: int) -> None:
    a = arguments(source, steps, 2, 16) | options
    assert_agree(results(a, "chunked"), results(a, "scan"), BOUND)


@pytest.mark.parametrize("options", [{}, {"block_size": 8, "reverse": True}])
def test_rounding_is_the_only_difference(options: dict[str, Any]) -> None:
    a = arguments("fused", CUT + 5, 2, 16, torch.float64) | options
    assert_agree(results(a, "chunked"), results(a, "scan"), 1e-11)


def test_state_is_right_against_float64_over_a_long_sequence() -> None:
    a = arguments("tokens", 20_000, 1, 128) | {"last_only": True, "bias": None, "h0": None}
    want = hadamard_scan(**a | {"weight": a["weight"].double(), "sign": a["sign"].double()})[1]
    _, last = hadamard_scan(**a, plan="chunked")
    assert (last - want).abs().max() <= 5e-5 * want.abs().max()


def test_batch_first_and_time_first_agree() -> None:
    a = arguments("fused", CUT, 2, 16)
    output, last = hadamard_scan(**a, plan="chunked")
    flipped = hadamard_scan(**a | {"drive": a["drive"].transpose(0, 1)}, batch_first=True, plan="chunked")
    torch.testing.assert_close((output.transpose(0, 1), last), flipped, rtol=0, atol=0)


def test_readout_reads_every_state() -> None:
    a = arguments("tokens", CUT + 3, 1, 16)
    readout = (Make.seeded(1, torch.float32).normal(4, 16), None)
    for last_only in (False, True):
        got, want = (hadamard_scan(**a, readout=readout, last_only=last_only, plan=p)[0] for p in ("chunked", "scan"))
        assert_agree([got], [want], BOUND)


def test_short_sequences_are_not_cut() -> None:
    a = arguments("fused", 100, 2, 16)
    for got, want in zip(hadamard_scan(**a, plan="chunked"), hadamard_scan(**a), strict=True):
        assert torch.equal(got, want)
    torch.testing.assert_close(hadamard_scan(**a, plan="chunked"), reference(**a), rtol=1e-4, atol=1e-4)


def test_number_of_chunks_depends_on_steps_alone() -> None:
    assert chunks_of(CUT - 1) == 1
    for steps in (CUT, CUT + 1, 100_000, 99_991):
        count = chunks_of(steps)
        assert count in CHUNKS and (steps % count == 0 or all(steps % other for other in CHUNKS))


def test_sixteen_bit_output_is_rounded_once() -> None:
    a = arguments("given", CUT, 1, 16, torch.bfloat16)
    got, want = (hadamard_scan(**a, plan=plan)[0] for plan in ("chunked", "scan"))
    assert got.dtype == torch.bfloat16
    assert (got.float() - want.float()).abs().max() <= 2**-8 * want.float().abs().max()


def test_compiles_in_one_graph() -> None:
    a = arguments("fused", CUT, 1, 16)
    torch._dynamo.reset()
    compiled = torch.compile(lambda drive: hadamard_scan(drive, a["sign"], weight=a["weight"], plan="chunked"),
                             fullgraph=True, backend="aot_eager")  # fmt: skip
    want = hadamard_scan(a["drive"], a["sign"], weight=a["weight"], plan="chunked")
    torch.testing.assert_close(compiled(a["drive"]), want)


def test_a_power_is_remembered_until_the_signs_change() -> None:
    a = arguments("fused", CUT, 1, 16)
    del a["bias"]
    for _ in range(2):
        with torch.inference_mode():
            before = hadamard_scan(**a, plan="chunked")[1].clone()
            assert checks.error_fraction(before, hadamard_scan(**a)[1].double(), BOUND) <= 1
        a["sign"].neg_()
    assert torch.allclose(results(a, "chunked")[1], hadamard_scan(**a)[1], atol=1e-3)


def test_on_a_gpu_joins_and_steps_are_balanced() -> None:
    for steps in (1, 2047, 2048, 4096, 100_000):
        count = chunks_of(steps, gpu=True)
        assert count == 1 if steps < 2048 else count**2 <= steps / 32 < (count + 1) ** 2
