"""Marks of intn_matmul."""

from .lowbit import peak_marks

MARKS = peak_marks("intn_matmul", {"4 bits": 4, "8 bits": 8})
