"""What a recurrent layer is called with: checked arrays, and packed sequences brought into that form and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

if TYPE_CHECKING:
    from .hadam_rnn import HadamRNN


def check_input(layer: HadamRNN, x: Tensor, h0: Tensor | None, lengths: Tensor | None, tokens: bool) -> bool:
    """Raise unless the arguments fit the layer; returns whether x comes without a batch."""
    if not tokens:
        dtype = layer._source("weight_ih").dtype
        if x.dtype != dtype:
            if not x.is_floating_point():
                raise TypeError(f"x must be floating point or integer tokens, got {x.dtype}")
            if not torch.is_autocast_enabled(x.device.type):
                raise TypeError(f"x must have the dtype of the layer's parameters, {dtype}, got {x.dtype}")
    dimensions = x.dim() + tokens
    if dimensions not in (2, 3):
        layout = "(B,T" if layer.batch_first else "(T,B"
        wanted = f"{layout}) or (T,) for tokens" if tokens else f"{layout},I) or (T,I)"
        raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
    if not tokens and x.size(-1) != layer.input_size:
        raise ValueError(f"x must have width input_size = {layer.input_size}, got shape {tuple(x.shape)}")
    unbatched = dimensions == 2
    if unbatched and lengths is not None:
        raise ValueError("lengths must be left out without a batch: cut x instead")
    if h0 is not None:
        check_state(layer, h0, () if unbatched else (x.size(0 if layer.batch_first else 1),))
    return unbatched


def check_state(layer: HadamRNN, h0: Tensor, batch: tuple[int, ...]) -> None:
    wanted = (layer.num_layers * layer.directions, *batch, layer.hidden_size)
    if h0.shape != wanted:
        raise ValueError(f"h0 must have shape {wanted}, got {tuple(h0.shape)}")


def run_packed(
    layer: HadamRNN, packed: PackedSequence, h0: Tensor | None, lengths: Tensor | None
) -> tuple[Tensor | PackedSequence, Tensor]:
    """The layer's answer for a PackedSequence: h0 and h_n in the order the sequences had before they were packed."""
    if lengths is not None:
        raise ValueError("lengths must be left out with a PackedSequence, which has its own")
    order, back = packed.sorted_indices, packed.unsorted_indices
    # In their sorted order, so that the outputs can take the input's place whatever order ties were given.
    padded, own = pad_packed_sequence(PackedSequence(packed.data, packed.batch_sizes), layer.batch_first)
    if h0 is not None and order is not None:
        check_state(layer, h0, (len(own),))
        h0 = h0.index_select(1, order)
    output, last = layer.forward(padded, h0, own.to(padded.device))
    if back is not None:
        last = last.index_select(1, back)
    assert isinstance(output, Tensor)
    if layer.last_only:
        return output if back is None else output.index_select(0, back), last
    data = pack_padded_sequence(output, own, layer.batch_first).data
    return PackedSequence(data, packed.batch_sizes, order, back), last
