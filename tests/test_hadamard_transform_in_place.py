"""What hadamard_transform_ and out= may write, and what they refuse: torch guards neither of them."""

from __future__ import annotations

import pytest
import torch

from sylvester import hadamard_transform, hadamard_transform_


def test_out_is_written_and_returned() -> None:
    x, out = torch.randn(3, 16), torch.empty(3, 16)
    assert hadamard_transform(x, out=out) is out
    assert torch.equal(out, hadamard_transform(x))
    assert hadamard_transform(x, out=x) is x
    assert torch.equal(x, out)


@pytest.mark.parametrize("where", ["transposed", "every second column", "rows of a wider matrix"])
def test_strided_targets(where: str) -> None:
    x = torch.randn(4, 16)
    buffers = {
        "transposed": torch.zeros(16, 4).t(),
        "every second column": torch.zeros(4, 32)[:, 1::2],
        "rows of a wider matrix": torch.zeros(4, 40)[:, 3:19],
    }
    out, want = buffers[where], hadamard_transform(x)
    assert torch.equal(hadamard_transform(x, out=out), want)
    assert hadamard_transform_(out.copy_(x)) is out
    assert torch.equal(out, want)
    base = out._base
    assert base is not None and base.count_nonzero() == out.count_nonzero(), "wrote between the elements of the view"


def test_views_of_one_buffer_that_do_not_touch() -> None:
    buffer = torch.randn(4, 32)
    x, out = buffer[:, ::2], buffer[:, 1::2]
    want = hadamard_transform(x)
    assert torch.equal(hadamard_transform(x, out=out), want)


@pytest.mark.parametrize("shift", [1, 8, 16])
def test_partial_overlap_is_refused(shift: int) -> None:
    buffer = torch.randn(10 * 16)
    x, out = buffer[: 4 * 16].view(4, 16), buffer[shift : shift + 4 * 16].view(4, 16)
    with pytest.raises(ValueError, match="out must not share memory with x"):
        hadamard_transform(x, out=out)
    with pytest.raises(ValueError, match="out must not share memory with x"):
        hadamard_transform(x[:1].expand(4, 16), out=buffer[:64].view(4, 16))


def test_diagonals_may_not_be_part_of_what_is_written() -> None:
    x = torch.randn(4, 16)
    with pytest.raises(ValueError, match="x must not share memory with pre"):
        hadamard_transform_(x, pre=x[1])
    with pytest.raises(ValueError, match="out must not share memory with post"):
        hadamard_transform(torch.randn(4, 16), post=x[1], out=x)
    assert hadamard_transform(x, pre=x[1]).shape == x.shape


@pytest.mark.parametrize("x", [torch.ones(1, 8).expand(3, 8), torch.arange(20.0).as_strided((3, 8), (4, 1))])
def test_in_place_refuses_views_that_overlap_themselves(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="x must not overlap itself"):
        hadamard_transform_(x)


def test_in_place_and_gradients() -> None:
    leaf = torch.randn(2, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="writing into x is not differentiable"):
        hadamard_transform_(leaf)
    with pytest.raises(RuntimeError, match="writing into x is not differentiable"):
        hadamard_transform_(leaf * 2)
    with pytest.raises(RuntimeError, match="writing into out is not differentiable"):
        hadamard_transform(leaf, out=torch.empty(2, 8))
    want = hadamard_transform(leaf.detach())
    with torch.no_grad():
        assert torch.equal(hadamard_transform_(leaf), want)


def test_a_tensor_kept_for_backward_is_seen_to_change() -> None:
    for change in (hadamard_transform_, lambda t: hadamard_transform(torch.ones(2, 8), out=t)):
        kept, leaf = torch.randn(2, 8), torch.randn(2, 8, requires_grad=True)
        product = kept * leaf
        change(kept)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()


def test_in_place_in_inference_mode() -> None:
    normal = torch.randn(2, 8)
    want, version = hadamard_transform(normal), normal._version
    with torch.inference_mode():
        assert torch.equal(hadamard_transform_(normal), want)
        made_here = torch.ones(2, 8)
        assert hadamard_transform_(made_here) is made_here
    assert normal._version > version


def test_compiled_in_place_on_inputs_and_temporaries() -> None:
    torch._dynamo.reset()

    def function(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        hadamard_transform(hadamard_transform_(x + 1), out=out)
        return hadamard_transform_(x)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    pairs = [(torch.arange(16.0).view(2, 8), torch.zeros(2, 8)) for _ in range(2)]
    results = [run(*pair) for run, pair in zip((function, compiled), pairs, strict=True)]
    for got, want in zip((*pairs[1], results[1]), (*pairs[0], results[0]), strict=True):
        assert torch.equal(got, want)


def test_compiled_in_place_refuses_gradients() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(hadamard_transform_, backend="aot_eager")
    with pytest.raises(RuntimeError, match="writing into x is not differentiable"):
        compiled(torch.ones(2, 8, requires_grad=True))
