"""Laws of the scan that no comparison with a reference states: what it conserves, and which calls are the same call."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sylvester import hadamard_scan, hadamard_step, hadamard_transform
from sylvester.ops._spec import Arguments, Make
from sylvester.ops.hadamard_scan import SPEC, reference_step
from sylvester.ops.hadamard_scan._cases import SOURCES, make_arguments

BOUND = 1e-6
"""Relative to the largest state, for the short float32 scans here; three times what they show."""

every_source = pytest.mark.parametrize("source", SOURCES)
io_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
Tensors = tuple[torch.Tensor, ...]


def arguments(
    source: str, steps: int = 9, rows: int = 3, width: int = 32, options: str = "bias h0", **spec: Any
) -> Arguments:
    m = Make.seeded(spec.pop("seed", 0), spec.pop("dtype", torch.float32))
    return make_arguments(m, source, steps, rows, width, options, spec.pop("inputs", 5)) | spec


def assert_same(got: Tensors, want: Tensors) -> None:
    for g, w in zip(got, want, strict=True):
        assert torch.equal(g, w)


def assert_close(got: torch.Tensor, want: torch.Tensor, bound: float = BOUND) -> None:
    assert (got.double() - want.double()).abs().max() <= bound * want.double().abs().max()


def dense(sign: torch.Tensor, block: int) -> torch.Tensor:
    """W = diag(s) S̃, float64."""
    identity = torch.eye(len(sign), dtype=torch.float64)
    return sign.double()[:, None] * hadamard_transform(identity, block_size=block)


def test_two_states_by_hand() -> None:
    """The sign flip comes after the transform: h = s ∘ (1, 1)/√2 from (1, 0)."""
    root = 1 / math.sqrt(2)
    output, last = hadamard_scan(torch.zeros(2, 1, 2), torch.tensor([1.0, -1.0]), h0=torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(output[0], torch.tensor([[root, -root]]))
    assert torch.allclose(last, torch.tensor([[0.0, -1.0]]), atol=1e-7)


@pytest.mark.parametrize(("width", "block"), [(1, 1), (16, 16), (48, 16), (128, 128), (512, 128)])
def test_one_step_is_an_orthogonal_matrix(width: int, block: int) -> None:
    sign = Make.seeded(1, torch.float32).signs(width)
    _, columns = hadamard_scan(torch.zeros(1, width, width), sign, h0=torch.eye(width), block_size=block)
    w = columns.double().T
    assert (w @ w.T - torch.eye(width)).abs().max() <= 1e-6
    assert_close(w, dense(sign, block))
    assert w.count_nonzero() == width * block, "a block-Hadamard matrix has one non-zero entry in q"


@pytest.mark.parametrize("width", [64, 128, 512])
def test_norm_is_kept_over_a_thousand_steps(width: int) -> None:
    """Of the state going forward, and of the gradient coming back: nothing vanishes, nothing explodes."""
    m = Make.seeded(2, torch.float32)
    h0 = m.normal(3, width).requires_grad_()
    _, last = hadamard_scan(torch.zeros(1000, 3, width), m.signs(width), h0=h0, last_only=True)
    assert torch.allclose(last.norm(dim=1), h0.norm(dim=1), rtol=1e-5)
    grad = m.normal(3, width)
    (back,) = torch.autograd.grad(last, h0, grad)
    assert torch.allclose(back.norm(dim=1), grad.norm(dim=1), rtol=1e-5)


def test_a_bias_is_integrated() -> None:
    """W has the eigenvalue 1: along its vector a constant input adds up, T times over."""
    sign = torch.ones(2)
    fixed = torch.tensor([1 + math.sqrt(2), 1.0])
    _, last = hadamard_scan(torch.zeros(1000, 1, 2), sign, fixed)
    assert torch.allclose(last, 1000 * fixed[None], rtol=1e-5)


@every_source
def test_linear_in_state_bias_and_drive(source: str) -> None:
    """Doubling everything doubles the result, bit for bit; adding adds."""
    a, b = arguments(source), arguments(source, seed=1)
    a["sign"], scaled = b["sign"], ("bias", "h0", "drive" if source == "given" else "weight")
    if source != "given":
        a["drive"] = b["drive"]
    output, last = hadamard_scan(**a)
    assert_same(hadamard_scan(**a | {name: 2 * a[name] for name in scaled}), (2 * output, 2 * last))
    summed = hadamard_scan(**a | {name: a[name] + b[name] for name in scaled})
    for got, one, other in zip(summed, (output, last), hadamard_scan(**b), strict=True):
        assert_close(got, one.double() + other.double())


@every_source
@io_dtypes
def test_step_has_the_bits_of_the_scan(source: str, dtype: torch.dtype) -> None:
    for width, block in ((32, 32), (48, 16), (1, 1), (512, 128)):
        a = arguments(source, width=width, dtype=dtype, block_size=block)
        output, last = hadamard_scan(**a)
        h = a.pop("h0")
        for drive, state in zip(a.pop("drive"), output, strict=True):
            h = hadamard_step(drive, h=h, **a)
            assert torch.equal(h.to(dtype), state)
        assert torch.equal(h, last)


@every_source
@io_dtypes
def test_chunks_have_the_bits_of_one_call(source: str, dtype: torch.dtype) -> None:
    a = arguments(source, steps=150, dtype=dtype)
    whole, last = hadamard_scan(**a)
    h, chunks = a.pop("h0"), []
    for drive in a.pop("drive").split([1, 63, 64, 22]):
        output, h = hadamard_scan(drive, h0=h, **a)
        chunks.append(output)
    assert_same((torch.cat(chunks), h), (whole, last))


@every_source
@pytest.mark.parametrize("last_only", [False, True])
def test_reverse_is_the_flipped_sequence(source: str, last_only: bool) -> None:
    a = arguments(source, steps=70, last_only=last_only)
    output, last = hadamard_scan(**a, reverse=True)
    flipped, same = hadamard_scan(**a | {"drive": a["drive"].flip(0)})
    assert_same((output, last), (flipped if last_only else flipped.flip(0), same))


@every_source
@pytest.mark.parametrize("last_only", [False, True])
def test_batch_first_is_the_transposed_sequence(source: str, last_only: bool) -> None:
    a = arguments(source, steps=70, last_only=last_only)
    output, last = hadamard_scan(**a)
    got = hadamard_scan(**a | {"drive": a["drive"].transpose(0, 1), "batch_first": True})
    assert_same(got, (output if last_only else output.transpose(0, 1), last))


@every_source
@io_dtypes
def test_last_only_is_the_last_of_all(source: str, dtype: torch.dtype) -> None:
    a = arguments(source, dtype=dtype)
    output, last = hadamard_scan(**a)
    assert_same(hadamard_scan(**a, last_only=True), (output[-1], last))


@io_dtypes
def test_tokens_are_rows_of_the_weight_and_one_hot_inputs(dtype: torch.dtype) -> None:
    a = arguments("tokens", dtype=dtype)
    tokens, table = a.pop("drive"), a.pop("weight")
    want = hadamard_scan(tokens, weight=table, **a)
    for integer in (torch.int32, torch.uint8):
        assert_same(hadamard_scan(tokens.to(integer), weight=table, **a), want)
    assert_same(hadamard_scan(table[tokens], **a), want)
    hot = torch.nn.functional.one_hot(tokens, len(table)).to(dtype)
    for got, expected in zip(hadamard_scan(hot, weight=table.T.contiguous(), **a), want, strict=True):
        assert_close(got, expected, 1e-2 if dtype == torch.bfloat16 else BOUND)


def test_vectors_in_any_float_dtype() -> None:
    a = arguments("fused")
    a["bias"] = a["bias"].bfloat16()
    want = hadamard_scan(**a | {"bias": a["bias"].float()})
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert_same(hadamard_scan(**a | {"sign": a["sign"].to(dtype)}), want)


def test_no_steps_and_no_rows() -> None:
    a = arguments("given", steps=0)
    output, last = hadamard_scan(**a)
    assert output.shape == (0, 3, 32) and torch.equal(last, a["h0"]) and last.data_ptr() != a["h0"].data_ptr()
    a.pop("h0")
    assert hadamard_scan(**a, last_only=True)[0].count_nonzero() == 0
    output, last = hadamard_scan(**arguments("fused", rows=0))
    assert output.shape == (9, 0, 32) and last.shape == (0, 32)


# The step by itself: the battery knows only the scan


@every_source
@io_dtypes
def test_step_value_and_gradients(source: str, dtype: torch.dtype) -> None:
    a = arguments(source, dtype=dtype)
    a |= {"drive": a["drive"][0], "h": a.pop("h0")}
    leaves = {name: value.requires_grad_() for name, value in a.items() if value.is_floating_point()}
    wide = {name: value.detach().double().requires_grad_() for name, value in leaves.items()}
    got, want = hadamard_step(**a), reference_step(**a | wide)
    assert_close(got, want)
    grad = torch.randn_like(got)
    wanted = torch.autograd.grad(want, list(wide.values()), grad.double())
    for g, w in zip(torch.autograd.grad(got, list(leaves.values()), grad), wanted, strict=True):
        assert_close(g, w, 1e-2 if g.dtype == torch.bfloat16 else 4 * BOUND)


@every_source
def test_step_compiled_and_exported(source: str) -> None:
    a = arguments(source)
    drive, h = a.pop("drive"), a.pop("h0")

    class Step(torch.nn.Module):
        def forward(self, drive: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            return hadamard_step(drive, h=h, **a)

    torch._dynamo.reset()
    compiled = torch.compile(Step(), fullgraph=True, backend="aot_eager")
    exported = torch.export.export(Step(), (drive[0], h)).module()
    for module in (compiled, exported):
        assert torch.equal(module(drive[0], h), hadamard_step(drive[0], h=h, **a))
    assert torch.equal(hadamard_step(drive[0], **a), hadamard_step(drive[0], h=torch.zeros_like(h), **a))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"h": torch.ones(2, 32)}, ValueError, r"h must have shape \(B, D\) = \(3, 32\), got \(2, 32\)"),
        ({"h": torch.ones(3, 32).double()}, TypeError, r"h must be torch.float32 .* got a float64"),
        ({"drive": torch.ones(4, 3, 32)}, ValueError, r"drive must have shape \(B, 32\).* got \(4, 3, 32\)"),
        ({"drive": torch.ones(3, dtype=torch.int64)}, TypeError, r"needs weight"),
        ({"drive": [1.0]}, TypeError, r"drive must be .* got list"),
        ({"sign": torch.full((32,), 0.5)}, ValueError, r"sign .*0\.5"),
        ({"sign": None}, TypeError, r"sign must be .* got NoneType"),
        ({"block_size": 24}, ValueError, r"block_size must be a power of two"),
        ({"bias": torch.ones(31)}, ValueError, r"bias must have shape \(32,\)"),
    ],
)
def test_step_refuses(change: Arguments, error: type[Exception], match: str) -> None:
    a = {"drive": torch.ones(3, 32), "sign": torch.ones(32), "h": torch.ones(3, 32)}
    with pytest.raises(error, match=match):
        hadamard_step(**a | change)


def test_the_spec_states_costs() -> None:
    small, large = (arguments("fused", steps=steps) for steps in (10, 20))
    for cost in (SPEC.bytes_moved, SPEC.operations, SPEC.error_bound):
        assert 0 < cost(small) < cost(large)
