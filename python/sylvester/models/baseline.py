"""Rivals of equal budget: torch's RNN, LSTM and GRU with a linear read-out, all in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class BaselineConfig:
    """Everything that fixes the shape of a baseline."""

    input_size: int
    hidden_size: int
    output_size: int
    num_layers: int = 1
    last_only: bool = False
    batch_first: bool = False

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "output_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Baseline(nn.Module):
    """y_t = V h_t + b_o over the states of a recurrent layer of torch; of the last state only with ``last_only``.

    x  (T,B,I) or integer tokens (T,B), which mean their one-hot vectors  → outputs (T,B,O) or (B,O), and the last state
    as the layer returns and accepts it: (num_layers,B,D), for the LSTM a pair of these
    """

    recurrence_type: type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrence = self.recurrence_type(
            config.input_size, config.hidden_size, config.num_layers, batch_first=config.batch_first
        )
        self.readout = nn.Linear(config.hidden_size, config.output_size)

    def forward(self, x: Tensor, h0: Any = None) -> tuple[Tensor, Any]:
        if not x.is_floating_point():
            x = F.one_hot(x.long(), self.config.input_size).to(self.readout.weight.dtype)
        states, last = self.recurrence(x, h0)
        if self.config.last_only:
            states = states[:, -1] if self.config.batch_first else states[-1]
        return self.readout(states), last

    def parameter_groups(self, learning_rate: float, sign_learning_rate: float) -> list[dict[str, object]]:
        """Optimiser groups: one, since there are no signs."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def packed_bytes(self) -> int:
        """Size when deployed: every parameter in float32."""
        return sum(parameter.numel() for parameter in self.parameters()) * torch.finfo(torch.float32).bits // 8


class RNNModel(Baseline):
    """The tanh RNN."""

    recurrence_type = nn.RNN


class LSTMModel(Baseline):
    recurrence_type = nn.LSTM


class GRUModel(Baseline):
    recurrence_type = nn.GRU
