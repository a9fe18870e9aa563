"""Marks of binary_matmul."""

from .lowbit import peak_marks

MARKS = peak_marks("binary_matmul", {"1 bit": 0})
