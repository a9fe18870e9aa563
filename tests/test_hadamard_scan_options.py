"""Laws of lengths, read-outs and activations: what they do not touch, what they equal, and what is never stored."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sylvester import hadamard_scan, hadamard_step
from sylvester.ops._spec import Arguments, Make
from sylvester.ops.hadamard_scan import SPEC, reference
from sylvester.ops.hadamard_scan._cases import SOURCES, make_arguments

every_source = pytest.mark.parametrize("source", SOURCES)
LENGTHS = torch.tensor([70, 0, 130, 64, 1])


def arguments(source: str, steps: int, rows: int, width: int, options: str = "bias h0", seed: int = 0) -> Arguments:
    return make_arguments(Make.seeded(seed, torch.float32), source, steps, rows, width, options, 3)


def with_gradients(a: Arguments, *outputs_wanted: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs and the gradients of a sum of squares of them."""
    floats = {k: v for k, v in a.items() if isinstance(v, Tensor) and v.is_floating_point()}
    leaves = {k: v.clone().requires_grad_() for k, v in floats.items()}
    outputs = list(SPEC.function(**a | leaves))
    score = sum(outputs[i].square().sum() for i in outputs_wanted)
    grads = torch.autograd.grad(score, list(leaves.values()), materialize_grads=True)
    return outputs, dict(zip(leaves, grads, strict=True))


@every_source
@pytest.mark.parametrize("options", ["bias h0", "bias reverse", "bias relu", "bias h0 readout"])
def test_a_row_is_the_scan_of_its_own_steps(source: str, options: str) -> None:
    a = arguments(source, 130, 5, 32, options)
    output, last = SPEC.function(**a, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = {k: v[row : row + 1] if k == "h0" else v for k, v in a.items()}
        alone["drive"] = a["drive"][:length, row : row + 1]
        got, end = SPEC.function(**alone)
        assert torch.equal(output[:length, row], got[:, 0]) and torch.equal(last[row], end[0])
        assert not output[length:, row].any()


@every_source
@pytest.mark.parametrize("reverse", [False, True])
def test_what_lies_after_the_end_of_a_row_is_never_read(source: str, reverse: bool) -> None:
    a = arguments(source, 130, 5, 32) | {"lengths": LENGTHS, "reverse": reverse}
    clean = with_gradients(a, 0, 1)
    for row, length in enumerate(LENGTHS.tolist()):
        a["drive"][length:, row] = -5 if source == "tokens" else torch.nan
    outputs, grads = with_gradients(a, 0, 1)
    for got, want in zip([*outputs, *grads.values()], [*clean[0], *clean[1].values()], strict=True):
        assert torch.equal(got, want)


@every_source
def test_full_lengths_are_no_lengths(source: str) -> None:
    a = arguments(source, 66, 3, 64)
    plain, grads = with_gradients(a, 0, 1)
    for dtype in (torch.int64, torch.int32):
        outputs, found = with_gradients(a | {"lengths": torch.full((3,), 66, dtype=dtype)}, 0, 1)
        assert all(torch.equal(x, y) for x, y in zip(outputs, plain, strict=True))
        assert all(torch.equal(found[name], grads[name]) for name in grads)


@every_source
@pytest.mark.parametrize("outputs", [1, 4, 10, 13, 32])
def test_a_readout_is_the_product_with_the_states(source: str, outputs: int) -> None:
    a = arguments(source, 66, 3, 48) | {"block_size": 16}
    m = Make.seeded(1, torch.float32)
    weight, shift = m.normal(outputs, 48), m.normal(outputs)
    states, last = hadamard_scan(**a)
    for bias in (shift, None):
        y, end = hadamard_scan(**a, readout=(weight, bias))
        want = functional.linear(states.relu(), weight, bias)
        assert torch.equal(end, last)
        assert (y - want).abs().max() <= 1e-6 * want.abs().max()
        assert torch.equal(hadamard_scan(**a, readout=(weight, bias), last_only=True)[0], y[-1])


def test_outputs_of_a_readout_do_not_depend_on_each_other() -> None:
    a = arguments("fused", 20, 3, 64)
    weight = Make.seeded(1, torch.float32).normal(32, 64)
    whole, _ = hadamard_scan(**a, readout=(weight, None))
    for first, last in ((0, 1), (3, 8), (9, 32)):
        part, _ = hadamard_scan(**a, readout=(weight[first:last], None))
        assert torch.equal(part, whole[..., first:last])


@pytest.mark.parametrize(("width", "dtype"), [(128, torch.float32), (64, torch.bfloat16)], ids=str)
def test_gradients_through_a_readout_over_a_thousand_steps(width: int, dtype: torch.dtype) -> None:
    m = Make.seeded(2, dtype)
    a = make_arguments(m, "fused", 1000, 2, width, "bias readout", 10) | {"bias": m.normal(width).float() * 0.01}
    names = ("sign", "bias", "readout_weight", "readout_bias")
    grads = m.normal(1000, 2, 9)

    def gradients(function: Any, a: Arguments) -> tuple[Tensor, ...]:
        leaves = {name: a[name].requires_grad_() for name in names}
        output, _ = function(**a | leaves)
        return torch.autograd.grad(output, list(leaves.values()), grads.to(output.dtype))

    wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in a.items()}
    narrow = {k: v.float() if k in names else v for k, v in a.items()}
    for name, got, want in zip(names, gradients(SPEC.function, narrow), gradients(SPEC.reference, wide), strict=True):
        # dV adds up states, whose error is relative to themselves; a mask that flips near 0 moves no more than that.
        assert (got - want).abs().max() <= 1e-5 * want.abs().max(), name


@pytest.mark.parametrize("activation", ["relu", "modrelu"])
@every_source
def test_steps_make_the_activated_scan(source: str, activation: str) -> None:
    a = arguments(source, 9, 3, 32, f"bias h0 {activation}")
    output, _ = hadamard_scan(**a)
    drives, h = a.pop("drive"), a.pop("h0")
    for drive, want in zip(drives, output, strict=True):
        h = hadamard_step(drive, h=h, **a)
        assert torch.equal(h, want)


def test_modrelu_keeps_the_sign_and_stops_small_states() -> None:
    drive, sign = torch.tensor([[[3.0, -3.0, 0.5, -0.5, 0.0]]]), torch.ones(5)
    shift = torch.full((5,), -1.0)
    output, _ = hadamard_scan(drive, sign, block_size=1, activation="modrelu", act_bias=shift)
    assert output.flatten().tolist() == [2.0, -2.0, 0.0, 0.0, 0.0]
    assert hadamard_scan(drive, sign, block_size=1, activation="relu")[0].flatten().tolist() == [
        3.0,
        0.0,
        0.5,
        0.0,
        0.0,
    ]


@pytest.mark.parametrize("activation", ["relu", "modrelu"])
def test_recomputed_states_agree_with_stored_ones(activation: str) -> None:
    """The gradient of the last state, by segments from checkpoints and by the full-precision output."""
    a = arguments("fused", 200, 3, 64, f"bias h0 {activation}")
    (_, recomputed), (_, stored) = with_gradients(a | {"last_only": True}, 1), with_gradients(a, 1)
    for name in stored:
        assert torch.equal(recomputed[name], stored[name]), name


def test_a_relu_scan_of_positive_states_is_the_linear_one() -> None:
    a = {"drive": torch.rand(5, 2, 8) + 100, "sign": torch.ones(8), "block_size": 1}
    assert torch.equal(hadamard_scan(**a, activation="relu")[0], hadamard_scan(**a)[0])
    torch.testing.assert_close(hadamard_scan(**a, activation="relu"), reference(**a, activation="relu"))


MEMORY = """
import resource, torch
from sylvester import hadamard_scan
torch.set_num_threads(1)
T, B, D = 1000, 128, 128
tokens, weight = torch.randint(0, 10, (T, B)), torch.randn(10, D).requires_grad_()
sign, V = torch.ones(D).requires_grad_(), torch.randn(9, D).requires_grad_()
targets = torch.randint(0, 9, (T, B))
def update(steps):
    y, _ = hadamard_scan(tokens[:steps], sign, weight=weight, readout=(V, None))
    torch.nn.functional.cross_entropy(y.movedim(-1, 1), targets[:steps]).backward()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
update(10)
before = peak()
update(T)
print(peak() - before)
"""


def test_an_update_through_a_readout_stores_no_states() -> None:
    """T·B·D alone would be 64 MB; logits, loss and their gradients are a few times 4.6 MB."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 64 * 1024, f"{int(done.stdout) / 1024:.0f} MB"
