"""What every room shares: the way into a raw operator, the guards torch does not set around it, the words of errors."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

import torch
from torch import Tensor, is_grad_enabled, is_inference_mode_enabled
from torch._C import _any_requires_grad, _AutoDispatchBelowAutograd, _functorch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from sylvester import _library as _library  # the import loads the library, which defines the raw operators

WIDE = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
}
"""Accepted dtype -> dtype the operators compute in."""

LARGEST_BLOCK = 1 << 20
LARGEST_BLOCK_CUDA = 1 << 15

_INTEGERS: Any = (int, torch.SymInt)


_eager_derivatives: dict[Any, Callable[..., Any]] = {}


def call(op: Any, *arguments: Any) -> Any:
    """Run a raw operator from a public function.

    Eager calls step over the Python layer of ``register_autograd``, which costs more than a small operator: below it
    where no gradient is needed (inference_mode gets there by itself), else through the Function of ``derive_eager``.
    """
    if forward_ad._current_level >= 0:
        refuse_forward_mode(op)
    if is_compiling():
        return op(*arguments)
    kernel = op._op  # what calling op does, without its Python frame
    if is_inference_mode_enabled():
        return kernel(*arguments)
    if is_grad_enabled() and _any_requires_grad(*arguments):
        if _functorch.peek_interpreter_stack() is not None:
            raise NotImplementedError(f"{op} has no torch.func derivative; use torch.autograd.grad or backward()")
        return _eager_derivatives[op](*arguments)
    with _AutoDispatchBelowAutograd():
        return kernel(*arguments)


def derive_eager(op: Any, backward: Callable[..., Any], setup_context: Callable[..., Any]) -> None:
    """Let ``call`` use the formulas given to ``register_autograd``, at a third of the cost."""

    class Derivative(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            with _AutoDispatchBelowAutograd():
                output = op(*arguments)
            setup_context(ctx, arguments, output)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return backward(ctx, *gradients)

    _eager_derivatives[op] = Derivative.apply


def no_gradient(op: Any, reason: str) -> None:
    """Give an operator a derivative that raises; with none at all its gradient would be zero, silently."""

    def refuse(ctx: Any, *gradients: Any) -> NoReturn:
        raise NotImplementedError(f"{op}: {reason}")

    torch.library.register_autograd(op.name(), refuse)
    derive_eager(op, refuse, lambda *_: None)


def refuse_forward_mode(op: Any) -> NoReturn:
    """Without this a forward-mode derivative would be zero, silently."""
    raise NotImplementedError(f"{op} has no forward-mode derivative (torch.func.jvp, dual numbers); use reverse mode")


def call_in_place(
    op: Any,
    arguments: tuple[Any, ...],
    name: str,
    target: Tensor,
    sources: dict[str, Tensor | None],
    replaced: Tensor | None = None,
) -> None:
    """Run a mutable operator that writes ``target``: torch guards neither its memory nor its gradient.

    ``sources``: what is read while ``target`` is written, so it may not share memory with it. ``replaced``: what
    ``target`` may stand in for, element by element, but not overlap in any other way.
    """
    if forward_ad._current_level >= 0:
        refuse_forward_mode(op)
    tracing = is_compiling()
    if is_grad_enabled() and (_traced_requires_grad if tracing else _any_requires_grad)(*arguments):
        raise RuntimeError(
            f"writing into {name} is not differentiable, but {name} or another argument requires grad; "
            "use the form that returns a new tensor, or torch.no_grad()"
        )
    if tracing:  # a traced graph has no addresses, and turns mutation into copies
        op(*arguments)
        return
    if not target.is_contiguous() and _overlaps_itself(target):
        raise ValueError(
            f"{name} must not overlap itself, got shape {tuple(target.shape)} with strides {target.stride()}: "
            "several elements share one place in memory; clone() it first"
        )
    if replaced is not None and not _same_memory(target, replaced):
        sources = {"x": replaced, **sources}
    for other, source in sources.items():
        if source is not None and _share_memory(target, source):
            raise ValueError(f"{name} must not share memory with {other}; clone() one of them first")
    if not target.is_inference():
        torch.autograd.graph.increment_version(target)
    op._op(*arguments)


def _traced_requires_grad(*arguments: Any) -> bool:
    """torch's own ``_any_requires_grad`` for Dynamo, which cannot trace that one."""
    return any(isinstance(argument, Tensor) and argument.requires_grad for argument in arguments)


def launch(operator: str, name: str, *arguments: Any) -> Any:
    """Run the Triton launcher ``name`` of ``sylvester.kernels.<operator>`` on the device of its tensors."""
    launcher = getattr(import_module(f"sylvester.kernels.{operator}"), name)
    tensor = next(argument for argument in arguments if isinstance(argument, Tensor))
    with torch.cuda.device_of(tensor):  # Triton launches on the current device
        return launcher(*arguments)


def sum_rows(values: Tensor) -> Tensor:
    """Sum over all axes but the last, in pairs: unlike torch.sum, the same bits for any stride and thread count."""
    rows = values.flatten(0, -2) if values.dim() > 1 else values[None]
    if type(rows.shape[0]) is not int or rows.shape[0] == 0:  # a symbolic count has no number of pairs
        return rows.sum(0)
    while rows.shape[0] > 1:
        head, tail = rows.tensor_split(2)  # head may be one row longer
        pairs = head[: tail.shape[0]] + tail
        rows = pairs if head.shape == tail.shape else torch.cat((pairs, head[-1:]))
    return rows[0]


def explain(check: Callable[..., Any], *arguments: Any) -> None:
    """Within ``except``: let ``check`` raise instead, which names the argument; return where it finds nothing wrong."""
    try:
        check(*arguments)
    except (TypeError, ValueError) as error:
        raise error from None


def describe(value: Any) -> str:
    """A value as errors show it."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__} {value!r:.60}"
    layout = "" if value.layout == torch.strided else f" {value.layout}"
    return f"a{layout} {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)} on {value.device}"


def require_floats(name: str, value: Any, alternative: str = "") -> None:
    """Raise TypeError unless ``value`` is a dense tensor of an accepted float dtype."""
    if not isinstance(value, Tensor) or value.dtype not in WIDE or value.layout != torch.strided:
        accepted = ", ".join(str(dtype).removeprefix("torch.") for dtype in WIDE)
        raise TypeError(f"{name} must be a dense tensor of dtype {accepted}{alternative}, got {describe(value)}")


def require_vector(name: str, vector: Any, width: int, like: Tensor) -> None:
    """Raise unless ``vector`` holds ``width`` floats on the device of ``like``."""
    require_floats(name, vector)
    if vector.dim() != 1 or vector.shape[0] != width:
        raise ValueError(f"{name} must have shape ({width},), one value a column, got {tuple(vector.shape)}")
    require_device(name, vector, like)


def require_device(name: str, tensor: Tensor, like: Tensor) -> None:
    """Raise unless both tensors are on one device: with several, torch would run the fake kernel and return garbage."""
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on the device of the first argument, {like.device}, got {tensor.device}")


def require_block(block_size: Any, width: int, like: Tensor) -> None:
    """Raise unless ``block_size`` is a power of two that divides ``width`` and that the device of ``like`` can do."""
    if not isinstance(block_size, _INTEGERS):
        raise TypeError(f"block_size must be an int or None, got {describe(block_size)}")
    if block_size < 1 or block_size & (block_size - 1) or width % block_size:
        best = f"; the largest that fits is {width & -width}" if width else ""
        raise ValueError(f"block_size must be a power of two that divides the width {width}, got {block_size}{best}")
    if block_size > LARGEST_BLOCK_CUDA and (block_size > LARGEST_BLOCK or like.is_cuda):
        limit = LARGEST_BLOCK_CUDA if like.is_cuda else LARGEST_BLOCK
        raise ValueError(f"block_size must be at most {limit} on {like.device.type}, got {block_size}")


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether two indices may reach one element: some stride does not step over all that the smaller ones reach."""
    reach = 0
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride <= reach and tensor.numel():
            return True
        reach += stride * (size - 1)
    return False


def _same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are the same elements at the same indices."""
    dense = a.is_contiguous() and b.is_contiguous()
    return a.data_ptr() == b.data_ptr() and (dense or a.stride() == b.stride())


def _share_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors share an element; interleaved views that only pass through one another do not."""
    starts = a.data_ptr(), b.data_ptr()
    ends = tuple(start + (_reach(t) + 1) * t.element_size() for start, t in zip(starts, (a, b), strict=True))
    if not a.numel() or not b.numel() or starts[0] >= ends[1] or starts[1] >= ends[0]:
        return False
    size = a.element_size()
    offsets = [start - min(starts) for start in starts]
    if size != b.element_size() or any(offset % size for offset in offsets):
        return True
    touched = torch.zeros((max(ends) - min(starts)) // size, dtype=torch.bool)
    touched.as_strided(a.shape, a.stride(), offsets[0] // size).fill_(True)
    return bool(touched.as_strided(b.shape, b.stride(), offsets[1] // size).any())


def _reach(tensor: Tensor) -> int:
    return sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
