"""Laws of binary weights."""

from __future__ import annotations

import torch

from sylvester import binary_matmul, ternary_matmul
from sylvester.formats import binary, ternary

ONE = torch.ones(())


def test_signs_are_ternary_codes_without_zero() -> None:
    codes = (2 * torch.randint(0, 2, (37, 91)) - 1).to(torch.int8)
    x = torch.randn(5, 91)
    assert torch.equal(binary_matmul(x, binary.pack(codes), ONE), ternary_matmul(x, ternary.pack(codes), ONE))


def test_flipping_every_bit_flips_the_sign() -> None:
    codes = (2 * torch.randint(0, 2, (20, 64)) - 1).to(torch.int8)
    packed, x = binary.pack(codes), torch.randn(3, 64)
    assert torch.equal(binary_matmul(x, ~packed, ONE), -binary_matmul(x, packed, ONE))
