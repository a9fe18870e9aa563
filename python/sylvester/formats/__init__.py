"""Packed layouts of low-bit codes, one a file: what a state_dict holds, the same on every device.

Packed tensors are uint8, (..., bytes): the last axis is packed, every row begins with a byte of its own, element 0
stands in the lowest bits. What kernels read is derived from these (ops/lowbit_matmul) and never saved.
"""
