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
    return record[part].get(name, 0) * threads(record) / record["elements"]


def over(records: list[Record], wrong: Callable[[Record], bool]) -> list[str]:
    return [f"{record['label']} on {record['chip']}: {record}" for record in records if wrong(record)]


def starting(records: list[Record], *labels: str) -> list[Record]:
    """The records with these labels whose code was read."""
    chosen = [r for r in records if r["label"].startswith(labels) and "whole" in r]
    assert chosen, f"nothing was compiled for {labels}"
    return chosen


def test_every_chip_compiles_every_kernel(compiled: dict[str, Any]) -> None:
    assert set(compiled["limits"]) == {"80", "90", "100", "120", "gfx942"}
    for kind in ("transform", "factor", "codes", "scan", "backward", "product", "link", "low-bit"):
        assert {r["chip"] for r in compiled["records"] if r["label"].startswith(kind)} == set(compiled["limits"])
    assert not over(compiled["records"], lambda r: r["registers"] < 8)  # a trap, for lack of tensor memory


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
    most = {4096: (24, 19), 8192: (20, 17), 16384: (20, 13), 32768: (28, 17)}  # the last with 4 of the fetch ahead
    for record in (r for r in large if r["block"] in most):
        exchange, barriers = most[record["block"]]
        assert per_element(record, "exchange") <= exchange and record["whole"]["barriers"] <= barriers, record


def test_transforms_keep_up_with_memory(records: list[Record]) -> None:
    plain = [r for r in starting(records, "transform") if "with" not in r["label"]]
    assert not over(plain, lambda r: per_element(r, "instructions") > MEMORY_BOUND)
    for record in plain:  # 16 bytes an access, which is how much a thread can ask for
        whole = record["whole"]
        assert whole["LDG"] + whole["LDGSTS"] + whole["STG"] == 16 * whole["accesses"], record


def test_factors_keep_up_with_memory(records: list[Record]) -> None:
    """Instructions and exchanged bytes an element, over all tiles of a block; not where blocks take two kernels."""
    most = {"12": (23, 11), "768": (22, 22), "3072": (25, 22), "5120": (34, 32), "14336": (32, 27),
            "11008": (40, 32), "18944": (25, 25)}  # fmt: skip
    for record in starting(records, "factor"):
        if record["kernel"] in ("rows", "in_blocks"):
            for name, limit in zip(("instructions", "exchange"), most[record["label"].split()[1]], strict=True):
                again = (record["tiles"] - 1) * per_element(record, name, "loop")
                assert per_element(record, name) + again <= limit, record


def test_largest_transform_fetches_the_next_tile(records: list[Record]) -> None:
    for record in starting(records, "transform 32768"):
        assert record["loop"]["LDGSTS"] == record["loop"]["STG"] > 0, record


def test_codes_take_one_pass(records: list[Record]) -> None:
    """The transform is stored nowhere: x comes once (twice where no program holds a row), codes and scales leave."""
    found = {record["label"]: record for record in starting(records, "codes")}
    for label, record in found.items():
        moved = {name: record["whole"][name] * threads(record) for name in ("LDG", "STG")}
        reads, code_bytes = 2 if "65536" in label else 1, 0.5 if record["label"].endswith("4 bits") else 1
        itemsize = 4 if "fp32" in label else 2
        assert moved["LDG"] == reads * itemsize * record["elements"], record
        if "fp32" not in label:
            assert moved["STG"] == code_bytes * record["elements"] + 4 * threads(record), record
    most = {"64 bf16": (29, 30), "1024 bf16": (29, 18), "4096 bf16": (26, 19), "16384 bf16": (28, 19),
            "32768 bf16": (27, 19), "rows of 4096 bf16": (11, 3), "4096 bf16 on 4 bits": (33, 26)}  # fmt: skip
    for label, limits in most.items():
        record = found[f"codes of {label}"]
        spent = [per_element(record, name) for name in ("instructions", "exchange")]
        assert all(map(float.__le__, spent, map(float, limits))), record


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


def test_read_out_leaves_the_steps_alone(records: list[Record]) -> None:
    """A step stores its row in float32, its way back takes and leaves one; products are kernels that fetch ahead.

    An activation adds nothing.
    """
    kernels = {r["kernel"]: r for r in starting(records, "read-out of 9", "back from a read-out of 9")}
    assert set(kernels) == {"scan", "read_out", "read_back", "adjoint", "add_outer"}
    row = 4 * kernels["scan"]["elements"]
    assert kernels["scan"]["loop"]["STG"] * 32 == row and kernels["adjoint"]["loop"]["STG"] * 32 == 2 * row
    most = {"read_out": (14, 8), "read_back": (23, 11), "add_outer": (30, 6)}  # instructions, exchanged bytes
    for name, limits in most.items():
        record, part = kernels[name], "whole" if name == "read_back" else "loop"
        spent = [per_element(record, cost, part) for cost in ("instructions", "exchange")]
        assert all(map(float.__le__, spent, map(float, limits))), record
        assert name == "read_back" or record["loop"]["LDGSTS"] > 0 == record["loop"]["STG"], record
        assert 3 * record["registers"] * threads(record) <= REGISTERS, record
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

    Of what goes back through an activation: the code of 64 steps, loops in it.
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
        "read-out of 9, 128 tokens bf16": (130, 4),
        "back from a read-out of 9, 128 tokens bf16": (330, 8),
        "back from relu 1024 bf16": (880, 27),
    }
    steps = [r for r in starting(records, *most) if r["kernel"] in ("scan", "adjoint")]
    found = {r["label"]: (r["loop"]["instructions"], r["loop"]["barriers"]) for r in steps}
    assert not {label: found[label] for label, limit in most.items() if any(map(int.__gt__, found[label], limit))}


def test_products_fetch_ahead(records: list[Record]) -> None:
    """Tiles are on their way to shared memory while others are multiplied; three programs fit a multiprocessor."""
    products = [r for r in starting(records, "product") if r["kernel"] == "product"]
    assert not over(products, lambda r: not r["loop"]["LDGSTS"] or 3 * r["registers"] * threads(r) > REGISTERS)


def test_words_of_weights_keep_up_with_memory(records: list[Record]) -> None:
    """One row, K = 8192: instructions a weight, all told; 16 bytes an access; all programs run at once."""
    for record in starting(records, "low-bit words"):
        loop = record["loop"]
        if "1 row" in record["label"]:
            assert a_weight(record) <= 2, record
            assert loop["LDG"] == 16 * loop["accesses"] and loop["exchange"] == 0, record
    target = starting(records, "low-bit words of ternary, 1 row")
    assert not over(target, lambda r: a_weight(r) > 1.25)
    assert not over(target, lambda r: 16 * r["registers"] * threads(r) > REGISTERS)  # 2048 programs on 132 at once


def a_weight(record: Record) -> float:
    """Instructions, over all rounds of the loop."""
    rounds = record["rounds"]
    spent = record["whole"]["instructions"] + (rounds - 1) * record["loop"]["instructions"]
    return spent * threads(record) / (rounds * record["elements"])


def test_tiles_of_codes_decode_in_registers(records: list[Record]) -> None:
    """Weights are exchanged as bytes, x not at all; the next tiles are on their way while tensor cores multiply."""
    for record in starting(records, "low-bit tiles"):
        loop = record["loop"]
        if loop["products"]:
            fields = {"ternary": 4, "trits": 5, "binary": 8}[record["label"].split()[3].rstrip(",")]
            assert loop["exchange"] * threads(record) * fields == record["elements"], record
            assert loop["LDGSTS"] and loop["barriers"] == 2, record
            assert per_element(record, "instructions", "loop") <= (3.5 if fields == 5 else 1.9), record
    assert [r for r in records if r.get("loop", {}).get("products")]
