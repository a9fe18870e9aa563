"""HadamRNN and Block-HadamRNN: a linear recurrence whose matrix is a Hadamard matrix with learned signs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..ops._dispatch import require_block
from ..ops.hadamard_scan import hadamard_scan
from ..ops.hadamard_scan._basis import apply_basis, make_basis
from ..ops.hadamard_scan._check import TOKENS
from ..ops.hadamard_transform import hadamard_transform
from ..ste import fake_quantize, sign_ste
from ._cache import CachingModule
from .quant_linear import check_bits

MOST_BASIS_INPUTS = 4
"""A sum over the basis costs 2 · I operations a state and step; the scan's transform some 20."""

MOST_BASIS_ELEMENTS = 1 << 22


class HadamRNN(CachingModule):
    """h_t = W h_{t-1} + U_q x_t + bias,  W = diag(sign(sign_latent)) · block_size^(-1/2) (I ⊗ S); called like nn.RNN.

    T steps, B sequences, I = input_size, D = hidden_size = q · block_size, S the Sylvester matrix of size block_size.

    x            (T,B,I), or (B,T,I) with batch_first, or (T,I) without a batch; or integer tokens (T,B) | (B,T) | (T,),
                 which mean their one-hot vectors of width I
    h0           (1,B,D), or (1,D) without a batch; float32 (float64 in a float64 layer); zeros when left out
    output       every state (T,B,D) | (B,T,D) | (T,D) in the layer's dtype; with last_only the last one, (B,D) | (D)
    h_n          last state, shaped and typed as h0

    weight_ih    (D,I)  U, used on ``input_bits`` bits (1 is ternary; None leaves it in full precision)
    sign_latent  (D)    its signs are used, the gradient passes unchanged (where |u| <= sign_clip, if that is given)
    bias         (D)    full precision

    ``block_size=None`` is one block, so hidden_size must be a power of two. Without gradients the signs and U_q are
    remembered between calls. The layer is neutral under autocast: it runs in the dtype of x.

    With last_only, no h0 and input_size of at most 4 the last state is summed up as W^j [U_q b] x_{T-1-j}
    (``plan="basis"`` of hadamard_scan), which depends on neither B nor T. Without gradients these T · I · D numbers are
    remembered too, those of the last T, up to 16 MiB: what is left is one product, with the same bits.
    """

    _version = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        block_size: int | None = None,
        bias: bool = True,
        input_bits: int | None = 4,
        sign_clip: float | None = None,
        batch_first: bool = False,
        last_only: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"input_size and hidden_size must be at least 1, got {input_size} and {hidden_size}")
        check_bits("input_bits", input_bits)
        if sign_clip is not None and not sign_clip > 0:
            raise ValueError(f"sign_clip must be positive or None, got {sign_clip!r}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.block_size = hidden_size if block_size is None else block_size
        self.input_bits, self.sign_clip = input_bits, sign_clip
        self.batch_first, self.last_only = batch_first, last_only
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, **options))
        self.sign_latent = nn.Parameter(torch.empty(hidden_size, **options))
        self.bias = nn.Parameter(torch.empty(hidden_size, **options)) if bias else None
        require_block(self.block_size, hidden_size, self.sign_latent)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initial values of the paper: Xavier-uniform U and latent signs (a matrix of one row), bias U(±D^(-1/2))."""
        nn.init.xavier_uniform_(self.weight_ih)
        bound = math.sqrt(6 / (1 + self.hidden_size))
        nn.init.uniform_(self.sign_latent, -bound, bound)
        if self.bias is not None:
            bound = self.hidden_size**-0.5
            nn.init.uniform_(self.bias, -bound, bound)

    @property
    def weight(self) -> Tensor:
        """The recurrent matrix W (D,D), dense and detached: for inspection, never used in the forward pass."""
        with torch.no_grad():
            eye = torch.eye(self.hidden_size, dtype=self.sign_latent.dtype, device=self.sign_latent.device)
            transform = hadamard_transform(eye, block_size=self.block_size)
            return self.signs().unsqueeze(1) * transform

    def signs(self) -> Tensor:
        """The signs (D) of the recurrence, +1 or -1; the gradient passes to ``sign_latent``."""
        return sign_ste(self.sign_latent, self.sign_clip)

    def quantized_weight_ih(self) -> Tensor:
        """The input matrix U_q (D,I) of the recurrence; the gradient passes to ``weight_ih``."""
        return self._quantized(self.weight_ih)

    def _quantized(self, weight_ih: Tensor) -> Tensor:
        return weight_ih if self.input_bits is None else fake_quantize(weight_ih, self.input_bits)

    def _for_vectors(self, weight_ih: Tensor, sign_latent: Tensor) -> tuple[Tensor, Tensor]:
        return self._quantized(weight_ih), sign_ste(sign_latent, self.sign_clip)

    def _for_tokens(self, weight_ih: Tensor, sign_latent: Tensor) -> tuple[Tensor, Tensor]:
        return self._quantized(weight_ih).t().contiguous(), sign_ste(sign_latent, self.sign_clip)

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weight_ih, tokens = self._source("weight_ih"), x.dtype in TOKENS
        unbatched = self._check_input(x, h0, tokens, weight_ih.dtype)
        kind, derive = ("tokens", self._for_tokens) if tokens else ("vectors", self._for_vectors)
        weight, sign = self._derived.get(kind, derive, weight_ih, self._source("sign_latent"))
        if not tokens and x.dtype != weight.dtype:  # under autocast
            weight = weight.to(x.dtype)
        if unbatched:
            x = x.unsqueeze(0 if self.batch_first else 1)
        elif h0 is not None:
            h0 = h0.squeeze(0)
        output, last = self._run(x, h0, weight, sign, tokens)
        if unbatched:
            return output.squeeze(0 if self.batch_first or self.last_only else 1), last
        return output, last[None]

    def _run(self, x: Tensor, h0: Tensor | None, weight: Tensor, sign: Tensor, tokens: bool) -> tuple[Tensor, Tensor]:
        """``hadamard_scan`` by the plan of the layer; x (T,B,·) | (B,T,·), h0 (B,D)."""
        bias, steps = self._source("bias"), x.shape[1 if self.batch_first else 0]
        by_basis = self.last_only and h0 is None and self.input_size <= MOST_BASIS_INPUTS
        remembers = (
            not (torch.is_grad_enabled() or torch.compiler.is_compiling())
            and weight.dtype == self._source("weight_ih").dtype
        )
        if by_basis and remembers and steps * self.input_size * self.hidden_size <= MOST_BASIS_ELEMENTS:

            def derive(*_: Tensor) -> tuple[Tensor, Tensor]:
                return make_basis(weight, sign, bias, self.block_size, steps, tokens)

            sources = (self._source(name) for name in ("weight_ih", "sign_latent", "bias"))
            given = [source for source in sources if source is not None]
            basis, shift = self._derived.get("basis of tokens" if tokens else "basis", derive, *given, size=steps)
            last = apply_basis(x, basis, shift, self.batch_first)
            return last.to(weight.dtype), last
        return hadamard_scan(
            x,
            sign,
            bias,
            h0,
            weight=weight,
            block_size=self.block_size,
            last_only=self.last_only,
            batch_first=self.batch_first,
            plan="basis" if by_basis else "scan",
        )

    def _check_input(self, x: Tensor, h0: Tensor | None, tokens: bool, dtype: torch.dtype) -> bool:
        """Raise unless x and h0 fit the layer; returns whether x comes without a batch."""
        if not tokens and x.dtype != dtype:
            if not x.is_floating_point():
                raise TypeError(f"x must be floating point or integer tokens, got {x.dtype}")
            if not torch.is_autocast_enabled(x.device.type):
                raise TypeError(f"x must have the dtype of the layer's parameters, {dtype}, got {x.dtype}")
        dimensions = x.dim() + tokens
        if dimensions not in (2, 3):
            layout = "(B,T" if self.batch_first else "(T,B"
            wanted = f"{layout}) or (T,) for tokens" if tokens else f"{layout},I) or (T,I)"
            raise ValueError(f"x must have shape {wanted}, got {tuple(x.shape)}")
        if not tokens and x.size(-1) != self.input_size:
            raise ValueError(f"x must have width input_size = {self.input_size}, got shape {tuple(x.shape)}")
        unbatched = dimensions == 2
        if h0 is not None:
            batch = () if unbatched else (x.size(0 if self.batch_first else 1),)
            if h0.shape != (1, *batch, self.hidden_size):
                raise ValueError(f"h0 must have shape {(1, *batch, self.hidden_size)}, got {tuple(h0.shape)}")
        return unbatched

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}, block_size={self.block_size}, input_bits={self.input_bits}"
        options = {
            "bias=False": self.bias is None,
            "batch_first=True": self.batch_first,
            "last_only=True": self.last_only,
        }
        return ", ".join([text, *(option for option, given in options.items() if given)])


class BlockHadamRNN(HadamRNN):
    """HadamRNN with several blocks: ``block_size`` must be given, and hidden_size be a multiple of it."""

    def __init__(self, input_size: int, hidden_size: int, *, block_size: int, **options: Any) -> None:
        if block_size is None:
            raise ValueError("BlockHadamRNN needs block_size, a power of two that divides hidden_size")
        super().__init__(input_size, hidden_size, block_size=block_size, **options)
