"""The layers of few bits that their tests go through, and what a frozen one weighs by hand."""

from __future__ import annotations

from functools import partial

import pytest

from sylvester.layers import BinaryLinear, QuantLinear, TernaryLinear

LAYERS = {
    "ternary": TernaryLinear,
    "ternary, options": partial(TernaryLinear, threshold="absmax", per_row=True, encoding="1.6bit", bias=False),
    "ternary, float": partial(TernaryLinear, activation="float", norm=True),
    "ternary, rotated": partial(TernaryLinear, rotate=8),
    "binary": BinaryLinear,
    "int4": QuantLinear,
    "int3, integers": partial(QuantLinear, bits=3, per_row=True, activation="int8"),
    "int8, integers": partial(QuantLinear, bits=8, activation="int8", norm=True, rotate=4),
    "one bit": partial(QuantLinear, bits=1),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())

COMPILED = ("ternary", "ternary, rotated", "int4")
"""Every way through the forward pass, for tests that take a second."""
every_way = pytest.mark.parametrize("make", [LAYERS[name] for name in COMPILED], ids=COMPILED)

FROZEN_BYTES = {
    # 5 rows of 24 weights, scale, bias
    "ternary": 5 * 6 + 4 + 20,
    "ternary, options": 5 * 5 + 20,
    "ternary, float": 5 * 6 + 4 + 20,
    "ternary, rotated": 5 * 6 + 4 + 20,
    "binary": 5 * 3 + 4 + 20,
    "int4": 5 * 12 + 4 + 20,
    "int3, integers": 5 * 12 + 20 + 20,
    "int8, integers": 5 * 24 + 4 + 20,
    "one bit": 5 * 6 + 4 + 20,
}
"""Of each layer of 24 inputs and 5 outputs."""
