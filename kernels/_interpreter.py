"""Repairs of Triton's interpreter (TRITON_INTERPRET=1), for those who run the kernels in it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter


@cache
def repair() -> None:
    """Let ``tl.range`` take bounds known at run time and ``tl.dot`` sum every row alike; do what takes long once."""
    _convert_one_element_arrays()
    _multiply_rows_alike()
    _patch_once()
    _remember_types()


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


def _patch_once() -> None:
    """A third of the interpreter's time went into finding what to patch again for each call of a helper."""
    original = interpreter._patch_lang

    def patched(fn: Any) -> Any:
        found = languages(fn)
        done = found and not any(tl.core.is_builtin(language.load) for language in found)
        return interpreter._LangPatchScope() if done else original(fn)

    @cache
    def languages(fn: Any) -> list[Any]:
        return [value for value in fn.__globals__.values() if value is tl or value is tl.core]

    interpreter._patch_lang = patched


def _remember_types() -> None:
    """A third of what was left went into describing the same shapes again and again."""
    block_type, tensor = tl.core.block_type, tl.core.tensor
    make_type, make_tensor, find_dtype = block_type.__init__, tensor.__init__, interpreter._get_np_dtype
    types: dict[Any, dict[str, Any]] = {}
    shapes: dict[str, dict[str, Any]] = {}
    dtypes: dict[str, Any] = {}

    def patched_type(self: Any, element_ty: Any, shape: Any) -> None:
        sizes = [size.value if isinstance(size, tl.constexpr) else size for size in shape]
        key = (type(element_ty), element_ty.name, *sizes)
        if key not in types:
            make_type(self, element_ty, sizes)
            types[key] = vars(self).copy()
        vars(self).update(types[key])

    def patched_tensor(self: Any, handle: Any, type: Any) -> None:
        if type.name not in shapes:
            make_tensor(self, handle, type)
            shapes[type.name] = {name: vars(self)[name] for name in ("shape", "numel", "dtype")}
        vars(self).update(shapes[type.name], handle=handle, type=type)

    def patched_dtype(type: Any) -> Any:
        if type.name not in dtypes:
            dtypes[type.name] = find_dtype(type)
        return dtypes[type.name]

    block_type.__init__, tensor.__init__, interpreter._get_np_dtype = patched_type, patched_tensor, patched_dtype
