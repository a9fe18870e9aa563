"""Which block sizes have a Hadamard matrix, and the factors that are no power of two: for all rooms that transform."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ._dispatch import _INTEGERS, LARGEST_BLOCK, LARGEST_BLOCK_CUDA, describe

ORDERS: tuple[int, ...] = tuple(torch.ops.sylvester._hadamard_orders().tolist())
"""Ascending: the factors m of blocks m·2^k, whose matrices csrc/common/hadamard_matrix.h constructs."""


@cache
def factor_of(block: int) -> int:
    """The m for which ``block / m`` is a power of two: 1 for powers of two, 0 where there is none.

    Of two, which only 172 and 344 are, the larger.
    """
    for m in (*reversed(ORDERS), 1):
        if block % m == 0 and block // m & (block // m - 1) == 0:  # a block that torch traces has no bit_count
            return m
    return 0


@cache
def factor_matrix(m: int) -> Tensor:
    """H_m: (m, m), int8, ±1, H Hᵀ = m·I."""
    return torch.ops.sylvester._hadamard_factor(m)


def largest_block(width: int, limit: int) -> int:
    """The largest block up to ``limit`` that divides ``width`` (at least 1)."""
    found = 1
    for m in (1, *ORDERS):
        block = m * (width // m & -(width // m)) if width % m == 0 else 1
        while block > limit and block % 2 == 0:
            block //= 2
        if block <= limit and factor_of(block):
            found = max(found, block)
    return found


def require_factored_block(block_size: Any, width: int, like: Tensor) -> None:
    """Raise unless ``block_size`` has a Hadamard matrix, divides ``width``, and the device of ``like`` can do it."""
    if not isinstance(block_size, _INTEGERS):
        raise TypeError(f"block_size must be an int or None, got {describe(block_size)}")
    limit = LARGEST_BLOCK_CUDA if like.is_cuda else LARGEST_BLOCK
    if block_size < 1 or not factor_of(int(block_size)) or width % block_size:
        best = f"; the largest that fits is {largest_block(int(width), limit)}" if width else ""
        raise ValueError(
            f"block_size must divide the width {width} and be a power of two or m times one, m the order of a known "
            f"Hadamard matrix ({', '.join(map(str, ORDERS[:3]))}, ... up to {ORDERS[-1]}), got {block_size}{best}"
        )
    if block_size > limit:
        raise ValueError(f"block_size must be at most {limit} on {like.device.type}, got {block_size}")
