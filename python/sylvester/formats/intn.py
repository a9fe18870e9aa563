"""Integers of 2 to 8 bits, stored in s = 2 (2 bits), 4 (3 and 4) or 8 (5 to 8).

    s = 2     bits 7 6   5 4   3 2   1 0      s = 4     bits 7-4   3-0      s = 8     bits 7-0
    byte i    4i + 3  4i + 2  4i + 1  4i                2i + 1   2i                   i

    u = w + 2^(s - 1);  w in [-2^(bits - 1), 2^(bits - 1) - 1];  what fills up the last byte is w = 0

3 bits take 4, and 5 to 7 take 8: ``stated_bytes`` is what the bits promise, ``packed_bytes`` what they take. Packed
int4 activations are this format too.

Law: unpack(pack(w, bits), bits, K) = w for every such w, and pack(unpack(p, bits, K), bits) = p where unpack takes p.
"""

from __future__ import annotations

from torch import Tensor

from . import _encoding


def stated_bytes(in_features: int, bits: int) -> float:
    """Bytes that ``in_features`` weights would take at exactly ``bits`` bits."""
    return in_features * check_bits(bits) / 8


def packed_bytes(in_features: int, bits: int) -> int:
    """Bytes of a row of ``in_features`` weights, as stored."""
    return _encoding.ENCODINGS[check_bits(bits)].packed_bytes(in_features)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes in int8, (..., K) -> uint8 (..., ceil(K s / 8)); ValueError names the first that ``bits`` bits do not hold.

    >>> pack(torch.tensor([-8, 7, 0], dtype=torch.int8), 4)
    tensor([240, 136], dtype=torch.uint8)
    """
    return _encoding.pack(codes, check_bits(bits))


def unpack(packed: Tensor, bits: int, in_features: int) -> Tensor:
    """What ``pack`` packed, int8 (..., in_features); ValueError where it did not pack ``in_features`` codes."""
    return _encoding.unpack(packed, check_bits(bits), in_features)


def check_bits(bits: int) -> int:
    """Raise ValueError unless ``bits`` is an integer from 2 to 8; returns it."""
    if type(bits) is not int or not 2 <= bits <= 8:
        raise ValueError(f"bits must be an integer from 2 to 8, got {bits!r}")
    return bits
