"""What a stack of recurrent layers is made of: a cell for each direction of each layer, and the names of its parts."""

from __future__ import annotations

from typing import NamedTuple


class Cell(NamedTuple):
    """One direction of one layer: the names of its parameters, and of what the cache derives from them."""

    suffix: str
    reverse: bool
    weight_ih: str
    sign_latent: str
    bias: str
    act_bias: str
    for_vectors: str
    for_tokens: str


def cells(num_layers: int, bidirectional: bool) -> tuple[tuple[Cell, ...], ...]:
    """Layers from the input up, in each the forward direction first; the first cell of all has no suffix."""
    directions = (False, True) if bidirectional else (False,)
    return tuple(tuple(_cell(depth, reverse) for reverse in directions) for depth in range(num_layers))


def _cell(depth: int, reverse: bool) -> Cell:
    suffix = (f"_l{depth}" if depth else "") + ("_reverse" if reverse else "")
    names = ("weight_ih", "sign_latent", "bias", "act_bias", "for_vectors", "for_tokens")
    return Cell(suffix, reverse, *(name + suffix for name in names))
