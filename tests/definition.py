"""HadamRNN by its definition: one dense product a step, a loop for each cell, plain PyTorch, any float dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from sylvester.layers import HadamRNN
from sylvester.ste import fake_quantize, sign_ste


def states_of(layer: HadamRNN, x: Tensor, h0: Tensor | None = None) -> Tensor:
    """States (T,B,D) of a layer's first cell; differentiable through both estimators."""
    return _cell(layer, "", x, x.new_zeros(x.shape[1], layer.hidden_size) if h0 is None else h0[0], None)[0]


def run(layer: HadamRNN, x: Tensor, h0: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(output, h_n) of a whole layer for vectors (T,B,I), without dropout."""
    lasts: list[Tensor] = []
    for depth in range(layer.num_layers):
        runs = []
        for suffix in ("", "_reverse")[: layer.directions]:
            start = x.new_zeros(x.shape[1], layer.hidden_size) if h0 is None else h0[len(lasts)]
            runs.append(_cell(layer, (f"_l{depth}" if depth else "") + suffix, x, start, lengths))
            lasts.append(runs[-1][1])
        x = torch.cat([states for states, _ in runs], dim=-1)
    output = torch.cat(lasts[-layer.directions :], dim=-1) if layer.last_only else x
    if layer.output_size is not None:
        weight = layer.weight_ho if layer.output_bits is None else fake_quantize(layer.weight_ho, layer.output_bits)
        output = torch.relu(output) @ weight.T + (0.0 if layer.bias_ho is None else layer.bias_ho)
        if lengths is not None and not layer.last_only:
            output = output * (torch.arange(len(x)).unsqueeze(1) < lengths).unsqueeze(-1)
    return output, torch.stack(lasts)


def _cell(layer: HadamRNN, suffix: str, x: Tensor, h0: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    weight = _recurrent(layer, getattr(layer, "sign_latent" + suffix))
    matrix, bias = getattr(layer, "weight_ih" + suffix), getattr(layer, "bias" + suffix)
    drive = matrix if layer.input_bits is None else fake_quantize(matrix, layer.input_bits)
    state, states = h0, [h0] * len(x)
    steps = range(len(x))
    for t in reversed(steps) if suffix.endswith("_reverse") else steps:
        new = state @ weight.T + x[t] @ drive.T + (0.0 if bias is None else bias)
        if layer.activation == "relu":
            new = torch.relu(new)
        elif layer.activation == "modrelu":
            new = new.sign() * torch.relu(new.abs() + getattr(layer, "act_bias" + suffix))
        runs = torch.ones(x.shape[1], 1) if lengths is None else (t < lengths).unsqueeze(1)
        state = torch.where(runs.bool(), new, state)
        states[t] = new * runs
    return torch.stack(states), state


def _recurrent(layer: HadamRNN, latent: Tensor) -> Tensor:
    size = layer.block_size
    sylvester = torch.ones(1, 1, dtype=latent.dtype)
    while len(sylvester) < size:
        sylvester = torch.kron(sylvester, torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=latent.dtype))
    blocks = torch.block_diag(*[sylvester] * (layer.hidden_size // size)) / size**0.5
    return sign_ste(latent, layer.sign_clip).unsqueeze(1) * blocks
