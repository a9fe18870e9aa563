"""One repair of Triton's interpreter (TRITON_INTERPRET=1), for those who run the kernels in it."""

from __future__ import annotations

from typing import Any

from triton.runtime import interpreter


def convert_one_element_arrays() -> None:
    """Let ``tl.range`` take a bound known at run time: the arrays that stand for numbers, NumPy 2.4 won't convert."""
    original = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = patched
