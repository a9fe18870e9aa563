"""The two states of a weight of few bits, and the ways from one to the other: freeze, thaw, load."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..formats import _encoding as formats
from ..ops._dispatch import describe
from ..ops.lowbit_matmul import layout
from ..ste import dequantized
from ._cache import CachingModule

Self = TypeVar("Self", bound="Freezable")

STATES = ("weight", "packed", "scale")
LAYOUT = "layout of packed"


class Freezable(CachingModule):
    """A module with one quantised weight (N,K).

    learning  ``weight`` is a latent parameter, packed and scale are None
    frozen    ``packed`` (N,bytes) uint8 and ``scale`` () or (N) float32 are buffers, weight is None

    Loading makes the layer what the state is: that of a frozen layer freezes it, that of a learning one makes it learn.
    ``scale`` stays float32 whatever the layer is converted to.
    """

    in_features: int
    out_features: int
    encoding: int | None
    per_row: bool
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    packed: Tensor | None
    scale: Tensor | None

    def _codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers and their scale () or (N), without gradients, in the arithmetic dtype of ``ste``."""
        raise NotImplementedError

    @property
    def frozen(self) -> bool:
        return self.packed is not None

    def freeze(self: Self) -> Self:
        """Pack the weight and drop the latent one, for good; the layer is in ``eval()`` mode then.

        The state_dict holds packed, scale and bias from then on. An optimiser that has the weight keeps it, in vain.
        """
        if self.packed is not None:
            return self
        encoding = self._need_encoding("freeze() needs")
        weight = self._parameters.get("weight")
        if weight is None:
            raise RuntimeError("freeze() needs weight to be a plain parameter; remove its parametrisation first")
        with torch.inference_mode(False), torch.no_grad():
            codes, scale = self._codes(weight)
            if not bool(scale.isfinite().all()):
                raise ValueError("weight must be finite to be packed, got NaN or infinity in it")
            self._set_state(None, formats.pack(whole_numbers(codes), encoding), scale.float())
        return self.eval()

    def thaw(self: Self, dtype: torch.dtype | None = None) -> Self:
        """Make the layer learn again, from latents equal to the dequantised weights; warns that this is lossy.

        dtype: of the latents; None: that of the bias, or float32. Mean and maximum of these latents are not those of
        the old ones, so that quantising them may give another scale: the zeros now lower the mean of "absmean".
        """
        if self.packed is None:
            return self
        warnings.warn(
            "thaw() is lossy: the latent weights become the dequantised ones; what they were before freeze() is gone",
            stacklevel=2,
        )
        with torch.inference_mode(False), torch.no_grad():
            weight = self._unpacked()
            wanted = dtype or (weight.dtype if self.bias is None else self.bias.dtype)
            self._set_state(nn.Parameter(weight.to(wanted)), None, None)
        return self

    def frozen_bytes(self) -> int:
        """Bytes of the state_dict of the frozen layer."""
        rows, row = self._packed_shape()
        return (
            rows * row + 4 * (self.out_features if self.per_row else 1) + (0 if self.bias is None else self.bias.nbytes)
        )

    def _unpacked(self) -> Tensor:
        """The weight of a frozen layer, float32."""
        assert self.packed is not None and self.scale is not None and self.encoding is not None
        return dequantized(formats.unpack(self.packed, self.encoding, self.in_features).float(), self.scale)

    def _layout_of_packed(self) -> Tensor:
        packed = self._source("packed")
        if not torch.compiler.is_compiling():
            return self._derived.keep(LAYOUT, self._lay, packed)
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting() and _keep_layout(self):
            return self._derived.kept(LAYOUT)
        return self._lay(packed)

    def _lay(self, packed: Tensor) -> Tensor:
        assert self.encoding is not None
        return layout(packed, self.encoding, self.in_features)

    def _need_encoding(self, wanted: str) -> int:
        if self.encoding is None:
            raise ValueError(f"{wanted} weights of few bits; {type(self).__name__} has bits=None")
        return self.encoding

    def _packed_shape(self) -> tuple[int, int]:
        encoding = self._need_encoding("packing needs")
        return self.out_features, formats.ENCODINGS[encoding].packed_bytes(self.in_features)

    def _set_state(self, weight: nn.Parameter | None, packed: Tensor | None, scale: Tensor | None) -> None:
        self._derived.clear()
        self.weight, self.packed, self.scale = weight, packed, scale

    def train(self: Self, mode: bool = True) -> Self:
        # Nobody writes a packed weight through .data; without its layout, a compiled graph would be compiled anew.
        return super().train(mode) if self.packed is None else nn.Module.train(self, mode)

    def _apply(self: Self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        scale = self.scale
        super()._apply(fn, recurse)
        if scale is not None and self.scale is not None and self.scale.dtype != scale.dtype:
            self.scale = scale.to(self.scale.device)
        return self

    def _prepare_to_load(self, state: dict[str, Any]) -> str | None:
        given = {name: state[name] for name in STATES if name in state}
        problem = self._misfit(given)
        own = self.weight if self.packed is None else self.packed
        device = None if own is None else own.device
        if problem is None and "packed" in given and self.packed is None:
            self._set_state(None, *(torch.empty_like(given[name], device=device) for name in ("packed", "scale")))
            self.eval()
        elif problem is None and "weight" in given and self.packed is not None:
            self._set_state(nn.Parameter(torch.empty_like(given["weight"], device=device)), None, None)
        return problem

    def _misfit(self, given: dict[str, Tensor]) -> str | None:
        """Why the state of a frozen layer is none of this layer, if it is not."""
        if "packed" not in given and "scale" not in given:
            return None
        if given.keys() != {"packed", "scale"}:
            return f"a frozen layer has packed and scale, and no weight; the state has {', '.join(sorted(given))}"
        if self.encoding is None:
            return f"{type(self).__name__} has bits=None and cannot be frozen, but the state is that of a frozen layer"
        wanted = {
            "packed": (torch.uint8, self._packed_shape()),
            "scale": (torch.float32, (self.out_features,) if self.per_row else ()),
        }
        for name, (dtype, shape) in wanted.items():
            tensor = given[name]
            if tensor.dtype != dtype or tuple(tensor.shape) != shape:
                return f"{name} must be {str(dtype).removeprefix('torch.')} of shape {shape}, got {describe(tensor)}"
        return None


def whole_numbers(codes: Tensor) -> Tensor:
    """Codes in int8, overwritten; NaN, whose conversion is undefined, becomes 0: its scale is NaN."""
    return codes.nan_to_num_(0.0).to(torch.int8)


def _keep_layout(layer: Freezable) -> bool:
    """While a graph is traced: derive the layout outside of it. Returns whether it is kept, for the graph to read."""
    return layer._derived.keep(LAYOUT, layer._lay, layer._source("packed")) is layer._derived.kept(LAYOUT)


# torch.compiler.assume_constant_result by hand: that one imports the compiler, which takes a second.
_keep_layout.__dict__["_dynamo_marked_constant"] = True
