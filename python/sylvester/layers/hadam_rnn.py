"""HadamRNN and Block-HadamRNN: recurrences whose matrix is a Hadamard matrix with learned signs, called like nn.RNN."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..ops.hadamard_scan import hadamard_scan
from ..ops.hadamard_scan._basis import apply_basis, make_basis
from ..ops.hadamard_scan._check import TOKENS
from ._cells import Cell
from ._input import check_input, run_packed
from ._parameters import HadamParameters

MOST_BASIS_ELEMENTS = 1 << 22


class HadamRNN(HadamParameters):
    """h_t = σ(W h_{t-1} + U_q x_t + bias),  W = diag(sign(sign_latent)) · block_size^(-1/2) (I ⊗ S).

    T steps, B sequences, I = input_size, D = hidden_size = q · block_size, S the Sylvester matrix of size block_size,
    O = output_size, L = num_layers, twice that when bidirectional, in nn.RNN's order. σ = ``activation``: identity,
    relu, or modrelu, sgn(a) ReLU(|a| + act_bias). A layer above the first is driven by the states of the layer below
    (2D wide when bidirectional), with ``dropout`` between them in training.

    x            (T,B,I), or (B,T,I) with batch_first, or (T,I) without a batch; or integer tokens (T,B) | (B,T) | (T,),
                 which mean their one-hot vectors of width I; or a PackedSequence of either
    h0           (L,B,D), or (L,D) without a batch; float32 (float64 in a float64 layer); zeros when left out
    lengths      (B) int64 or int32, 0 to T: each sequence ends by itself, outputs behind its end are 0
    output       every state of the top layer, (T,B,D) | (B,T,D) | (T,D) in the layer's dtype, 2D when bidirectional
                 with output_size: the read-out q(weight_ho) ReLU(h) + bias_ho instead, O wide; states are not kept
                 with last_only: of the last state alone, (B,·) | (·)
                 a PackedSequence when x is one, unless last_only
    h_n          last states, shaped and typed as h0

    weight_ih    (D,I)  U, used on ``input_bits`` bits (1 is ternary; None leaves it in full precision)
    sign_latent  (D)    its signs are used, the gradient passes unchanged (where |u| <= sign_clip, if that is given)
    bias         (D)    full precision
    act_bias     (D)    full precision; with modrelu only
    weight_ho    (O,D)  used on ``output_bits`` bits; (O,2D) when bidirectional
    bias_ho      (O)    full precision

    These are the names in the first layer's forward direction; others end in _l1, _reverse, _l1_reverse and so on.
    ``block_size=None`` is one block, so hidden_size must be a power of two. Without gradients the signs and quantised
    matrices are remembered between calls. The layer is neutral under autocast: it runs in the dtype of x.

    One layer with last_only, no activation, no h0, no lengths and input_size of at most 4 sums its last state up as
    W^j [U_q b] x_{T-1-j} (``plan="basis"`` of hadamard_scan), which depends on neither B nor T. Without gradients these
    T · I · D numbers are remembered too, those of the last T, up to 16 MiB: what is left is one product, same bits.
    """

    def forward(
        self, x: Tensor | PackedSequence, h0: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        if isinstance(x, PackedSequence):
            return run_packed(self, x, h0, lengths)
        unbatched = check_input(self, x, h0, lengths, x.dtype in TOKENS)
        if unbatched:
            x = x.unsqueeze(0 if self.batch_first else 1)
            h0 = None if h0 is None else h0.unsqueeze(1)
        if self._only_cell is None:
            output, last = self._run_layers(x, h0, lengths)
        else:
            start = None if h0 is None else h0.squeeze(0)
            output, last = self._scan(self._only_cell, x, start, lengths, None, self.last_only)
            last = last[None]
        if unbatched:
            return output.squeeze(0 if self.batch_first or self.last_only else 1), last.squeeze(1)
        return output, last

    def _run_layers(self, x: Tensor, h0: Tensor | None, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        lasts: list[Tensor] = []
        for layer in self._layers:
            if lasts and self.dropout and self.training:
                x = F.dropout(x, self.dropout)
            x = self._run_layer(layer, x, h0, lengths, lasts)
        return x, torch.stack(lasts)

    def _run_layer(
        self, layer: tuple[Cell, ...], x: Tensor, h0: Tensor | None, lengths: Tensor | None, lasts: list[Tensor]
    ) -> Tensor:
        """The output of one layer; the last states of its cells are appended to ``lasts``."""
        top = layer is self._layers[-1]
        matrices = None
        if top and self.output_size is not None:
            matrices = self._derived.get("readout", self._for_readout, self._source("weight_ho"))
        outputs: list[Tensor] = []
        for cell in layer:
            readout = None
            if matrices is not None:  # the halves of the read-out are summed, so its bias enters once
                readout = matrices[int(cell.reverse)], None if cell.reverse else self._source("bias_ho")
            start = None if h0 is None else h0[len(lasts)]
            output, last = self._scan(cell, x, start, lengths, readout, self.last_only and top)
            outputs.append(output)
            lasts.append(last)
        if not self.bidirectional:
            return outputs[0]
        return torch.cat(outputs, dim=-1) if matrices is None else outputs[0] + outputs[1]

    def _scan(
        self,
        cell: Cell,
        x: Tensor,
        h0: Tensor | None,
        lengths: Tensor | None,
        readout: tuple[Tensor, Tensor | None] | None,
        last_only: bool,
    ) -> tuple[Tensor, Tensor]:
        tokens = x.dtype in TOKENS
        name, derive = (cell.for_tokens, self._for_tokens) if tokens else (cell.for_vectors, self._for_vectors)
        weight, sign = self._derived.get(name, derive, self._source(cell.weight_ih), self._source(cell.sign_latent))
        if not tokens and x.dtype != weight.dtype:  # under autocast
            weight = weight.to(x.dtype)
        bias = self._source(cell.bias)
        by_basis = last_only and h0 is None and lengths is None and self._few_inputs
        if by_basis and self._remembers_basis(cell, weight, steps := x.shape[1 if self.batch_first else 0]):

            def basis_of(*_: Tensor) -> tuple[Tensor, Tensor]:
                return make_basis(weight, sign, bias, self.block_size, steps, tokens)

            names = (cell.weight_ih, cell.sign_latent, cell.bias)
            given = [source for source in map(self._source, names) if source is not None]
            basis, shift = self._derived.get("basis of tokens" if tokens else "basis", basis_of, *given, size=steps)
            h0 = apply_basis(x, basis, shift, self.batch_first)
            if readout is None:
                return h0.to(weight.dtype), h0
            x, by_basis = x.narrow(1 if self.batch_first else 0, 0, 0), False  # no steps are left: the scan reads out
        return hadamard_scan(
            x,
            sign,
            bias,
            h0,
            weight=weight,
            block_size=self.block_size,
            lengths=lengths,
            readout=readout,
            activation=self.activation,
            act_bias=self._source(cell.act_bias) if self.activation == "modrelu" else None,
            last_only=last_only,
            reverse=cell.reverse,
            batch_first=self.batch_first,
            plan="basis" if by_basis else "scan",
        )

    def _remembers_basis(self, cell: Cell, weight: Tensor, steps: int) -> bool:
        """Whether a basis is kept: without gradients and graphs, in the layer's own dtype, forwards, up to 16 MiB."""
        return (
            not (torch.is_grad_enabled() or torch.compiler.is_compiling() or cell.reverse)
            and weight.dtype == self._source(cell.weight_ih).dtype
            and steps * self.input_size * self.hidden_size <= MOST_BASIS_ELEMENTS
        )


class BlockHadamRNN(HadamRNN):
    """HadamRNN with several blocks: ``block_size`` must be given, and hidden_size be a multiple of it."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, block_size: int, **options: Any
    ) -> None:
        if block_size is None:
            raise ValueError("BlockHadamRNN needs block_size, a power of two that divides hidden_size")
        super().__init__(input_size, hidden_size, num_layers, block_size=block_size, **options)
