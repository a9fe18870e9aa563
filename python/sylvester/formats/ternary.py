"""Ternary weights at 2 bits: four a byte.

    byte i    bits 7 6   5 4   3 2   1 0        u = w + 1:  -1 is 0, 0 is 1, +1 is 2; 3 stands for nothing
              4i + 3  4i + 2  4i + 1  4i        what fills up the last byte is u = 1

Law: unpack(pack(w), K) = w for every w in {-1, 0, 1}^K, and pack(unpack(p, K)) = p where unpack takes p.
"""

from __future__ import annotations

from torch import Tensor

from . import _encoding


def packed_bytes(in_features: int) -> int:
    """Bytes of a row of ``in_features`` weights."""
    return _encoding.ENCODINGS[_encoding.TERNARY].packed_bytes(in_features)


def pack(codes: Tensor) -> Tensor:
    """Codes -1, 0, 1 in int8, (..., K) -> uint8 (..., ceil(K / 4)); ValueError names the first other value.

    >>> pack(torch.tensor([-1, 0, 1, 1, -1], dtype=torch.int8))
    tensor([164,  84], dtype=torch.uint8)
    """
    return _encoding.pack(codes, _encoding.TERNARY)


def unpack(packed: Tensor, in_features: int) -> Tensor:
    """What ``pack`` packed, int8 (..., in_features); ValueError where it did not pack ``in_features`` codes."""
    return _encoding.unpack(packed, _encoding.TERNARY, in_features)
