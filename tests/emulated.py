"""Run by test_emulated.py on a CPU that really lacks levels: ``emulated.py CASES`` prints what happened as JSON.

CASES holds inputs and the results of the machine that runs the suite; the results here must have the same bits.
"""

from __future__ import annotations

import json
import sys

import torch

import battery
from sylvester import _library
from sylvester.ops._spec import OPERATORS


def main(path: str) -> None:
    failures = []
    recorded = torch.load(path)
    for operator, label, arguments, results in recorded:
        try:
            battery.assert_same_bits(battery.run_all(OPERATORS[operator], arguments), results, "on the full machine")
        except AssertionError as error:
            failures.append(f"{operator}, {label}: {error}")
    refused = {}
    for level in _library.LEVELS:
        if level not in _library.levels():
            try:
                with _library.forced_isa(level):
                    refused[level] = "forced"
            except ValueError as error:
                refused[level] = str(error)
    report = {"isa": _library.isa(), "levels": _library.levels(), "ran": torch.ops.sylvester._ran()}
    print(json.dumps({**report, "refused": refused, "cases": len(recorded), "failures": failures}))


if __name__ == "__main__":
    main(sys.argv[1])
