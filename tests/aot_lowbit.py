"""The launches of the low-bit products that aot.py compiles."""

from __future__ import annotations

import torch

from aot_cases import Case
from sylvester.kernels import lowbit_matmul
from sylvester.kernels._lowbit_layout import plane

HALF, FULL, CODES = torch.bfloat16, torch.float32, torch.int8
BINARY, TERNARY, INT4, INT8, TRITS = 0, 1, 4, 8, 9


def product(encoding: int, rows: int, columns: int, depth: int, dtype: torch.dtype, exact: bool = False) -> None:
    layout = torch.zeros(columns, plane(encoding, depth), dtype=torch.uint8)
    x, x_scale = torch.zeros(rows, depth, dtype=dtype), torch.ones(rows) if dtype == CODES else None
    scale = torch.ones(columns)
    lowbit_matmul.lowbit_matmul(x, x_scale, layout, scale, scale, None, encoding, columns, exact)


def transposed(encoding: int, rows: int, columns: int, depth: int, dtype: torch.dtype) -> None:
    layout = torch.zeros(columns, plane(encoding, depth), dtype=torch.uint8)
    grad = torch.zeros(rows, columns, dtype=dtype)
    lowbit_matmul.lowbit_matmul_input(grad, layout, torch.ones(()), encoding, depth)


def layout(encoding: int, rows: int, bytes: int) -> None:
    lowbit_matmul.lowbit_layout(torch.zeros(rows, bytes, dtype=torch.uint8), encoding, 5 * bytes)


ON_EVERY_CHIP: list[Case] = [
    ("low-bit layout of trits", 0, layout, (TRITS, 64, 512)),
    ("low-bit words of ternary from bf16", 0, product, (TERNARY, 2, 4096, 4100, HALF)),
    ("low-bit tiles of ternary, 256 rows", 0, product, (TERNARY, 256, 8192, 8192, CODES)),
    ("low-bit floats by trits fp32", 0, product, (TRITS, 64, 1024, 1000, FULL, True)),
    ("low-bit input by int4 bf16", 0, transposed, (INT4, 64, 1024, 1024, HALF)),
]
ON_ONE_CHIP: list[Case] = [
    ("low-bit words of ternary, 1 row", 0, product, (TERNARY, 1, 8192, 8192, CODES)),
    ("low-bit words of trits, 1 row", 0, product, (TRITS, 1, 8192, 8000, CODES)),
    ("low-bit words of binary, 1 row", 0, product, (BINARY, 1, 8192, 8192, CODES)),
    ("low-bit words of int4, 1 row", 0, product, (INT4, 1, 8192, 8192, CODES)),
    ("low-bit words of int8, 1 row", 0, product, (INT8, 1, 8192, 8192, CODES)),
    ("low-bit words of trits, 2 rows", 0, product, (TRITS, 2, 8192, 8000, CODES)),
    ("low-bit tiles of ternary, 16 rows", 0, product, (TERNARY, 16, 8192, 8192, CODES)),
    ("low-bit tiles of trits, 64 rows", 0, product, (TRITS, 64, 8192, 8000, CODES)),
    ("low-bit tiles of trits, 256 rows", 0, product, (TRITS, 256, 8192, 8000, CODES)),
    ("low-bit tiles of binary, 256 rows", 0, product, (BINARY, 256, 8192, 8192, CODES)),
    ("low-bit floats by binary bf16", 0, product, (BINARY, 64, 1024, 1024, HALF, True)),
    ("low-bit input by trits fp32", 0, transposed, (TRITS, 64, 1024, 1000, FULL)),
]
