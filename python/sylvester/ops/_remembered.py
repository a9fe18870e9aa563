"""What is derived from a tensor once and kept as long as that lives and nobody writes to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.compiler import is_compiling


class Remembered:
    """``derive(tensor, *options)`` by the identity of the tensor; the last options of each tensor are kept."""

    def __init__(self, derive: Callable[..., Tensor]) -> None:
        self.derive = derive
        self.kept: dict[int, tuple[weakref.ref[Tensor], tuple[Any, ...], Tensor]] = {}

    def get(self, tensor: Tensor, *options: Any) -> Tensor:
        """Afresh while tracing, where a gradient may be asked for, and for what cannot show that it was written to."""
        if is_compiling() or _functorch.peek_interpreter_stack() is not None:
            return self.derive(tensor, *options)
        if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.is_inference():
            return self.derive(tensor, *options)
        if tensor.requires_grad and torch.is_grad_enabled():
            return self.derive(tensor, *options)
        name, state = id(tensor), (tensor._version, tensor.data_ptr(), *options)
        found = self.kept.get(name)
        if found is not None and found[0]() is tensor and found[1] == state:
            return found[2]
        with torch.inference_mode(False), torch.no_grad():  # a later call may save it for its backward
            derived = self.derive(tensor, *options)
        self.kept[name] = weakref.ref(tensor, lambda gone: self._forget(name, gone)), state, derived
        return derived

    def _forget(self, name: int, gone: weakref.ref[Tensor]) -> None:
        """Another tensor may have the identity by now."""
        found = self.kept.get(name)
        if found is not None and found[0] is gone:
            del self.kept[name]
