"""Ternary weights at 1.6 bits: five a byte, as the digits of a number to the base 3.

    byte i = Σ_j 3^j (w_{5i+j} + 1), j = 0 to 4, at most 242; 243 to 255 stand for nothing
    what fills up the last byte is w = 0

Law: unpack(pack(w), K) = w for every w in {-1, 0, 1}^K, and pack(unpack(p, K)) = p where unpack takes p.
"""

from __future__ import annotations

from torch import Tensor

from . import _encoding


def packed_bytes(in_features: int) -> int:
    """Bytes of a row of ``in_features`` weights."""
    return _encoding.ENCODINGS[_encoding.TRITS].packed_bytes(in_features)


def pack(codes: Tensor) -> Tensor:
    """Codes -1, 0, 1 in int8, (..., K) -> uint8 (..., ceil(K / 5)); ValueError names the first other value.

    >>> pack(torch.tensor([-1, 0, 1, 1, -1, 1], dtype=torch.int8))
    tensor([ 75, 122], dtype=torch.uint8)
    """
    return _encoding.pack(codes, _encoding.TRITS)


def unpack(packed: Tensor, in_features: int) -> Tensor:
    """What ``pack`` packed, int8 (..., in_features); ValueError where it did not pack ``in_features`` codes."""
    return _encoding.unpack(packed, _encoding.TRITS, in_features)
