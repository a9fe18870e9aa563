"""The calls that tests, checks and benchmarks run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from .._dispatch import WIDE
from .._spec import Arguments, Case, Make

SOURCES = ("given", "fused", "tokens")
VOCABULARY = 5


def make_arguments(
    m: Make, source: str, steps: int, rows: int, width: int, options: str, inputs: int, outputs: int = 9
) -> Arguments:
    """``options`` names the optional arguments and flags of the call."""
    lead = (rows, steps) if "batch_first" in options else (steps, rows)
    arguments: Arguments
    if source == "tokens":
        arguments = {"drive": m.integers(VOCABULARY, *lead), "weight": m.normal(VOCABULARY, width)}
    elif source == "fused":
        arguments = {"drive": m.normal(*lead, inputs), "weight": m.normal(width, inputs, std=inputs**-0.5)}
    else:
        arguments = {"drive": m.normal(*lead, width)}
    arguments["sign"] = m.signs(width)
    if "bias" in options:
        arguments["bias"] = m.normal(width)
    if "h0" in options:
        arguments["h0"] = m.normal(rows, width, dtype=WIDE[m.dtype])
    if "lengths" in options:
        arguments["lengths"] = m.integers(steps + 1, rows)
    if "readout" in options:
        arguments["readout_weight"] = m.normal(outputs, width, std=width**-0.5)
        arguments["readout_bias"] = m.normal(outputs)
    if "relu" in options:
        arguments["activation"] = "modrelu" if "modrelu" in options else "relu"
    if "modrelu" in options:
        arguments["act_bias"] = m.normal(width, std=0.25)
    return arguments | {flag: True for flag in ("last_only", "reverse", "batch_first") if flag in options}


def _case(
    source: str,
    steps: int,
    rows: int,
    width: int,
    options: str = "",
    *,
    block: int | None = None,
    inputs: int = 3,
    outputs: int = 9,
    **spec: Any,
) -> Case:
    sizes = f"T={steps} B={rows} D={width}" + (f" I={inputs}" if source == "fused" else "")
    sizes += f" O={outputs}" if "readout" in options else ""
    label = " ".join(part for part in (source, sizes, f"blocks of {block}" if block else "", options) if part)

    def make(m: Make) -> Arguments:
        arguments = make_arguments(m, source, steps, rows, width, options, inputs, outputs)
        return arguments | {"block_size": block} if block else arguments

    return Case(label, make, **spec)


# Every pair of settings of the five options meets in one of these eight (an orthogonal array of strength 2).
_PAIRS = (
    "",
    "batch_first h0",
    "reverse h0 bias",
    "reverse batch_first bias",
    "last_only bias",
    "last_only batch_first h0 bias",
    "last_only reverse h0",
    "last_only reverse batch_first",
)
_WIDTHS = ((1, None), (4, None), (12, 4), (16, None), (48, 16), (64, None), (128, None), (256, None), (512, 128))


def _sizes() -> Iterator[Case]:
    """Each kind of drive with every pair of options, then one size at a time, kinds of drive taking turns."""
    for source in SOURCES:
        yield from (_case(source, 5, 3, 12, options, block=4) for options in _PAIRS)
    for i, (width, block) in enumerate(_WIDTHS):
        yield _case(SOURCES[i % 3], 7, 2, width, ("bias", "last_only h0")[i % 2], block=block)
    for i, steps in enumerate((0, 1, 2, 63, 64, 65, 130, 200)):
        yield _case(SOURCES[i % 3], steps, 2, 16, ("last_only h0 bias", "last_only reverse")[i % 2])
    for i, steps in enumerate((0, 1, 65, 130)):
        yield _case(SOURCES[i % 3], steps, 2, 8, ("bias", "batch_first h0")[i % 2])
    for i, rows in enumerate((0, 1, 5, 17)):
        yield _case(SOURCES[i % 3], 4, rows, 64, ("last_only bias", "bias")[i // 2])
    for i, inputs in enumerate((1, 10, 16, 40)):
        yield _case("fused", 6, 5, 32, ("bias", "last_only")[i % 2], inputs=inputs)


# Lengths, read-out and activation with each other, with every kind of drive, and over a checkpoint
_OPTIONS = (
    ("given", 5, 4, 12, "lengths"),
    ("fused", 66, 3, 16, "lengths reverse h0 bias"),
    ("tokens", 130, 3, 16, "lengths batch_first last_only bias"),
    ("given", 5, 3, 12, "readout"),
    ("fused", 70, 4, 16, "readout bias lengths h0"),
    ("tokens", 5, 3, 32, "readout batch_first reverse bias"),
    ("fused", 5, 3, 16, "readout last_only bias"),
    ("given", 66, 2, 16, "relu h0 bias"),
    ("fused", 66, 3, 16, "relu bias last_only"),
    ("tokens", 66, 3, 16, "relu readout lengths reverse bias"),
    ("given", 5, 3, 12, "modrelu lengths h0"),
    ("fused", 66, 3, 16, "modrelu last_only reverse bias h0"),
    ("tokens", 5, 3, 16, "modrelu readout batch_first bias"),
)


# Width, steps, options: five rows a tile, one more than a CPU takes turns with; the widest over two of its time tiles
_IN_TURNS = (
    (64, 3, "relu bias"),
    (128, 3, "bias h0"),
    (128, 3, "relu last_only"),
    (256, 3, "modrelu bias"),
    (512, 9, "relu bias"),
    (1024, 5, "last_only h0"),
    (1024, 5, "reverse"),
)


def _options() -> Iterator[Case]:
    for source, steps, rows, width, options in _OPTIONS:
        yield _case(source, steps, rows, width, options, block=4 if width == 12 else None)
    for outputs, width in ((1, 128), (11, 64), (32, 512)):
        yield _case("fused", 3, 9, width, "readout bias", outputs=outputs)
    for width, steps, options in _IN_TURNS:
        yield _case("given", steps, 65, width, options)
    yield _case("given", 9, 5, 256, "lengths bias h0")


def _strided(m: Make) -> Arguments:
    return {
        "drive": m.normal(16, 9, 6).permute(2, 1, 0)[:, 1:4],
        "sign": m.signs(32)[::2],
        "bias": m.normal(1).expand(16),
        "h0": m.normal(16, 3, dtype=WIDE[m.dtype]).t(),
    }


def _sixteen_bit_vectors(m: Make) -> Arguments:
    return make_arguments(m, "fused", 4, 3, 16, "", 3) | {
        "sign": m.signs(16, dtype=torch.bfloat16),
        "bias": m.normal(16, dtype=torch.float16),
    }


_timed = partial(_case, kind="benchmark", dtypes=(torch.float32, torch.bfloat16))


CASES = (
    *_sizes(),
    *_options(),
    Case("given, permuted drive and strided vectors", _strided),
    Case("fused, 16-bit sign and bias", _sixteen_bit_vectors),
    _timed("given", 100, 128, 512),
    _timed("given", 200, 128, 512),
    _timed("fused", 100, 128, 512, "last_only bias", inputs=10),
    _timed("given", 1000, 1, 128),
    _timed("fused", 1000, 1, 128, "bias", inputs=10),
    _timed("fused", 784, 100, 512, "last_only bias", inputs=10),
    _timed("tokens", 1000, 128, 128, "bias"),
    _timed("tokens", 1000, 128, 128, "readout bias"),
    _timed("given", 200, 128, 512, "relu"),
    _timed("given", 1024, 64, 1024),
    _timed("given", 1024, 64, 256),
)
