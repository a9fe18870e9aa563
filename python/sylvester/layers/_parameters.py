"""The parameters of HadamRNN: options checked, initial values, and what is derived from them."""

from __future__ import annotations

import math
import warnings
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..ops._dispatch import require_block
from ..ops.hadamard_scan._check import ACTIVATIONS, MOST_OUTPUTS
from ..ops.hadamard_transform import hadamard_transform
from ..ste import fake_quantize, sign_ste
from ._cache import CachingModule
from ._cells import cells
from .quant_linear import check_bits

INSTEAD = {
    "nonlinearity": 'activation="identity", "relu" or "modrelu"',
    "proj_size": "output_size, a read-out of ReLU(h)",
}
"""Options of nn.RNN and nn.LSTM -> what serves here."""

USUAL = {
    "num_layers": 1,
    "activation": "identity",
    "dropout": 0.0,
    "bidirectional": False,
    "output_size": None,
    "batch_first": False,
    "last_only": False,
}
"""Options that a layer's text leaves out at these values."""

MOST_BASIS_INPUTS = 4
"""A sum over the basis costs 2 · I operations a state and step; the scan's transform some 20."""


class HadamParameters(CachingModule):
    """Everything of ``HadamRNN``, which documents it, but the call."""

    _version = 1

    weight_ih: nn.Parameter
    sign_latent: nn.Parameter
    bias: nn.Parameter | None
    weight_ho: nn.Parameter
    bias_ho: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        block_size: int | None = None,
        bias: bool = True,
        input_bits: int | None = 4,
        activation: str = "identity",
        dropout: float = 0.0,
        bidirectional: bool = False,
        output_size: int | None = None,
        output_bits: int | None = 4,
        sign_clip: float | None = None,
        batch_first: bool = False,
        last_only: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.block_size = hidden_size if block_size is None else block_size
        self.input_bits, self.sign_clip, self.activation, self.dropout = input_bits, sign_clip, activation, dropout
        self.bidirectional, self.directions = bidirectional, 2 if bidirectional else 1
        self.output_size, self.output_bits = output_size, output_bits
        self.batch_first, self.last_only = batch_first, last_only
        self._check_options(unknown)
        self._layers = cells(num_layers, bidirectional)
        # A call of one cell alone costs a tenth less without the loop over layers and directions.
        alone = num_layers == 1 and not bidirectional and output_size is None
        self._only_cell = self._layers[0][0] if alone else None
        self._few_inputs = num_layers == 1 and activation == "identity" and input_size <= MOST_BASIS_INPUTS

        def add(name: str, *shape: int, given: bool = True) -> None:
            values = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if given else None
            self.register_parameter(name, values)

        width = input_size
        for layer in self._layers:
            for cell in layer:
                add(cell.weight_ih, hidden_size, width)
                add(cell.sign_latent, hidden_size)
                add(cell.bias, hidden_size, given=bias)
                if activation == "modrelu":
                    add(cell.act_bias, hidden_size)
            width = hidden_size * self.directions
        if output_size is not None:
            add("weight_ho", output_size, width)
            add("bias_ho", output_size, given=bias)
        require_block(self.block_size, hidden_size, self.sign_latent)
        self.reset_parameters()

    def _check_options(self, unknown: dict[str, Any]) -> None:
        for name in unknown:
            options = ", ".join(list(signature(HadamParameters).parameters)[2:-1])
            instead = f"use {INSTEAD[name]}" if name in INSTEAD else f"its options are {options}"
            raise TypeError(f"{type(self).__name__} takes no {name}; {instead}")
        if self.input_size < 1 or self.hidden_size < 1:
            sizes = f"{self.input_size} and {self.hidden_size}"
            raise ValueError(f"input_size and hidden_size must be at least 1, got {sizes}")
        if not isinstance(self.num_layers, int) or self.num_layers < 1:
            raise ValueError(f"num_layers must be an integer of at least 1, got {self.num_layers!r}")
        check_bits("input_bits", self.input_bits)
        check_bits("output_bits", self.output_bits)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.sign_clip is not None and not self.sign_clip > 0:
            raise ValueError(f"sign_clip must be positive or None, got {self.sign_clip!r}")
        if self.output_size is not None and not 1 <= self.output_size <= MOST_OUTPUTS:
            raise ValueError(
                f"output_size must be None or 1 to {MOST_OUTPUTS}, got {self.output_size}; "
                "for more leave it out and apply QuantLinear to relu of the states"
            )
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout must be from 0 to 1, got {self.dropout!r}")
        if self.dropout and self.num_layers == 1:
            warnings.warn(f"dropout={self.dropout} acts between layers, and num_layers is 1", stacklevel=3)

    def reset_parameters(self) -> None:
        """Initial values of the paper: Xavier-uniform U, V and latent signs (a matrix of one row), biases U(±D^(-1/2)).

        The biases of modrelu are U(±0.01), as in the authors' code.
        """
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("weight"):
                nn.init.xavier_uniform_(parameter)
                continue
            width = self.hidden_size * (self.directions if name == "bias_ho" else 1)
            bound = math.sqrt(6 / (1 + width)) if name.startswith("sign") else width**-0.5
            bound = 0.01 if name.startswith("act") else bound
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing to do: there is no cuDNN buffer. nn.RNN has this method."""

    @property
    def weight(self) -> Tensor:
        """The recurrent matrix W (D,D) of the first cell, dense and detached: for inspection, never used."""
        with torch.no_grad():
            signs = self.signs()
            eye = torch.eye(self.hidden_size, dtype=signs.dtype, device=signs.device)
            return signs.unsqueeze(1) * hadamard_transform(eye, block_size=self.block_size)

    def signs(self, suffix: str = "") -> Tensor:
        """The signs (D) of a cell's recurrence, +1 or -1; the gradient passes to its ``sign_latent``."""
        return sign_ste(getattr(self, "sign_latent" + suffix), self.sign_clip)

    def quantized_weight_ih(self, suffix: str = "") -> Tensor:
        """The input matrix U_q of a cell; the gradient passes to its ``weight_ih``."""
        return self._quantized(getattr(self, "weight_ih" + suffix))

    def quantized_weight_ho(self) -> Tensor:
        """The read-out matrix, both directions side by side; the gradient passes to ``weight_ho``."""
        return torch.cat(self._for_readout(self.weight_ho), dim=1)

    def _quantized(self, weight_ih: Tensor) -> Tensor:
        return weight_ih if self.input_bits is None else fake_quantize(weight_ih, self.input_bits)

    def _for_vectors(self, weight_ih: Tensor, sign_latent: Tensor) -> tuple[Tensor, Tensor]:
        return self._quantized(weight_ih), sign_ste(sign_latent, self.sign_clip)

    def _for_tokens(self, weight_ih: Tensor, sign_latent: Tensor) -> tuple[Tensor, Tensor]:
        return self._quantized(weight_ih).t().contiguous(), sign_ste(sign_latent, self.sign_clip)

    def _for_readout(self, weight_ho: Tensor) -> tuple[Tensor, ...]:
        weight = weight_ho if self.output_bits is None else fake_quantize(weight_ho, self.output_bits)
        return weight.chunk(self.directions, dim=1)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, block_size={self.block_size}, input_bits={self.input_bits}"
        options = ["bias=False"] if self.bias is None else []
        options += [f"{name}={getattr(self, name)!r}" for name, usual in USUAL.items() if getattr(self, name) != usual]
        return ", ".join([text, *options])
