"""Conversion of models that exist: their linear layers become layers of few bits, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from .layers._freezing import Freezable
from .ops.hadamard_transform import hadamard_transform

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Change:
    """One layer that became another; sizes in bytes, the new one's as it will be frozen."""

    name: str
    old: str
    new: str
    bytes_before: int
    bytes_frozen: int


@dataclass(frozen=True)
class Conversion:
    """What ``convert`` changed, and the bytes of the whole model before and once it is frozen; prints as a table."""

    changes: tuple[Change, ...]
    bytes_before: int
    bytes_frozen: int

    def __str__(self) -> str:
        width = max(len(change.name) for change in self.changes)
        lines = [
            f"{c.name:{width}}  {c.old} -> {c.new}  {c.bytes_before} -> {c.bytes_frozen} bytes" for c in self.changes
        ]
        total = f"{len(lines)} layers; the model: {self.bytes_before} -> {self.bytes_frozen} bytes when frozen"
        return "\n".join([*lines, total])


class _Swap(NamedTuple):
    """A layer, its names, the (parent, key) places it stands in, and what will stand there."""

    old: nn.Module
    names: list[str]
    places: list[tuple[nn.Module, str]]
    new: nn.Module


def convert(
    model: nn.Module,
    replacements: Mapping[type[nn.Module], Callable[..., nn.Module]],
    *,
    filter: Callable[[str, nn.Module], bool] | None = None,
    rotate: int | None = None,
) -> Conversion:
    """Replace layers of ``model`` in place and report what changed; on any error the model is as it was.

    replacements  {type: factory}. Modules of exactly that type (a subclass may compute something else) are replaced by
                  ``factory(in_features, out_features, bias=, device=, dtype=)``: a layer, or a ``functools.partial`` of
                  one with options. Parameters are taken over as the very objects, so optimisers stay valid.
    filter        what (name, module) to convert; None: all
    rotate        block size H of a Hadamard transform: W becomes W Hᵀ block by block and x is rotated before each
                  product, in one pass with its quantisation, so outliers spread and W Hᵀ (H x) = W x. The factory gets
                  ``rotate=``. Weights are new parameters then; make the optimiser afterwards.

    Refused, by name: a weight shared with another module (leave one of them out by ``filter``), hooks, parametrised
    weights, a width without such a block, and a model that is itself such a layer.

    >>> report = convert(model, {nn.Linear: TernaryLinear}, filter=lambda name, module: name != "lm_head")
    """
    swaps = [
        _planned(model, old, places, replacements[type(old)], rotate)
        for old, places in _chosen(model, replacements, filter)
    ]
    before = sum(tensor.nbytes for tensor in {id(t): t for t in _tensors(model)}.values())
    changes = []
    for swap in swaps:
        bytes_before = sum(tensor.nbytes for tensor in _tensors(swap.old))
        _fill(swap, rotate)
        for parent, key in swap.places:
            parent._modules[key] = swap.new
        names = " = ".join(swap.names)
        old, new = type(swap.old).__name__, type(swap.new).__name__
        changes.append(Change(names, old, new, bytes_before, _frozen_bytes(swap.new)))
    saved = sum(change.bytes_before - change.bytes_frozen for change in changes)
    return Conversion(tuple(changes), before, before - saved)


def freeze(model: nn.Module) -> nn.Module:
    """``freeze()`` every layer of few bits in ``model``; returns it."""
    for module in model.modules():
        if isinstance(module, Freezable) and module.encoding is not None:
            module.freeze()
    return model


def _chosen(
    model: nn.Module, types: Mapping[type[nn.Module], Any], filter: Callable[[str, nn.Module], bool] | None
) -> Iterator[tuple[nn.Module, dict[str, tuple[nn.Module, str]]]]:
    """Layers to replace, and for each name of one where it stands."""
    if type(model) in types and (filter is None or filter("", model)):
        raise ValueError(f"model must hold the layers to convert, got a {type(model).__name__} by itself")
    found: dict[nn.Module, dict[str, tuple[nn.Module, str]]] = {}
    left: dict[nn.Module, str] = {}
    for name, child in model.named_modules(remove_duplicate=False):
        if child is model or type(child) not in types:
            continue
        if filter is None or filter(name, child):
            path, _, key = name.rpartition(".")
            found.setdefault(child, {})[name] = model.get_submodule(path), key
        else:
            left[child] = name
    if not found:
        wanted = ", ".join(kind.__name__ for kind in types)
        raise ValueError(f"model has no layer to convert: none of type {wanted} that the filter takes")
    for child in found.keys() & left.keys():
        raise ValueError(f"{next(iter(found[child]))} and {left[child]} are one layer, but filter takes only the first")
    yield from found.items()


def _planned(
    model: nn.Module,
    old: nn.Module,
    places: dict[str, tuple[nn.Module, str]],
    factory: Callable[..., nn.Module],
    rotate: int | None,
) -> _Swap:
    """The new layer, on no device yet; raises unless it can take the place of the old one."""
    names = list(places)
    problem = _problem(model, old)
    if problem is not None:
        raise ValueError(f"{names[0]} cannot be converted: {problem}")
    weight = old._parameters["weight"]
    assert weight is not None
    options: dict[str, Any] = {"bias": old._parameters.get("bias") is not None, "device": "meta", "dtype": weight.dtype}
    if rotate is not None:
        options["rotate"] = rotate
    try:
        new = factory(weight.shape[1], weight.shape[0], **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{names[0]} cannot be converted: {error}") from error
    taken = {name: tuple(p.shape) for name, p in old._parameters.items() if p is not None}
    made = {name: tuple(tensor.shape) for name, tensor in new.state_dict().items()}
    if taken != made:
        raise ValueError(f"{names[0]} cannot be converted: it has {taken}, and its replacement has {made}")
    if getattr(new, "rotate", None) != rotate:
        raise ValueError(f"{names[0]} cannot be converted: its replacement does not rotate by {rotate}")
    return _Swap(old, names, list(places.values()), new)


def _problem(model: nn.Module, old: nn.Module) -> str | None:
    """Why a layer cannot be replaced, if it cannot."""
    weight = old._parameters.get("weight")
    if (
        weight is None
        or weight.dim() != 2
        or not weight.is_floating_point()
        or old._parameters.keys() - {"weight", "bias"}
    ):
        return "its parameters are not a plain weight of two dimensions and perhaps a bias"
    if (getattr(old, "out_features", None), getattr(old, "in_features", None)) != tuple(weight.shape):
        return f"its weight of shape {tuple(weight.shape)} is not (out_features, in_features)"
    if any(getattr(old, hooks) for hooks in _HOOKS):
        return "it has hooks, which would be lost; remove them first"
    for path, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and module is not old and any(parameter is p for p in old._parameters.values()):
                other = f"{path}.{key}" if path else key
                return f"its parameter is also {other}; leave it out by filter, or untie them first"
    return None


def _fill(swap: _Swap, rotate: int | None) -> None:
    for name, parameter in swap.old._parameters.items():
        if parameter is not None and name == "weight" and rotate is not None:
            rotated = hadamard_transform(parameter.detach(), block_size=rotate)
            parameter = nn.Parameter(rotated, requires_grad=parameter.requires_grad)
        swap.new._parameters[name] = parameter
    swap.new.train(swap.old.training)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _frozen_bytes(module: nn.Module) -> int:
    if isinstance(module, Freezable) and module.encoding is not None:
        return module.frozen_bytes()
    return sum(tensor.nbytes for tensor in _tensors(module))


__all__ = ["Change", "Conversion", "convert", "freeze"]
