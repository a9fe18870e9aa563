"""Binary weights: eight a byte.

    byte i    bit j is element 8i + j:  1 is +1, 0 is -1; what fills up the last byte is 0

Law: unpack(pack(w), K) = w for every w in {-1, 1}^K, and pack(unpack(p, K)) = p where unpack takes p.
"""

from __future__ import annotations

from torch import Tensor

from . import _encoding


def packed_bytes(in_features: int) -> int:
    """Bytes of a row of ``in_features`` weights."""
    return _encoding.ENCODINGS[_encoding.BINARY].packed_bytes(in_features)


def pack(codes: Tensor) -> Tensor:
    """Codes -1 and 1 in int8, (..., K) -> uint8 (..., ceil(K / 8)); ValueError names the first other value.

    >>> pack(torch.tensor([1, -1, 1, 1], dtype=torch.int8))
    tensor([13], dtype=torch.uint8)
    """
    return _encoding.pack(codes, _encoding.BINARY)


def unpack(packed: Tensor, in_features: int) -> Tensor:
    """What ``pack`` packed, int8 (..., in_features); ValueError where it did not pack ``in_features`` codes."""
    return _encoding.unpack(packed, _encoding.BINARY, in_features)
