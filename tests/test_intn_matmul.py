"""Laws of integer weights."""

from __future__ import annotations

import pytest
import torch

from sylvester import intn_matmul
from sylvester.formats import intn

ONE = torch.ones(())


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_code_counts_as_itself(bits: int) -> None:
    """A column of all codes of the alphabet, times one."""
    codes = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).to(torch.int8)[:, None]
    packed = intn.pack(codes, bits)
    for x, options in (
        (torch.ones(1, 1, dtype=torch.int8), {"x_scale": torch.ones(1)}),
        (torch.full((1, 1), 2.0), {"activation": "float"}),
    ):
        y = intn_matmul(x, packed, bits, ONE, **options)
        assert torch.equal(y, codes.T * x.float())


@pytest.mark.parametrize(("narrow", "wide"), [(2, 3), (3, 4), (4, 5), (5, 8)])
def test_codes_mean_the_same_at_more_bits(narrow: int, wide: int) -> None:
    codes = torch.randint(-(2 ** (narrow - 1)), 2 ** (narrow - 1), (19, 83)).to(torch.int8)
    x = torch.randn(4, 83)
    few, many = (intn_matmul(x, intn.pack(codes, bits), bits, ONE) for bits in (narrow, wide))
    assert torch.equal(few, many)
