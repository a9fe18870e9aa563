"""Straight-through estimators: a quantised value going forward, a surrogate gradient coming back.

    sign_ste(u)          s = +1 where u >= 0 (both zeros too), else -1; NaN stays NaN     ds/du := 1
    fake_quantize(w, p)  q = alpha/c * clamp(round(c*w/alpha), -c, c-1)                   dq/dw := 1
                         alpha = max|w| over the tensor, c = 2^(p-1), round = half to even
                         p = 1 is ternary: clamp to [-1, 1], so q is in {-alpha, 0, alpha}
    clip=m (both)        the surrogate gradient becomes 1 where |latent| <= m and 0 elsewhere

Theory: both maps are constant almost everywhere, so their true derivative is zero and teaches nothing; the identity
(optionally with the saturation mask of binarised networks) is the derivative of the line they approximate.

Shapes: any; the result has the shape and dtype of the latent. Dtypes: float64 is computed in float64, everything else
in float32 (so 16-bit latents are rounded once). Both are exact functions of their input: same bits on every run.
Source: the quantiser and the estimator of HadamRNN (arXiv 2502.00047) and QORNN (arXiv 2402.04012). One documented
deviation: their sign maps 0 to 0, which deletes a row of the recurrence.
"""

from __future__ import annotations

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


def fake_quantize(w: Tensor, bits: int, *, minus_identity: bool = False, clip: float | None = None) -> Tensor:
    """``w`` rounded to ``bits`` bits, one scale a tensor; the gradient passes unchanged, or where ``|w| <= clip``.

    minus_identity: quantise w - I and add I back (w square); the scale still comes from w itself.
    A tensor of zeros stays zero; a NaN or an infinity in ``w`` leaves no scale, so all of it becomes NaN.
    """
    latent = _latent("w", w, clip)
    if bits not in range(1, 9):
        raise ValueError(f"bits must be an integer from 1 (ternary) to 8, got {bits!r}")
    if minus_identity and (w.dim() != 2 or w.shape[0] != w.shape[1]):
        raise ValueError(f"minus_identity needs a square matrix w, got shape {tuple(w.shape)}")
    if w.numel() == 0:
        return straight_through(w.detach(), latent)
    wide = w.detach() if w.dtype == torch.float64 else w.detach().float()
    alpha = wide.abs().amax()
    steps = 2 ** (bits - 1)
    identity = torch.eye(w.shape[0], dtype=wide.dtype, device=w.device) if minus_identity else None
    shifted = wide if identity is None else wide - identity
    # steps is a power of two, so dividing first rounds only once; where alpha is 0 every code is 0 whatever divides it.
    codes = (shifted / alpha.masked_fill(alpha == 0, 1.0) * steps).round()
    codes = codes.clamp(-1, 1) if bits == 1 else codes.clamp(-steps, steps - 1)
    value = codes * (alpha / steps)
    return straight_through((value if identity is None else value + identity).to(w.dtype), latent)


def _latent(name: str, latent: Tensor, clip: float | None) -> Tensor:
    """The tensor that receives the gradient: the latent itself, or its clamp, whose gradient is the mask."""
    if not isinstance(latent, Tensor) or not latent.is_floating_point():
        got = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if clip is None:
        return latent
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip!r}")
    return latent.clamp(-clip, clip)
