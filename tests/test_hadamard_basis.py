"""Laws of ``plan="basis"``: it is the scan in another order of sums, and its order is its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from sylvester import _library, hadamard_scan
from sylvester.layers import HadamRNN, hadam_rnn
from sylvester.ops._spec import Arguments, Make
from sylvester.ops.hadamard_scan import reference
from sylvester.ops.hadamard_scan._basis import apply_basis, block_steps, make_basis
from sylvester.ops.hadamard_scan._cases import make_arguments

BOUND = 5e-6
"""Relative to the largest value, over 784 steps in float32; the scan's is the same."""

sources = pytest.mark.parametrize(("source", "inputs"), [("fused", 1), ("fused", 3), ("fused", 10), ("tokens", 0)])
Tensors = tuple[torch.Tensor, ...]


def arguments(source: str = "fused", steps: int = 70, rows: int = 5, width: int = 48, **spec: Any) -> Arguments:
    m, options = Make.seeded(3, spec.pop("dtype", torch.float32)), spec.pop("options", "bias")
    found = make_arguments(m, source, steps, rows, width, f"last_only {options}", spec.pop("inputs", 3))
    return found | {"block_size": width & -width} | spec


def results(function: Any, a: Arguments, dtype: torch.dtype | None = None, **options: Any) -> dict[str, torch.Tensor]:
    """The last state and the gradients of everything learned, with fixed incoming gradients; all of it in ``dtype``."""
    names = [n for n in ("drive", "weight", "sign", "bias") if n in a and a[n].is_floating_point()]
    leaves = {name: a[name].detach().to(dtype or a[name].dtype).requires_grad_() for name in names}
    last = function(**a | leaves | options)[1]
    grad = Make.seeded(5, last.dtype).normal(*last.shape)
    # What no step reads has no gradient in the reference
    found = torch.autograd.grad(last, list(leaves.values()), grad, materialize_grads=True) if a["drive"].numel() else ()
    return {"last": last.detach(), **dict(zip(names, found, strict=False))}


def worst(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> dict[str, float]:
    """The errors relative to the largest value that are over the bound."""
    errors = {
        name: float((got[name].double() - w.double()).abs().max() / w.double().abs().max().clamp(min=1e-30))
        for name, w in want.items()
        if w.numel()
    }
    return {name: error for name, error in errors.items() if not error <= BOUND}


def assert_same(got: Tensors, want: Tensors) -> None:
    for g, w in zip(got, want, strict=True):
        assert torch.equal(g, w)


@sources
@pytest.mark.parametrize("width", [64, 48, 512])
@pytest.mark.parametrize("steps", [0, 1, 2, 63, 64, 65, 784])
def test_agrees_with_the_scan_and_with_the_definition(source: str, inputs: int, width: int, steps: int) -> None:
    a = arguments(source, steps=steps, width=width, inputs=inputs)
    got = results(hadamard_scan, a, plan="basis")
    assert worst(got, results(reference, a, torch.float64)) == {}
    assert worst(got, results(hadamard_scan, a, torch.float64)) == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@sources
def test_sixteen_bit_inputs_are_exact(source: str, inputs: int, dtype: torch.dtype) -> None:
    """Widened to float32 beforehand, the bits are the same; only gradients are rounded, once."""
    a = arguments(source, inputs=inputs, dtype=dtype)
    wide = {name: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for name, v in a.items()}
    got, want = results(hadamard_scan, a, plan="basis"), results(hadamard_scan, wide, plan="basis")
    for name, value in want.items():
        assert torch.equal(got[name], value.to(got[name].dtype)), name


@sources
def test_reverse_is_the_flipped_sequence_and_batch_first_the_transposed(source: str, inputs: int) -> None:
    a = arguments(source, inputs=inputs, plan="basis")
    want, drive = hadamard_scan(**a), a["drive"]
    assert_same(hadamard_scan(**a | {"drive": drive.flip(0)}, reverse=True), want)
    assert_same(hadamard_scan(**a | {"drive": drive.transpose(0, 1)}, batch_first=True), want)
    assert_same(hadamard_scan(**a | {"drive": drive.transpose(0, 1).flip(1)}, batch_first=True, reverse=True), want)


def test_tokens_have_the_bits_of_their_one_hot_vectors() -> None:
    a = arguments("tokens", plan="basis")
    hot = torch.nn.functional.one_hot(a["drive"], len(a["weight"])).float()
    got = hadamard_scan(**a | {"drive": hot, "weight": a["weight"].t().contiguous()})
    assert_same(got, hadamard_scan(**a))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 12, 13, 23, 96, 97, 130])
def test_a_row_has_its_bits_in_any_batch(rows: int) -> None:
    """Rows are grouped by 12, 8, 4, 2 and 1 and by 96; a group must not show."""
    a = arguments(rows=130, width=64, inputs=2, plan="basis")
    want, drive = results(hadamard_scan, a), a["drive"]
    for start in {0, 130 - rows}:
        part = drive[:, start : start + rows].requires_grad_()
        _, last = hadamard_scan(**a | {"drive": part})
        assert torch.equal(last, want["last"][start : start + rows])
        grad = Make.seeded(5, torch.float32).normal(130, 64)[start : start + rows]
        (by_drive,) = torch.autograd.grad(last, part, grad)
        assert torch.equal(by_drive, want["drive"][:, start : start + rows])


@sources
@pytest.mark.parametrize("width", [48, 64, 1])
def test_a_remembered_basis_has_the_same_bits(source: str, inputs: int, width: int) -> None:
    """At every level, from any strides, in any number of blocks."""
    a = arguments(source, width=width, inputs=inputs, plan="basis")
    vectors = (a["weight"], a["sign"], a["bias"], a["block_size"], 70, source == "tokens")
    _, want = hadamard_scan(**a)
    for level in _library.levels():
        with _library.forced_isa(level):
            basis, shift = make_basis(*vectors)
            for made in (basis, basis.contiguous(), basis.transpose(0, 2).contiguous().transpose(0, 2)):
                assert torch.equal(apply_basis(a["drive"], made, shift, False), want)
    wide = arguments(source, width=1024, inputs=inputs, plan="basis")
    vectors = (wide["weight"], wide["sign"], wide["bias"], wide["block_size"], 70, source == "tokens")
    assert torch.equal(apply_basis(wide["drive"], *make_basis(*vectors), False), hadamard_scan(**wide)[1])


def test_the_basis_is_the_response_to_impulses() -> None:
    """basis[j, i]: the state j steps after a unit of input i alone; shift: that of no input."""
    a = arguments(steps=20, inputs=3)
    weight, sign, block = a["weight"], a["sign"], a["block_size"]
    basis, shift = make_basis(weight, sign, a["bias"], block, 20, False)
    impulse = torch.zeros(20, 3, 3)
    impulse[0] = torch.eye(3)
    states, _ = hadamard_scan(impulse, sign, weight=weight, block_size=block)
    torch.testing.assert_close(basis, states, rtol=1e-6, atol=1e-6)
    _, constant = hadamard_scan(torch.zeros(20, 1, 48), sign, a["bias"], block_size=block)
    torch.testing.assert_close(shift, constant[0], rtol=1e-5, atol=1e-5)


def test_backward_keeps_the_start_of_each_block() -> None:
    a = arguments(steps=200, width=512, inputs=10, plan="basis")
    length, drive = block_steps(10, 512), a["drive"]

    def kept(leaf: str) -> list[tuple[int, ...]]:
        _, last = hadamard_scan(**a | {leaf: a[leaf].clone().requires_grad_()})
        return [tuple(tensor.shape) for tensor in last.grad_fn.saved_tensors]  # type: ignore[union-attr]

    inputs = [tuple(tensor.shape) for tensor in (drive, a["weight"], a["sign"], a["bias"])]
    assert kept("sign") == kept("drive") == [*inputs, (-(-200 // length), 11, 512)]
    assert kept("weight") == kept("bias") == [*inputs, (0, 11, 512)]


def test_training_needs_no_memory_for_the_basis() -> None:
    """T = 784, I = 10, D = 512: the basis alone would be 16 MB, the states 160."""
    command = [sys.executable, "-m", "sylvester.benchmarks.training_step", "basis"]
    growth = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert growth < 784 * 10 * 512 * 4 * 3 / 4  # 7.5 to 8.2 MB were seen


def test_two_compiled_graphs_serve_any_length() -> None:
    """T and B are symbolic. torch itself tells one start of a block apart from more."""
    a = arguments(width=32, inputs=3, plan="basis")
    a["sign"].requires_grad_()
    a.pop("drive")

    def score(drive: torch.Tensor) -> torch.Tensor:
        return hadamard_scan(drive, **a)[0].sum()

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(score, fullgraph=True, dynamic=True, backend=counter)
    for steps, rows in ((5, 2), (63, 3), (64, 6), (200, 4), (3000, 2)):
        drive = torch.randn(steps, rows, 3)
        (got,), (want,) = (torch.autograd.grad(function(drive), a["sign"]) for function in (compiled, score))
        assert torch.equal(got, want)
    assert counter.frame_count <= 2


def test_what_only_raw_calls_can_get_wrong() -> None:
    a = arguments(steps=5, rows=2, width=16, inputs=3)
    drive, weight, sign, bias, last = a["drive"], a["weight"], a["sign"], a["bias"], torch.zeros(2, 16)
    basis, shift = make_basis(weight, sign, bias, 16, 5, False)
    backward, apply, make = (
        getattr(torch.ops.sylvester, name)
        for name in ("hadamard_basis_scan_backward", "hadamard_basis_apply", "hadamard_basis")
    )
    fixed = (16, False, False, True, True, True)
    for starts, match in ((torch.zeros(1, 3, 16), r"starts must .*\(1, 4, 16\)"), (last.half(), "starts must")):
        with pytest.raises(ValueError, match=match):
            backward(last, drive, weight, sign, bias, starts, *fixed)
    with pytest.raises(ValueError, match="starts must have the dtype"):
        backward(last, drive, weight, sign, bias, torch.zeros(1, 4, 16).half(), *fixed)
    for wrong in (basis[1:], basis[:, 1:], basis[..., 1:], basis.double(), basis[0]):
        with pytest.raises(ValueError, match="basis must|shift must"):
            apply(drive, wrong, shift, False, False)
    with pytest.raises(ValueError, match=r"drive holds token 3"):
        apply(torch.full((5, 2), 3), basis, shift, False, False)
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        make(weight, sign, bias, 16, -1, False)
    with pytest.raises(NotImplementedError, match="it serves calls without gradients"):
        apply(drive.requires_grad_(), basis, shift, False, False).sum().backward()


@pytest.mark.parametrize(
    ("inputs", "last_only", "h0", "plan"),
    [(1, True, False, "basis"), (4, True, False, "basis"), (5, True, False, "scan"), (4, False, False, "scan"),
     (4, True, True, "scan")],
)  # fmt: skip
def test_the_layer_chooses_by_its_arguments(
    monkeypatch: pytest.MonkeyPatch, inputs: int, last_only: bool, h0: bool, plan: str
) -> None:
    chosen = []
    run = hadam_rnn.hadamard_scan
    monkeypatch.setattr(hadam_rnn, "hadamard_scan", lambda *a, **k: chosen.append(k["plan"]) or run(*a, **k))
    layer = HadamRNN(inputs, 16, last_only=last_only)
    for steps, rows in ((3, 2), (100, 1), (1, 200)):
        layer(torch.randn(steps, rows, inputs), torch.randn(1, rows, 16) if h0 else None)
    assert chosen == [plan] * 3


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_layer_remembers_the_basis_of_one_length(tokens: bool, batch_first: bool) -> None:
    """The bits of the call with gradients, one product a call, and one basis kept."""
    layer = HadamRNN(3, 16, last_only=True, batch_first=batch_first)
    for shape in ((9, 5), (9, 2), (4, 5), (9, 5)):
        x = torch.randint(3, shape) if tokens else torch.randn(*shape, 3)
        want = layer(x)
        with torch.no_grad(), torch.profiler.profile() as first:
            assert_same(layer(x), want)
        with torch.no_grad(), torch.profiler.profile() as second:
            assert_same(layer(x), want)
        calls = [{event.key for event in run.key_averages()} for run in (first, second)]
        assert "sylvester::hadamard_basis_apply" in calls[0] & calls[1]
        assert "sylvester::hadamard_basis" not in calls[1]
    assert len(layer._derived._entries) == 2
