"""The HadamRNN model: linear recurrence, ReLU, quantised read-out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import HadamRNN, QuantLinear


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


class HadamModel(nn.Module):
    """y_t = q(V) ReLU(h_t) + b_o over the states of a ``HadamRNN``; y of the last state only with ``last_only``.

    x  (T,B,I) or integer tokens (T,B), as ``HadamRNN``  → logits (T,B,O) and the last state (1,B,D)

    The recurrence is linear: its states cannot tell how parts of one input belong together, say a number and the mark
    beside it. With ``encoder_size`` it is driven by ReLU(q(E) x_t + b_e) instead of x_t; x must then be vectors.
    """

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
        self.recurrence = HadamRNN(
            width,
            config.hidden_size,
            block_size=config.block_size,
            input_bits=config.bits,
            batch_first=config.batch_first,
            last_only=config.last_only,
        )
        self.readout = QuantLinear(config.hidden_size, config.output_size, config.bits)

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.encoder is not None:
            if not x.is_floating_point():
                raise TypeError(f"x must be floating point for a model with an encoder, got {x.dtype}")
            x = F.relu(self.encoder(x))
        states, last = self.recurrence(x, h0)
        return self.readout(F.relu(states)), last

    def parameter_groups(self, learning_rate: float, sign_learning_rate: float) -> list[dict[str, object]]:
        """Optimiser groups: the latent signs take smaller steps, since one flip moves every later state."""
        signs = [self.recurrence.sign_latent]
        others = [parameter for parameter in self.parameters() if parameter is not signs[0]]
        return [{"params": signs, "lr": sign_learning_rate}, {"params": others, "lr": learning_rate}]

    def packed_bytes(self) -> int:
        """Size when deployed: a bit a sign, ``bits`` (2 when ternary) a quantised weight, float32 biases."""
        bits = {None: 32, 1: 2}.get(self.config.bits, self.config.bits or 32)
        matrices = {"encoder.weight", "recurrence.weight_ih", "readout.weight"}
        size = self.recurrence.sign_latent.numel()
        for name, parameter in self.named_parameters():
            if parameter is not self.recurrence.sign_latent:
                size += parameter.numel() * (bits if name in matrices else torch.finfo(torch.float32).bits)
        return (size + 7) // 8


class BlockHadamModel(HadamModel):
    """HadamModel with several Hadamard blocks: ``block_size`` must be given."""

    def __init__(self, config: HadamConfig) -> None:
        if config.block_size is None:
            raise ValueError("block_size must be given for block-hadam: a power of two that divides hidden_size")
        super().__init__(config)
