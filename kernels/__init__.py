"""Triton kernels, installed as ``sylvester.kernels``: one file an operator, kernels first, then its launchers.

A launcher has the name, arguments and results of the raw operator; its room has checked the arguments already. Nothing
here touches a driver before the first launch. Under TRITON_INTERPRET=1 the launchers take CPU tensors.
"""
