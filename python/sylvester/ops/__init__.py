"""The operators, one room each. Adding an operator adds one line here."""

from . import hadamard_quantize as hadamard_quantize
from . import hadamard_scan as hadamard_scan
from . import hadamard_transform as hadamard_transform
from . import lowbit_matmul as lowbit_matmul
from . import quantize_rows as quantize_rows
