"""Runs operators where every tensor and all scratch end at memory nobody may touch (fences.c, preloaded).

A program, not a test: test_fences.py calls it. Arguments: names of operators, or of mistakes to make.
"""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from sylvester import _library, ops  # noqa: F401
from sylvester.ops._spec import OPERATORS, Operator, RawCall


def run(call: RawCall) -> None:
    """Inputs are copied: those that were views would have neighbours to be read instead of a fence."""
    call.overload(*(a.detach().clone() if isinstance(a, torch.Tensor) else a for a in call.arguments))


def mistake(outside: str) -> None:
    tensor = torch.zeros(100, dtype=torch.uint8)
    if outside == "read":
        ctypes.string_at(tensor.data_ptr(), 4096)
    else:
        ctypes.memset(tensor.data_ptr() + (-1 if outside == "before" else 100), 0, 1)
    del tensor


def check(operator: Operator) -> None:
    count = 0
    for case in operator.cases_of("small", "edge"):
        for dtype in case.dtypes:
            for call in operator.raw_calls(case.build(dtype)):
                for level in _library.levels():
                    with _library.forced_isa(level):
                        run(call)
                    count += 1
    assert count > 0


def main(names: list[str]) -> None:
    """Each in a child of its own that need not import torch again; prints a line for each: name, exit status."""
    for name in names:
        child = os.fork()
        if child:
            print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            check(OPERATORS[name]) if name in OPERATORS else mistake(name)
            sys.exit()


if __name__ == "__main__":
    main(sys.argv[1:])
