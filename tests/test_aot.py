"""Budgets of the compiled Triton kernels: what a chip would have to do is read off the binaries, no chip needed.

A number in here is what the compiler made when the kernel was tuned. A kernel that exceeds it got slower somewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

Record = dict[str, Any]
pytestmark = pytest.mark.xdist_group("aot")  # they read what one child compiled

REGISTERS = 65536
"""Of a multiprocessor of every CUDA chip here."""

MEMORY_BOUND = 31
"""Bytes of local exchange, and instructions, an element that an H200 does while memory brings and takes 2 bytes each.

Memory: 4.3 TB/s at 1.98 GHz on 132 multiprocessors, 16.5 bytes a cycle each. Local: 128 bytes and 128 instructions.
"""


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    import triton

    if not (Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump").exists():
        pytest.skip("this triton carries no cuobjdump to read binaries with")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    child = [sys.executable, str(Path(__file__).with_name("aot.py"))]
    run = subprocess.run(child, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-4000:]
    return json.loads(run.stdout)


@pytest.fixture
def records(compiled: dict[str, Any]) -> list[Record]:
    return compiled["records"]


def threads(record: Record) -> int:
    return 32 * record["warps"]


def per_element(record: Record, name: str, part: str = "whole") -> float:
    return record[part][name] * threads(record) / record["elements"]


def over(records: list[Record], wrong: Callable[[Record], bool]) -> list[str]:
    return [f"{record['label']} on {record['chip']}: {record}" for record in records if wrong(record)]


def starting(records: list[Record], *labels: str) -> list[Record]:
    """The records with these labels whose code was read."""
    chosen = [r for r in records if r["label"].startswith(labels) and "whole" in r]
    assert chosen, f"nothing was compiled for {labels}"
    return chosen


def test_every_chip_compiles_every_kernel(compiled: dict[str, Any]) -> None:
    assert set(compiled["limits"]) == {"80", "90", "100", "120", "gfx942"}
    for kind in ("transform", "factor", "scan", "backward", "product"):
        assert {r["chip"] for r in compiled["records"] if r["label"].startswith(kind)} == set(compiled["limits"])


def test_nothing_spills(records: list[Record]) -> None:
    assert not over(records, lambda r: r["local"] or r.get("whole", {}).get("spills"))


def test_shared_memory_fits(compiled: dict[str, Any]) -> None:
    assert not over(compiled["records"], lambda r: r["shared"] > compiled["limits"][r["chip"]])


def test_registers_fit(records: list[Record]) -> None:
    assert not over(records, lambda r: r["chip"].isdigit() and r["registers"] * threads(r) > REGISTERS)


def test_one_warp_transforms_up_to_2048(records: list[Record]) -> None:
    """With one exchange each way: 16 bytes an element. The only barriers are those of a block of one warp."""
    small = [r for r in starting(records, "transform") if r["block"] <= 2048]
    assert not over(small, lambda r: r["warps"] > 1 or per_element(r, "exchange") > 16 or r["whole"]["barriers"] > 1)


def test_large_transforms_exchange_little(records: list[Record]) -> None:
    large = [r for r in starting(records, "transform") if r["block"] > 2048]
    most = {8192: (24, 11), 16384: (24, 7), 32768: (28, 17)}  # the last with 4 of the fetch ahead
    for record in (r for r in large if r["block"] in most):
        exchange, barriers = most[record["block"]]
        assert per_element(record, "exchange") <= exchange and record["whole"]["barriers"] <= barriers, record
    target = starting(records, "transform 4096")
    assert not over(target, lambda r: per_element(r, "exchange") > 16 or r["whole"]["barriers"] > 3)


def test_transforms_keep_up_with_memory(records: list[Record]) -> None:
    plain = [r for r in starting(records, "transform") if "with" not in r["label"]]
    assert not over(plain, lambda r: per_element(r, "instructions") > MEMORY_BOUND)
    for record in plain:  # 16 bytes an access, which is how much a thread can ask for
        whole = record["whole"]
        assert whole["LDG"] + whole["LDGSTS"] + whole["STG"] == 16 * whole["accesses"], record


def test_largest_transform_fetches_the_next_tile(records: list[Record]) -> None:
    for record in starting(records, "transform 32768"):
        assert record["loop"]["LDGSTS"] == record["loop"]["STG"] > 0, record


def test_scan_keeps_its_state_on_chip(records: list[Record]) -> None:
    """A step moves one row of the drive in and one row of states out, and nothing else."""
    for record in starting(records, "scan"):
        itemsize = 2 if "bf16" in record["label"] else 4
        row, loop = record["elements"] * itemsize, {k: v * threads(record) for k, v in record["loop"].items()}
        assert loop["STG"] == row, record
        if "fused" in record["label"]:  # every thread reads the same numbers
            inputs = int(record["label"].split()[3])
            assert loop["LDG"] + loop["LDGSTS"] == inputs * itemsize * threads(record), record
        else:
            token = 4 * threads(record) if "tokens" in record["label"] else 0
            assert loop["LDG"] + loop["LDGSTS"] == row + token, record


def test_read_out_stores_no_step(records: list[Record]) -> None:
    """In the code of 64 steps a thread stores 4 states for its products, and 8 outputs; an activation adds nothing."""
    for record in starting(records, "read-out of 9"):
        assert record["loop"]["STG"] == 4 * 4 + 8 * 2, record
    relu, plain = (starting(records, f"{name} 1024 bf16")[0] for name in ("relu", "scan"))
    assert relu["loop"]["exchange"] == plain["loop"]["exchange"] and relu["loop"]["STG"] == plain["loop"]["STG"]


def test_scan_prefetches_the_next_drive(records: list[Record]) -> None:
    """Copies to shared memory that later steps wait for; the numbers of a fused drive leave before the transform."""
    for record in starting(records, "scan", "backward"):
        loop = record["loop"]
        if "fused" not in record["label"]:
            assert loop["LDGSTS"], record
        elif record["label"].startswith("scan"):
            assert loop["ahead"], record


def test_steps_stay_short(records: list[Record]) -> None:
    """Instructions and barriers of a step on sm_90, where its latency is the time of the scan.

    Of a read-out, and of what goes back through one or through an activation: the code of 64 steps, loops in it.
    """
    most = {
        "scan 128 bf16": (110, 3),
        "scan 256 bf16": (155, 3),
        "scan 512 bf16": (170, 6),
        "scan 1024 bf16": (195, 6),
        "scan 512 fused 10 bf16": (230, 6),
        "backward 256 rebuilt bf16": (400, 6),
        "backward 1024 rebuilt bf16": (470, 12),
        "relu 1024 bf16": (205, 6),
        "read-out of 9, 128 tokens bf16": (700, 26),
        "back from a read-out of 9, 128 tokens bf16": (1400, 32),
        "back from relu 1024 bf16": (860, 27),
    }
    steps = starting(records, *most)
    found = {r["label"]: (r["loop"]["instructions"], r["loop"]["barriers"]) for r in steps}
    assert not {label: found[label] for label, limit in most.items() if any(map(int.__gt__, found[label], limit))}


def test_products_fetch_ahead(records: list[Record]) -> None:
    """Tiles are on their way to shared memory while others are multiplied; three programs fit a multiprocessor."""
    products = starting(records, "product")
    assert not over(products, lambda r: not r["loop"]["LDGSTS"] or 3 * r["registers"] * threads(r) > REGISTERS)
