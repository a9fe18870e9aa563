"""Tensors derived from parameters (signs, quantised weights), remembered while the parameter stays what it was.

They serve calls that need no gradient; a call that does computes them afresh, so that autograd sees the estimator.
An entry is recognised by its parameter's address, version, dtype and device. Writing through ``parameter.data`` leaves
all four as they are: call ``eval()`` or ``train()`` afterwards, as one does between training and evaluation anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Self = TypeVar("Self", bound="CachingModule")
Value = TypeVar("Value", Tensor, tuple[Tensor, Tensor], tuple[Tensor, ...])


class DerivedTensors:
    """Name -> (key, sources, value). Copies and pickles of it are empty."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[list[Any], list[Tensor], Any]] = {}

    def __reduce__(self) -> tuple[type[DerivedTensors], tuple[()]]:
        return DerivedTensors, ()

    def clear(self) -> None:
        self._entries.clear()

    def get(self, name: str, derive: Callable[..., Value], *sources: Tensor, size: int = 0) -> Value:
        """``derive(*sources)``, a tensor or a tuple of them; or what it returned for these very sources.

        size: of what is derived, where the sources don't tell it; the last one is remembered.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return derive(*sources)
        return self._remember(name, derive, sources, size)

    def keep(self, name: str, derive: Callable[[Tensor], Tensor], source: Tensor) -> Tensor:
        """The same of a source that carries no gradient, in every mode; not to be traced."""
        return self._remember(name, partial(_without_gradients, derive), (source,), 0)

    def kept(self, name: str) -> Any:
        """What was derived last, or None; a compiled graph reads it here at every call, as it reads a parameter."""
        entry = self._entries.get(name)
        return None if entry is None else entry[2]

    def _remember(self, name: str, derive: Callable[..., Value], sources: tuple[Tensor, ...], size: int) -> Value:
        key: list[Any] = [size]
        try:
            for source in sources:
                key += (source.data_ptr(), source._version, source.dtype, source.device)
        except RuntimeError:  # a tensor without address or version (fake, batched, inference) is not recognisable
            return derive(*sources)
        entry = self._entries.get(name)
        if entry is not None and entry[0] == key:
            return cast(Value, entry[2])
        value = derive(*sources)
        if all(type(part) in (Tensor, nn.Parameter) for part in (value if isinstance(value, tuple) else (value,))):
            # The sources are kept as well: while they live, no other tensor can get their addresses.
            self._entries[name] = (key, [source.detach() for source in sources], value)
        return value


def _without_gradients(derive: Callable[[Tensor], Tensor], source: Tensor) -> Tensor:
    """Outside inference mode too: autograd refuses to save what is made there."""
    with torch.inference_mode(False), torch.no_grad():
        return derive(source)


class CachingModule(nn.Module):
    """A module with derived tensors; moving, loading, copying, pickling and ``train()`` drop them."""

    def __init__(self) -> None:
        super().__init__()
        self._derived = DerivedTensors()

    def _source(self, name: str) -> Tensor:
        """The parameter, past nn.Module's slow lookup; a parametrised one comes from its property."""
        parameter = self._parameters.get(name)
        return getattr(self, name) if parameter is None else parameter

    def _apply(self: Self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._derived.clear()
        return super()._apply(fn, recurse)

    def train(self: Self, mode: bool = True) -> Self:
        self._derived.clear()
        return super().train(mode)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self._derived.clear()
        version = local_metadata.get("version", self._version)
        if version is not None and version > self._version:
            error_msgs.append(
                f"{prefix or 'the state'} was written by version {version} of {type(self).__name__}, "
                f"this sylvester reads up to version {self._version}"
            )
            return
        own = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
        problem = self._prepare_to_load(own)
        if problem is not None:
            error_msgs.append(f"{prefix or type(self).__name__}: {problem}")
            return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _prepare_to_load(self, state: dict[str, Any]) -> str | None:
        """Become what ``state`` (by own names) can be copied to, or return why that cannot be."""
        return None
