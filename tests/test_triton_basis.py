"""What the Triton kernels of plan="basis" do beside the cases that every operator has: see test_triton.py."""

from __future__ import annotations

import pytest
import torch

from launched import assert_close, launch, launched_calls, wanted
from sylvester.ops._spec import OPERATORS, Arguments, Make
from sylvester.ops.hadamard_scan._cases import VOCABULARY, make_arguments

triton = pytest.importorskip("triton", reason="triton is not installed")
if not triton.knobs.runtime.interpret:
    reason = "a GPU is present, so Triton compiles; TRITON_INTERPRET=1 pytest runs these"
    pytest.skip(reason, allow_module_level=True)


from sylvester.kernels import _interpreter, _segments, hadamard_basis  # noqa: E402

_interpreter.repair()


def basis(source: str, steps: int, rows: int, width: int, inputs: int) -> Arguments:
    """Two blocks a row."""
    m = Make.seeded(3, torch.float32)
    return make_arguments(m, source, steps, rows, width, "last_only bias", inputs) | {"block_size": width // 2}


@pytest.mark.parametrize(("source", "at_once"), [("fused", 3), ("fused", 2), ("tokens", 1), ("fused", 0)])
def test_segments_of_a_basis(source: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of 8 steps, the last one short: side by side in one block or in two, or one after another."""
    inputs = VOCABULARY if source == "tokens" else 2
    monkeypatch.setattr(_segments, "FEWEST_STEPS", 16)
    monkeypatch.setattr(_segments, "LINK_STEPS", 2)
    monkeypatch.setattr(_segments, "ELEMENTS", (8 * at_once or 3) * (inputs + 1) * 32)
    assert _segments.cut(23, inputs + 1, 32) == ((8, at_once) if at_once else (3, 1))
    operator = OPERATORS["hadamard_scan"]
    for call, given in launched_calls(operator, basis(source, 23, 3, 32, 2) | {"plan": "basis"}):
        for i, (got, want) in enumerate(zip(launch(operator, given), wanted(call), strict=True)):
            assert_close(got, want, 2e-6, f"{call.name}, result {i}")


def test_a_row_of_a_basis_has_its_bits_in_any_batch() -> None:
    """Few rows are multiplied in parts of the depth by programs of their own."""
    a = basis("fused", 45, 40, 64, 3)
    given, flags = [a[name] for name in ("weight", "sign", "bias")], (32, False, False)
    (last, _), (alone, kept) = (
        hadamard_basis.hadamard_basis_scan(drive, *given, *flags, True) for drive in (a["drive"], a["drive"][:, :3])
    )
    assert torch.equal(alone, last[:3])
    made = hadamard_basis.hadamard_basis(*given, 32, 45, False)
    assert torch.equal(hadamard_basis.hadamard_basis_apply(a["drive"], *made, False, False), last)
    of_all, of_few = (
        hadamard_basis.hadamard_basis_scan_backward(
            last[:n], a["drive"][:, :n], *given, kept, *flags, True, False, False
        )
        for n in (40, 3)
    )
    assert torch.equal(of_few[0], of_all[0][:, :3])
