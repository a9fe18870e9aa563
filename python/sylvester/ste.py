"""Straight-through estimators: a quantised value going forward, a surrogate gradient coming back.

    sign_ste(u)          s = +1 where u >= 0 (both zeros too), else -1; NaN stays NaN     ds/du := 1
    fake_quantize(w, p)  q = alpha/c * clamp(round(c*w/alpha), -c, c-1)                   dq/dw := 1
                         alpha = max|w| over the tensor, c = 2^(p-1), round = half to even
                         p = 1 is ternary: clamp to [-1, 1], so q is in {-alpha, 0, alpha}
    ternary_ste(w)       q = alpha * clamp(round(w/alpha), -1, 1), alpha = mean|w|        dq/dw := 1
                         threshold="absmax" makes alpha = max|w|: that is fake_quantize(w, 1)
    binary_ste(w)        q = alpha * s(w), alpha = mean|w|, which is the best one scale   dq/dw := 1
    clip=m (first two)   the surrogate gradient becomes 1 where |latent| <= m and 0 elsewhere
    per_row=True         alpha is that of each row (the last axis) by itself

Theory: these maps are constant almost everywhere, so their true derivative is zero and teaches nothing; the identity
(optionally with the saturation mask of binarised networks) is the derivative of the line they approximate.

Shapes: any; the result has the shape and dtype of the latent. Dtypes: float64 is computed in float64, everything else
in float32 (so 16-bit latents are rounded once). All are exact functions of their input, but for the sum in mean|w|:
same bits on every run.
Source: the quantiser and the estimator of HadamRNN (arXiv 2502.00047) and QORNN (arXiv 2402.04012). One documented
deviation: their sign maps 0 to 0, which deletes a row of the recurrence. Ternary by the mean: BitNet b1.58
(arXiv 2402.17764). Binary: XNOR-Net (arXiv 1603.05279).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad


def straight_through(value: Tensor, latent: Tensor) -> Tensor:
    """``value`` going forward; its gradient goes unchanged to ``latent`` (and none to what made ``value``)."""
    if value.shape != latent.shape or value.dtype != latent.dtype:
        raise ValueError(
            f"value and latent must have one shape and dtype, got {value.dtype} {tuple(value.shape)} "
            f"and {latent.dtype} {tuple(latent.shape)}"
        )
    if forward_ad._current_level >= 0:
        raise NotImplementedError("straight-through estimators have no forward-mode derivative; use reverse mode")
    if not (torch.is_grad_enabled() and latent.requires_grad):
        return value.detach()
    # Writing the value over a clone keeps it exact (latent + (value - latent) rounds: signs would miss ±1) and needs
    # no autograd.Function, which torch.func refuses and torch.export cannot save.
    result = latent.clone()
    result.detach().copy_(value)
    return result


def sign_ste(u: Tensor, clip: float | None = None) -> Tensor:
    """Signs of ``u`` in {-1, +1}; the gradient passes unchanged, or only where ``|u| <= clip``."""
    latent = _latent("u", u, clip)
    fixed = u.detach()
    signs = torch.ones_like(fixed).masked_fill(fixed < 0, -1.0)
    return straight_through(torch.where(fixed.isnan(), fixed, signs), latent)


def fake_quantize(
    w: Tensor, bits: int, *, minus_identity: bool = False, clip: float | None = None, per_row: bool = False
) -> Tensor:
    """``w`` rounded to ``bits`` bits, one scale a tensor; the gradient passes unchanged, or where ``|w| <= clip``.

    minus_identity: quantise w - I and add I back (w square); the scale still comes from w itself.
    A tensor of zeros stays zero; a NaN or an infinity in ``w`` leaves no scale, so all of it becomes NaN.
    """
    latent = _latent("w", w, clip)
    if minus_identity and (w.dim() != 2 or w.shape[0] != w.shape[1]):
        raise ValueError(f"minus_identity needs a square matrix w, got shape {tuple(w.shape)}")
    identity = torch.eye(w.shape[0], dtype=_wide(w).dtype, device=w.device) if minus_identity else None
    value = dequantized(*integer_codes(w, bits, per_row, identity))
    return straight_through((value if identity is None else value + identity).to(w.dtype), latent)


def ternary_ste(w: Tensor, threshold: str = "absmean", *, per_row: bool = False) -> Tensor:
    """``w`` in {-alpha, 0, alpha}; the gradient passes unchanged. NaN and infinity as in ``fake_quantize``."""
    return straight_through(dequantized(*ternary_codes(_latent("w", w), threshold, per_row)).to(w.dtype), w)


def binary_ste(w: Tensor, *, per_row: bool = False) -> Tensor:
    """``w`` in {-alpha, alpha}, zeros at alpha; the gradient passes unchanged. NaN as in ``fake_quantize``."""
    return straight_through(dequantized(*binary_codes(_latent("w", w), per_row)).to(w.dtype), w)


def integer_codes(
    w: Tensor, bits: int, per_row: bool = False, subtracted: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Codes of ``fake_quantize`` (of ``w - subtracted``, with the scale of w), whole numbers in the arithmetic dtype,
    and their scale: () or, for each row, ``w.shape[:-1]``. Neither has a gradient."""
    if bits not in range(1, 9):
        raise ValueError(f"bits must be an integer from 1 (ternary) to 8, got {bits!r}")
    wide, steps = _wide(w), 2 ** (bits - 1)
    alpha, scratch = _scale(wide, Tensor.amax, per_row)
    # steps is a power of two, so dividing first rounds only once.
    codes = _over(wide if subtracted is None else wide - subtracted, alpha, scratch).mul_(steps).round_()
    lowest, highest = (-1, 1) if bits == 1 else (-steps, steps - 1)
    return codes.clamp_min_(lowest).clamp_max_(highest), alpha / steps


def ternary_codes(w: Tensor, threshold: str = "absmean", per_row: bool = False) -> tuple[Tensor, Tensor]:
    """Codes and scale of ``ternary_ste``, as ``integer_codes``."""
    if threshold not in THRESHOLDS:
        raise ValueError(f"threshold must be one of {', '.join(THRESHOLDS)}, got {threshold!r}")
    wide = _wide(w)
    alpha, scratch = _scale(wide, THRESHOLDS[threshold], per_row)
    return _over(wide, alpha, scratch).round_().clamp_min_(-1).clamp_max_(1), alpha


def binary_codes(w: Tensor, per_row: bool = False) -> tuple[Tensor, Tensor]:
    """Codes and scale of ``binary_ste``, as ``integer_codes``."""
    wide = _wide(w)
    alpha, scratch = _scale(wide, Tensor.mean, per_row)
    return scratch.copy_(wide < 0).mul_(-2.0).add_(1.0), alpha


THRESHOLDS: dict[str, Callable[..., Tensor]] = {"absmean": Tensor.mean, "absmax": Tensor.amax}
"""What alpha of ternary weights is; half of it is where 0 ends."""


def dequantized(codes: Tensor, scale: Tensor) -> Tensor:
    """``codes`` times their scale, one or one a row, in the dtype of the scale."""
    return codes * (scale.unsqueeze(-1) if scale.dim() else scale)


def _wide(w: Tensor) -> Tensor:
    return w.detach() if w.dtype == torch.float64 else w.detach().float()


def _scale(wide: Tensor, reduce: Callable[..., Tensor], per_row: bool) -> tuple[Tensor, Tensor]:
    """Mean or maximum of absolute values, and a tensor like ``wide`` to write to: fresh memory costs more than codes.

    Row by row first, which torch does alike for any number of threads.
    """
    scratch = wide.abs()
    if not wide.numel():
        return wide.new_zeros(wide.shape[:-1] if per_row else ()), scratch
    rows = reduce(scratch, -1)
    return (rows if per_row else reduce(rows)), scratch


def _over(wide: Tensor, alpha: Tensor, out: Tensor) -> Tensor:
    """``wide`` / ``alpha``; where alpha is 0 every code is 0 whatever divides it."""
    divisor = alpha.masked_fill(alpha == 0, 1.0)
    return out.copy_(wide).div_(divisor.unsqueeze(-1) if divisor.dim() else divisor)


def _latent(name: str, latent: Tensor, clip: float | None = None) -> Tensor:
    """The tensor that receives the gradient: the latent itself, or its clamp, whose gradient is the mask."""
    if not isinstance(latent, Tensor) or not latent.is_floating_point():
        got = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if clip is None:
        return latent
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip!r}")
    return latent.clamp(-clip, clip)
