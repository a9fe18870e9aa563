"""What the formats share: the table of encodings, packing in plain PyTorch, and the operators that pack on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sylvester import _library as _library  # the import loads the library, which defines the raw operators

BINARY, TERNARY, TRITS = 0, 1, 9
"""Codes of the encodings in raw operators; an int-n of 2 to 8 bits is its number of bits."""


@dataclass(frozen=True)
class Encoding:
    """A byte is Σ u_i · base^i of its fields; a weight is step · u - zero."""

    name: str
    fields: int
    base: int
    step: int
    zero: int
    lowest: int
    highest: int

    @property
    def padding(self) -> int:
        """u of what fills up the last byte of a row: of code 0, or of -1 where there is no 0."""
        return self.zero // self.step

    def packed_bytes(self, in_features: int) -> int:
        """Bytes of a row."""
        return -(-in_features // self.fields)

    def outside(self, codes: Tensor) -> Tensor:
        """Where codes are not in the alphabet."""
        wrong = (codes < self.lowest) | (codes > self.highest)
        return wrong if self.step == 1 else wrong | (codes == 0)


def _integers(bits: int) -> Encoding:
    stored, half = 2 if bits == 2 else 4 if bits <= 4 else 8, 1 << (bits - 1)
    return Encoding(f"int{bits}", 8 // stored, 1 << stored, 1, 1 << (stored - 1), -half, half - 1)


ENCODINGS = {
    BINARY: Encoding("binary", 8, 2, 2, 1, -1, 1),
    TERNARY: Encoding("ternary", 4, 4, 1, 1, -1, 1),
    **{bits: _integers(bits) for bits in range(2, 9)},
    TRITS: Encoding("trits", 5, 3, 1, 1, -1, 1),
}
"""As ``encoding_of`` in csrc/lowbit_matmul/encoding.h."""


def pack(codes: Tensor, encoding: int) -> Tensor:
    """int8 codes (..., K) in storage; raises TypeError or ValueError naming the first value outside the alphabet."""
    _require("codes", codes, torch.int8)
    return torch.ops.sylvester.lowbit_pack(codes, encoding)


def unpack(packed: Tensor, encoding: int, in_features: int) -> Tensor:
    """int8 codes (..., in_features) from storage; raises as ``pack``, and where the length or the padding is wrong."""
    _require("packed", packed, torch.uint8)
    return torch.ops.sylvester.lowbit_unpack(packed, encoding, in_features)


def _require(name: str, tensor: Any, dtype: torch.dtype) -> None:
    if not isinstance(tensor, Tensor) or tensor.dtype != dtype or tensor.layout != torch.strided:
        got = f"{tensor.layout} {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name} must be a dense tensor of dtype {str(dtype).removeprefix('torch.')}, got {got}")
    if tensor.dim() == 0:
        raise ValueError(f"{name} must have at least one dimension, got a tensor of shape ()")


def plain_pack(codes: Tensor, encoding: int) -> Tensor:
    """``pack`` in plain PyTorch: the reference, and what runs on GPUs."""
    e = ENCODINGS[encoding]
    _require_inside("codes", codes, e)
    fields = (codes.int() + e.zero) // e.step
    columns = codes.shape[-1]
    padded = functional.pad(fields, (0, -columns % e.fields), value=e.padding)
    by_byte = padded.unflatten(-1, (e.packed_bytes(columns), e.fields))
    return (by_byte * _places(e, codes)).sum(-1).to(torch.uint8)


def plain_unpack(packed: Tensor, encoding: int, in_features: int) -> Tensor:
    """``unpack`` in plain PyTorch: the reference, and what runs on GPUs."""
    e = ENCODINGS[encoding]
    check_length(packed, e, in_features)
    fields = packed.int().unsqueeze(-1) // _places(e, packed) % e.base
    if encoding == TRITS:
        fields = fields.masked_fill((packed >= e.base**e.fields).unsqueeze(-1), e.base)
    codes = (e.step * fields - e.zero).to(torch.int8).flatten(-2)
    kept = codes[..., :in_features].contiguous()
    _require_inside("packed", kept, e)
    if bool((codes[..., in_features:] != e.step * e.padding - e.zero).any()):
        raise ValueError(f"packed ends a row with other bits than the padding of {e.name}")
    return kept


def check_length(packed: Tensor, e: Encoding, in_features: int) -> None:
    """Raise unless the rows of ``packed`` have as many bytes as ``in_features`` codes take."""
    if in_features < 0 or packed.shape[-1] != e.packed_bytes(in_features):
        raise ValueError(
            f"packed must have {e.packed_bytes(in_features)} bytes a row for {in_features} {e.name} codes, "
            f"got {packed.shape[-1]}"
        )


def _places(e: Encoding, like: Tensor) -> Tensor:
    return torch.tensor([e.base**i for i in range(e.fields)], dtype=torch.int32, device=like.device)


def _require_inside(name: str, codes: Tensor, e: Encoding) -> None:
    wrong = e.outside(codes)
    if bool(wrong.any()):
        row, k = wrong.reshape(-1, wrong.shape[-1]).nonzero()[0].tolist()
        allowed = "-1 and 1" if e.step > 1 else f"{e.name} codes from {e.lowest} to {e.highest}"
        got = int(codes.reshape(wrong.shape)[..., k].reshape(-1)[row])
        raise ValueError(f"{name} must hold {allowed}, got {got} in row {row} at {k}")


@torch.library.register_fake("sylvester::lowbit_pack")
def _fake_pack(codes: Tensor, encoding: int) -> Tensor:
    shape = (*codes.shape[:-1], ENCODINGS[encoding].packed_bytes(codes.shape[-1]))
    return codes.new_empty(shape, dtype=torch.uint8)


@torch.library.register_fake("sylvester::lowbit_unpack")
def _fake_unpack(packed: Tensor, encoding: int, in_features: int) -> Tensor:
    check_length(packed, ENCODINGS[encoding], in_features)
    return packed.new_empty((*packed.shape[:-1], in_features), dtype=torch.int8)


torch.library.impl("sylvester::lowbit_pack", "CUDA")(plain_pack)
torch.library.impl("sylvester::lowbit_unpack", "CUDA")(plain_unpack)
