"""The HadamRNN model: linear recurrence, ReLU, quantised read-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import HadamRNN, QuantLinear
from ..ops.hadamard_scan._check import MOST_OUTPUTS

SIGNS = "sign_latent"

BEFORE_VERSION_2 = {"readout.weight": "recurrence.weight_ho", "readout.bias": "recurrence.bias_ho"}
"""Name of a parameter in version 1 -> its name in version 2, where the read-out is part of the recurrence."""


@dataclass(frozen=True)
class HadamConfig:
    """Everything that fixes the shape of a ``HadamModel``."""

    input_size: int
    hidden_size: int
    output_size: int
    block_size: int | None = None
    bits: int | None = 4
    """Bits of the input, encoder and read-out matrices; 1 is ternary, None full precision."""
    encoder_size: int | None = None
    """Width of a ReLU layer that each input vector passes by itself, before the recurrence; None leaves it out."""
    last_only: bool = False
    batch_first: bool = False
    num_layers: int = 1
    bidirectional: bool = False
    activation: str = "identity"
    """What every state passes within the recurrence: identity, relu or modrelu."""
    dropout: float = 0.0
    """Share of the states between layers that a training step leaves out."""


class HadamModel(nn.Module):
    """y_t = q(V) ReLU(h_t) + b_o over the states of a ``HadamRNN``; y of the last state only with ``last_only``.

    x  (T,B,I) or integer tokens (T,B), as ``HadamRNN``  → logits (T,B,O) and the last states (L,B,D)

    A read-out of at most 32 outputs is part of the recurrence and its states are kept nowhere. h0 and lengths are those
    of ``HadamRNN``, whose num_layers, bidirectional, activation and dropout these are; logits behind the end of a
    sequence are 0, or b_o with more than 32 outputs.

    One layer without activation is linear: its states cannot tell how parts of one input belong together, say a number
    and the mark beside it. With ``encoder_size`` it is driven by ReLU(q(E) x_t + b_e) instead of x_t; x must then be
    vectors.
    """

    _version = 2

    def __init__(self, config: HadamConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: QuantLinear | None = None
        width = config.input_size
        if config.encoder_size is not None:
            self.encoder = QuantLinear(width, config.encoder_size, config.bits)
            # W has the eigenvalue 1, so what drives every step alike grows with their number.
            nn.init.zeros_(self.encoder.get_parameter("bias"))
            width = config.encoder_size
        inside = config.output_size <= MOST_OUTPUTS
        self.recurrence = HadamRNN(
            width,
            config.hidden_size,
            config.num_layers,
            block_size=config.block_size,
            input_bits=config.bits,
            activation=config.activation,
            dropout=config.dropout,
            bidirectional=config.bidirectional,
            output_size=config.output_size if inside else None,
            output_bits=config.bits,
            batch_first=config.batch_first,
            last_only=config.last_only,
        )
        states = config.hidden_size * self.recurrence.directions
        self.readout = None if inside else QuantLinear(states, config.output_size, config.bits)

    def forward(self, x: Tensor, h0: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.encoder is not None:
            if not x.is_floating_point():
                raise TypeError(f"x must be floating point for a model with an encoder, got {x.dtype}")
            x = F.relu(self.encoder(x))
        output, last = self.recurrence(x, h0, lengths)
        return output if self.readout is None else self.readout(F.relu(output)), last

    def parameter_groups(self, learning_rate: float, sign_learning_rate: float) -> list[dict[str, object]]:
        """Optimiser groups: the latent signs take smaller steps, since one flip moves every later state."""
        named = list(self.named_parameters())
        signs = [parameter for name, parameter in named if SIGNS in name]
        others = [parameter for name, parameter in named if SIGNS not in name]
        return [{"params": signs, "lr": sign_learning_rate}, {"params": others, "lr": learning_rate}]

    def packed_bytes(self) -> int:
        """Size when deployed: a bit a sign, ``bits`` (2 when ternary) a quantised weight, float32 biases."""
        bits = {None: 32, 1: 2}.get(self.config.bits, self.config.bits or 32)
        size = 0
        for name, parameter in self.named_parameters():
            wide = bits if "weight" in name else torch.finfo(torch.float32).bits
            size += parameter.numel() * (1 if SIGNS in name else wide)
        return (size + 7) // 8

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        if self.readout is None and local_metadata.get("version", 1) < 2:  # saved directories keep no version
            for old, new in BEFORE_VERSION_2.items():
                if prefix + old in state_dict:
                    state_dict[prefix + new] = state_dict.pop(prefix + old)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class BlockHadamModel(HadamModel):
    """HadamModel with several Hadamard blocks: ``block_size`` must be given."""

    def __init__(self, config: HadamConfig) -> None:
        if config.block_size is None:
            raise ValueError("block_size must be given for block-hadam: a power of two that divides hidden_size")
        super().__init__(config)
