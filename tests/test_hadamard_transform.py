"""Laws of the Hadamard transform that no comparison with a reference states."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sylvester import _library, hadamard_transform, hadamard_transform_
from sylvester.ops._hadamard import ORDERS, factor_matrix, factor_of, largest_block
from sylvester.ops.hadamard_transform import reference

SIZES = [1 << k for k in range(13)]
every_size = pytest.mark.parametrize("n", SIZES)


def sylvester(n: int) -> torch.Tensor:
    """S by its recurrence, S_2n = [[S_n, S_n], [S_n, -S_n]]."""
    s = torch.ones(1, 1)
    while s.shape[0] < n:
        s = torch.cat((torch.cat((s, s), 1), torch.cat((s, -s), 1)))
    return s


def integers(*shape: int) -> torch.Tensor:
    """Small enough that float32 adds them exactly."""
    return torch.randint(-8, 9, shape).float()


def test_factors_are_orthogonal() -> None:
    """H Hᵀ = m I for every order; the symmetric ones are Paley's second."""
    for m in ORDERS:
        h = factor_matrix(m).long()
        assert torch.equal(h.abs(), torch.ones(m, m, dtype=torch.int64))
        assert torch.equal(h @ h.T, m * torch.eye(m, dtype=torch.int64)), m
    assert not torch.equal(factor_matrix(44), factor_matrix(44).T)
    assert not torch.equal(factor_matrix(172), factor_matrix(172).T)


def test_orders() -> None:
    """4 times an odd number each, none missing but the four without a construction here; and 344."""
    missing = {m for m in range(12, 256, 8) if m not in ORDERS}
    assert missing == {116, 156, 188, 236} and [m for m in ORDERS if m % 8 != 4] == [344]
    assert [factor_of(n) for n in (172, 344, 688, 11008)] == [172, 344, 344, 344]


@pytest.mark.parametrize(("width", "best"), [(768, 768), (11008, 11008), (100, 100), (50, 2), (11136, 384), (7, 1)])
def test_largest_block(width: int, best: int) -> None:
    assert largest_block(width, 1 << 20) == best
    assert factor_of(best) and width % best == 0
    assert not any(factor_of(block) for block in range(best + 1, width + 1) if width % block == 0)


@pytest.mark.parametrize("part", [1, 16, 32])
@pytest.mark.parametrize("m", ORDERS)
def test_factored_matrix_and_its_transpose(m: int, part: int) -> None:
    """Exactly, at every level: each order has kernels of its own. That of 344 rounds: to the nearest integers."""
    n = m * part
    m, part = factor_of(n), n // factor_of(n)  # that of 172 · 16 is 344
    x = integers(2, 3 * n)
    matrix, blocks = torch.kron(factor_matrix(m).float(), sylvester(part)), x.view(2, 3, n)
    wanted = {False: blocks @ matrix.T, True: blocks @ matrix}
    for level in _library.levels():
        with _library.forced_isa(level):
            for transpose, want in wanted.items():
                y = hadamard_transform(x, block_size=n, scale=1.0, transpose=transpose)
                assert torch.equal((y.round() if m == 344 else y).view(2, 3, n), want), (level, transpose)


@pytest.mark.parametrize("n", [12, 44, 92 * 4, 768, 172, 344 * 32, 344 * 64])
def test_transpose_is_the_inverse(n: int) -> None:
    x = torch.randn(3, n)
    there = hadamard_transform(x)
    back = hadamard_transform(there, transpose=True)
    assert (back - x).abs().max() <= 1e-6 * x.abs().max()
    assert torch.allclose(there.norm(dim=1), x.norm(dim=1), rtol=1e-6)


def test_gradient_of_a_factor_is_the_transpose() -> None:
    x, g, (pre, post) = torch.randn(5, 88, requires_grad=True), torch.randn(5, 88), torch.randn(2, 88)
    for transpose in (False, True):
        y = hadamard_transform(x, pre=pre, post=post, transpose=transpose)
        (got,) = torch.autograd.grad(y, x, g)
        assert torch.equal(got, hadamard_transform(g, pre=post, post=pre, transpose=not transpose))


def test_transpose_of_a_power_of_two_changes_nothing() -> None:
    x = torch.randn(4, 256)
    assert torch.equal(hadamard_transform(x, transpose=True), hadamard_transform(x))


def test_four_by_four() -> None:
    expected = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    assert hadamard_transform(torch.eye(4), scale=1.0).tolist() == expected


@every_size
def test_matrix_is_sylvesters(n: int) -> None:
    x = integers(3, n)
    assert torch.equal(hadamard_transform(x, scale=1.0), x @ sylvester(n))


def test_blocks_are_independent() -> None:
    x = torch.randn(5, 48)
    whole = hadamard_transform(x, block_size=16)
    for i in range(0, 48, 16):
        assert torch.equal(whole[:, i : i + 16], hadamard_transform(x[:, i : i + 16]))


def test_diagonals_stand_on_their_sides() -> None:
    x, pre, post = integers(3, 8), integers(8), integers(8)
    matrix = torch.diag(pre) @ sylvester(8) @ torch.diag(post)
    assert torch.equal(hadamard_transform(x, scale=1.0, pre=pre, post=post), x @ matrix)


@every_size
def test_exact_involution_of_integers(n: int) -> None:
    x = integers(3, n)
    assert torch.equal(hadamard_transform(hadamard_transform(x, scale=1.0), scale=1.0), n * x)


@every_size
def test_involution(n: int) -> None:
    x = torch.randn(4, n)
    twice = hadamard_transform(hadamard_transform(x))
    assert (twice - x).abs().max() <= 2 * (math.log2(n) + 2) * 2.0**-24 * x.abs().max()


@every_size
def test_linearity_is_exact_where_float32_is(n: int) -> None:
    a, b = integers(2, n), integers(2, n)
    summed = hadamard_transform(a + 4 * b, scale=1.0)
    assert torch.equal(summed, hadamard_transform(a, scale=1.0) + 4 * hadamard_transform(b, scale=1.0))


@every_size
def test_default_scale_makes_it_orthogonal(n: int) -> None:
    """Fails for anyone who scales by 1/n, as a published slide does."""
    matrix = hadamard_transform(torch.eye(n)) if n <= 1024 else hadamard_transform(torch.eye(n)[:64])
    product = matrix.double() @ matrix.double().T
    assert (product - torch.eye(len(product))).abs().max() <= 1e-6
    x = torch.randn(8, n)
    assert torch.allclose(hadamard_transform(x).norm(dim=1), x.norm(dim=1), rtol=1e-6)


@pytest.mark.parametrize("n", [2, 128, 512])
def test_scale_of_odd_powers_is_more_than_a_float(n: int) -> None:
    """float32(1/sqrt(n)) is 1.7e-8 low for odd powers of two: 10,000 transforms would lose 1.7e-4 of the norm."""
    x = torch.randn(4, n)
    y = x.clone()
    for _ in range(10_000):
        hadamard_transform_(y)
    drift = (y.double().norm(dim=1) / x.double().norm(dim=1) - 1).abs().max()
    assert drift <= 1e-5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_its_block(bad: float) -> None:
    x = torch.randn(3, 64)
    clean = hadamard_transform(x, block_size=16)
    x[1, 20] = bad
    y = hadamard_transform(x, block_size=16)
    hit = torch.zeros(3, 64, dtype=torch.bool)
    hit[1, 16:32] = True
    assert not y[hit].isfinite().any()
    assert torch.equal(y[~hit], clean[~hit])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_shape_against_the_reference(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from([1, 1, 12, 44, 92])) << data.draw(st.integers(0, 8))
    width = block * data.draw(st.integers(0, 5))
    lead = data.draw(st.lists(st.integers(0, 4), max_size=3))
    options: dict[str, Any] = {"block_size": block, "scale": data.draw(st.sampled_from([None, 1.0, -0.3, 0.0]))}
    options["transpose"] = data.draw(st.booleans())
    for name in data.draw(st.sets(st.sampled_from(["pre", "post"]))):
        options[name] = torch.randn(width, dtype=torch.float64)
    x = torch.randn(*lead, width, dtype=torch.float64)
    y, want = hadamard_transform(x, **options), reference(x, **options)
    assert y.shape == want.shape
    assert torch.allclose(y, want, rtol=0, atol=1e-13 * (float(want.abs().max()) if y.numel() else 1) + 1e-300)


def test_gradient_is_the_transform_with_the_diagonals_swapped() -> None:
    x, g, (pre, post) = torch.randn(5, 32, requires_grad=True), torch.randn(5, 32), torch.randn(2, 32)
    (got,) = torch.autograd.grad(hadamard_transform(x, pre=pre, post=post), x, g)
    assert torch.equal(got, hadamard_transform(g, pre=post, post=pre))


def test_first_and_second_derivatives() -> None:
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 12), (12,), (12,))]

    def function(x: torch.Tensor, pre: torch.Tensor, post: torch.Tensor) -> torch.Tensor:
        return hadamard_transform(x, block_size=4, pre=pre, post=post)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("shape", [(6,), (0, 6), (1, 6), (2, 0, 3, 6), (7, 5, 6)])
def test_gradients_of_diagonals_sum_over_every_leading_axis(shape: tuple[int, ...]) -> None:
    x, post = torch.randn(*shape, dtype=torch.float64), torch.randn(6, dtype=torch.float64, requires_grad=True)
    options: dict[str, Any] = {"block_size": 2, "post": post}
    (got,) = torch.autograd.grad(hadamard_transform(x, **options).sum(), post)
    (want,) = torch.autograd.grad(reference(x, **options).sum(), post)
    assert torch.allclose(got, want, rtol=1e-12)


def test_the_input_is_not_kept_for_a_fixed_transform() -> None:
    x = torch.randn(4, 64, requires_grad=True)
    assert hadamard_transform(x).grad_fn.saved_tensors == ()  # type: ignore[union-attr]
    saved = hadamard_transform(x, pre=torch.ones(64)).grad_fn.saved_tensors  # type: ignore[union-attr]
    assert saved[0] is None


def test_torch_func_is_refused_by_name() -> None:
    with pytest.raises(NotImplementedError, match=r"torch\.func"):
        torch.func.grad(lambda x: hadamard_transform(x).sum())(torch.ones(4))


def test_vmap_is_a_loop() -> None:
    x = torch.randn(3, 2, 8)
    assert torch.equal(torch.vmap(hadamard_transform)(x), hadamard_transform(x))
