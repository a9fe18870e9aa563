"""sylvester: fused kernels for quantised orthogonal recurrence in PyTorch.

Names are loaded on first use (PEP 562), so ``import sylvester`` is instant and the torch-free parts stay torch-free.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_HOME = {
    "hadamard_transform": "sylvester.ops.hadamard_transform",
    "hadamard_transform_": "sylvester.ops.hadamard_transform",
    "hadamard_scan": "sylvester.ops.hadamard_scan",
    "hadamard_step": "sylvester.ops.hadamard_scan",
    "ternary_matmul": "sylvester.ops.lowbit_matmul",
    "intn_matmul": "sylvester.ops.lowbit_matmul",
    "binary_matmul": "sylvester.ops.lowbit_matmul",
    "hadamard_quantize": "sylvester.ops.hadamard_quantize",
    "quantize_rows": "sylvester.ops.quantize_rows",
    "fake_quantize": "sylvester.ste",
    "sign_ste": "sylvester.ste",
    "ternary_ste": "sylvester.ste",
    "binary_ste": "sylvester.ste",
    "HadamRNN": "sylvester.layers.hadam_rnn",
    "BlockHadamRNN": "sylvester.layers.hadam_rnn",
    "TernaryLinear": "sylvester.layers.ternary_linear",
    "QuantLinear": "sylvester.layers.quant_linear",
    "BinaryLinear": "sylvester.layers.binary_linear",
    "convert": "sylvester.conversion",
    "freeze": "sylvester.conversion",
    "isa": "sylvester._library",
}

__all__ = [*_HOME, "__version__"]

try:
    __version__ = version("sylvester")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sylvester' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
