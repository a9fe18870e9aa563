"""Repairs of Triton's interpreter (TRITON_INTERPRET=1), for those who run the kernels in it."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter


@cache
def repair() -> None:
    """Let ``tl.range`` take bounds known at run time, ``tl.dot`` sum every row alike, and look for builtins once."""
    _convert_one_element_arrays()
    _multiply_rows_alike()
    _remember_builtins()


def _convert_one_element_arrays() -> None:
    """The arrays that stand for numbers, which NumPy 2.4 won't convert."""
    original = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched


def _multiply_rows_alike() -> None:
    """As tensor cores do. NumPy's own matrix product adds a row's terms in an order that depends on where it stands."""
    original = interpreter.InterpreterBuilder.create_dot

    def patched(self: Any, a: Any, b: Any, total: Any, *options: Any) -> Any:
        if not a.data.dtype == b.data.dtype == total.data.dtype == np.float32:
            return original(self, a, b, total, *options)
        product = np.einsum("mk,kn->mn", a.data, b.data)
        return interpreter.TensorHandle(product + total.data, total.dtype.scalar)

    interpreter.InterpreterBuilder.create_dot = patched


def _remember_builtins() -> None:
    """A third of the interpreter's time went into listing the members of triton.language for each call of a helper."""
    names: dict[Any, list[str]] = {}

    def patched(package: Any, builder: Any, scope: Any) -> None:
        if package not in names:  # the first time nothing is patched yet
            names[package] = [name for name, member in inspect.getmembers(package) if tl.core.is_builtin(member)]
        for name in names[package]:
            member = getattr(package, name)
            if not tl.core.is_builtin(member):  # inside of a call that has patched all of them
                return
            interpreter._patch_attr(package, name, member, builder, scope)

    interpreter._patch_builtin = patched
