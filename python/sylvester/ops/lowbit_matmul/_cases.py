"""The calls that tests, checks and benchmarks run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...formats import _encoding, intn
from .._spec import Arguments, Case, Make
from ._check import ternary_encoding

FULL = (torch.float32,)


def encoding_of(a: Arguments) -> int:
    """The code of the weights' encoding; of binary, which has no argument of its own, 0."""
    return a["bits"] if "bits" in a else ternary_encoding(a["encoding"]) if "encoding" in a else _encoding.BINARY


def draw_codes(m: Make, encoding: int, *shape: int) -> Tensor:
    """int8 codes, every one as likely as any other."""
    e = _encoding.ENCODINGS[encoding]
    if encoding == _encoding.BINARY:
        return (2 * m.integers(2, *shape) - 1).to(torch.int8)
    return (m.integers(e.highest - e.lowest + 1, *shape) + e.lowest).to(torch.int8)


def make_arguments(m: Make, lead: tuple[int, ...], rows: int, columns: int, options: str, **fixed: Any) -> Arguments:
    """``options``: what x is (float, int8: floats that are quantised; codes, int4) and the optional arguments."""
    words = options.split()
    arguments: Arguments = {}
    if "codes" in words:
        arguments["x"] = (m.integers(255, *lead, columns) - 127).to(torch.int8)
    elif "int4" in words:
        arguments["x"] = intn.pack((m.integers(15, *lead, columns) - 7).to(torch.int8), 4)
    else:
        arguments["x"] = m.normal(*lead, columns)
    arguments["packed"] = _encoding.pack(draw_codes(m, encoding_of(fixed), rows, columns), encoding_of(fixed))
    arguments |= fixed
    arguments["scale"] = (m.normal(*((rows,) if "rows" in words else ())).abs() + 0.5) / max(columns, 1) ** 0.5
    if "bias" in words:
        arguments["bias"] = m.normal(rows)
    if "codes" in words or "int4" in words:
        arguments["x_scale"] = m.normal(*lead, dtype=torch.float32).abs()
    if "latent" in words:
        arguments["latent"] = m.normal(rows, columns)
    return arguments | ({"activation": "float"} if "float" in words else {})


def _case(m: int | tuple[int, ...], n: int, k: int, options: str, **settings: Any) -> Case:
    """x (m, k), W (n, k). Where something is quantised the gradient is no derivative: those cases are edges."""
    spec = {name: settings.pop(name) for name in ("kind", "dtypes") if name in settings}
    spec.setdefault("kind", "small" if "float" in options and "latent" not in options else "edge")
    if "codes" in options or "int4" in options:
        spec["dtypes"] = FULL
    lead = m if isinstance(m, tuple) else (m,)
    label = " ".join([f"M={'x'.join(map(str, lead))} N={n} K={k}", *map(str, settings.values()), options])
    make = partial(make_arguments, lead=lead, rows=n, columns=k, options=options, **settings)
    return Case(label, make, **spec)


def _strided(m: Make) -> Arguments:
    """Weights and activations that do not lie one after another, a scale that is expanded."""
    packed = _encoding.pack(draw_codes(m, _encoding.TERNARY, 24, 19), _encoding.TERNARY)
    x, scale = m.normal(19, 10).t()[::2], m.normal(1).expand(12)
    return {"x": x, "packed": packed[::2], "encoding": "2bit", "scale": scale, "activation": "float"}


_two, _trits = (partial(_case, encoding=encoding) for encoding in ("2bit", "1.6bit"))
_timed: Callable[..., Case] = partial(_case, kind="benchmark", dtypes=FULL)

TERNARY_CASES = (
    _two(7, 33, 37, "float rows bias"),
    _two(1, 1, 1, "float"),
    _two(2, 16, 64, "float bias"),
    _two(33, 5, 101, "float rows"),
    _two(3, 0, 5, "float bias"),
    _two(3, 5, 0, "float rows bias"),
    _two(0, 4, 4, "float rows"),
    _two((2, 3), 17, 340, "float rows bias"),
    _two((), 3, 7, "float"),
    Case("strided", _strided),
    _trits(7, 33, 41, "float rows bias"),
    _trits(2, 7, 5, "float"),
    _two(1, 1, 1, "int8"),
    _two(7, 33, 37, "int8 rows bias"),
    _two(33, 47, 256, "int8"),
    _two((), 3, 7, "int8 bias"),
    _two(3, 5, 0, "int8 rows bias"),
    _trits(2, 17, 641, "int8 rows bias"),
    _trits(9, 64, 320, "int8"),
    _two(7, 33, 37, "codes rows bias"),
    _two((2, 5), 16, 128, "codes"),
    _two(2, 0, 3, "codes"),
    _trits(33, 31, 20, "codes rows"),
    _two(7, 33, 38, "int4 rows bias"),
    _trits(2, 16, 61, "int4"),
    _two(5, 9, 13, "float rows bias latent"),
    _two((2, 3), 9, 13, "int8 bias latent"),
    _two(5, 9, 13, "codes rows latent"),
    *(_timed(1, n, k, "codes rows", encoding="2bit") for n, k in ((1024, 1024), (4096, 4096), (4096, 11008))),
    _timed(1, 1024, 1024, "int8 rows", encoding="2bit"),
    _timed(1, 4096, 4096, "codes rows", encoding="1.6bit"),
    *(_timed(m, 4096, 4096, "codes rows", encoding="2bit") for m in (8, 32, 128)),
    _timed(128, 1024, 1024, "int8 rows bias", encoding="2bit"),
    _timed(33, 1024, 1024, "float rows bias", encoding="2bit"),
)

INTN_CASES = (
    *(_case(m, 17, 35, "float rows bias", bits=bits) for m, bits in ((2, 2), (7, 3), (1, 4), (3, 8))),
    _case(5, 1, 1, "float", bits=6),
    *(_case(m, 33, 67, "int8 rows bias", bits=bits) for m, bits in ((1, 2), (7, 3), (33, 4), (2, 5), (9, 8))),
    *(_case(m, 16, 129, "codes", bits=bits) for m, bits in ((7, 2), (2, 4), (33, 7), (1, 8))),
    _case(7, 5, 31, "int4 rows", bits=4),
    _case(7, 5, 31, "int4 rows bias", bits=8),
    _case(4, 6, 11, "int8 rows latent", bits=4),
    *(_timed(1, 4096, 4096, "codes rows", bits=bits) for bits in (2, 4, 8)),
    _timed(32, 4096, 4096, "codes rows", bits=4),
)

BINARY_CASES = (
    _case(7, 33, 37, "float rows bias"),
    _case(1, 1, 1, "float"),
    _case(3, 5, 0, "float bias"),
    _case(1, 1, 1, "int8"),
    _case(33, 31, 257, "int8 rows bias"),
    _case(7, 18, 40, "codes rows bias"),
    _case(2, 16, 63, "int4"),
    _case(4, 6, 11, "int8 rows latent"),
    _timed(1, 4096, 4096, "codes rows"),
    _timed(32, 4096, 4096, "codes rows"),
)
