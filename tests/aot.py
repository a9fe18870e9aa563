"""Compiles every Triton kernel for chips that need not be here and prints what the binaries cost, as JSON.

    python tests/aot.py

A child process of test_aot.py, without TRITON_INTERPRET: Triton's mode is fixed when it is imported. The launchers run
as they would on a GPU, with a driver that knows the chip's name only and with a launch that stops after compiling, so
the specialisations are those that users get.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from sylvester.kernels import _blocks, _products, hadamard_scan, hadamard_transform

EXCHANGES = ("SHFL", "STS", "LDS", "STSM", "LDSM")
WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
SHARED_BYTES = {"80": 166912, "90": 232448, "100": 232448, "120": 101376, "gfx942": 65536}
"""Chip -> what a block may have."""
LISTED = "90"
"""The chip whose code is read, and which compiles the cases of ON_ONE_CHIP too."""

ROWS, STEPS = 2, 130
ALL_REGISTERS = _blocks.all_registers


class Chip:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, name: str) -> None:
        self.target = GPUTarget("hip", name, 64) if name.startswith("gfx") else GPUTarget("cuda", int(name), 32)

    def get_current_device(self) -> Any:
        return self.target

    def get_current_stream(self, device: Any) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


def transform(block: int, dtype: torch.dtype, vectors: bool = False) -> None:
    diagonal = torch.ones(4 * block) if vectors else None
    x = torch.zeros(16, 4 * block if vectors else block, dtype=dtype)
    hadamard_transform.hadamard_transform_(x, block, None, diagonal, diagonal, False)


def scan(
    block: int,
    dtype: torch.dtype,
    kind: str = "given",
    inputs: int = 0,
    blocks: int = 1,
    back: str = "",
    outputs: int = 0,
    activation: int = 0,
) -> None:
    """back: "" forward, "read" or "rebuilt": backward with states of either sort; outputs: of a read-out."""
    width = blocks * block
    drive, weight = torch.zeros(STEPS, ROWS, width, dtype=dtype), None
    if kind == "fused":
        drive, weight = torch.zeros(STEPS, ROWS, inputs, dtype=dtype), torch.zeros(width, inputs, dtype=dtype)
    elif kind == "tokens":
        drive, weight = torch.zeros(STEPS, ROWS, dtype=torch.int64), torch.zeros(50, width, dtype=dtype)
    sign, last = torch.ones(width), torch.zeros(ROWS, width)
    read, shift = (torch.zeros(outputs, width), torch.zeros(outputs)) if outputs else (None, None)
    options = (block, activation, False, False, False)
    if not back:
        hadamard_scan.hadamard_scan(drive, weight, sign, None, None, None, read, shift, None, *options, False)
        return
    states = torch.zeros(STEPS, ROWS, width)
    grad = torch.zeros(STEPS, ROWS, outputs or width, dtype=dtype)
    kept = torch.zeros((STEPS - 1) // 64, ROWS, width)
    hadamard_scan.hadamard_scan_backward(
        grad, last, drive, weight, sign, sign, None, None, read, None, states if back == "read" else None, last, kept,
        *options, True, True, True,
    )  # fmt: skip


def product(kind: str, dtype: torch.dtype) -> None:
    """One of the three products of a basis of 10 inputs; dtype: of the drive."""
    steps, rows, width = (_products.Axis(count, inner) for count, inner in ((230, 10), (100, 1), (512, 1)))
    drive = _products.Factor(torch.zeros(23, 100, 10, dtype=dtype)[-1:], (10, 0), (-1000, 1))
    basis = _products.Factor(torch.zeros(23, 11, 512), (5632, 512), (1, 0))
    sums = _products.matrix(torch.zeros(100, 512))
    if kind == "forward":
        _products.multiply(rows, steps, width, drive, basis, sums, True)
    elif kind == "basis":
        _products.multiply(steps, rows, width, drive.t(), sums, basis, False)
    else:
        _products.multiply(rows, width, steps, sums, basis.t(), drive, False)


HALF, FULL = torch.bfloat16, torch.float32
Case = tuple[str, int, Callable[..., None], tuple[Any, ...]]
ON_EVERY_CHIP: list[Case] = [
    *((f"transform {n} bf16", n, transform, (n, HALF)) for n in (64, 2048, 4096)),
    *((f"transform {n} fp32", n, transform, (n, FULL)) for n in (1024, 32768)),
    *((f"factor {n} bf16", n, transform, (n, HALF)) for n in (768, 3584, 5120)),
    ("scan 1024 bf16", 1024, scan, (1024, HALF)),
    ("scan 4096 fp32", 4096, scan, (4096, FULL)),
    ("backward 4096 read fp32", 4096, scan, (4096, FULL, "given", 0, 1, "read")),
    ("scan 2048 fused 16 bf16", 2048, scan, (2048, HALF, "fused", 16)),
    ("backward 4096 rebuilt fp32", 4096, scan, (4096, FULL, "given", 0, 1, "rebuilt")),
    ("backward 2048 fused 16 rebuilt bf16", 2048, scan, (2048, HALF, "fused", 16, 1, "rebuilt")),
    *((f"product {kind} fp32", 0, product, (kind, FULL)) for kind in ("forward", "basis", "drive")),
    ("product forward bf16", 0, product, ("forward", HALF)),
    ("read-out of 9, 128 tokens bf16", 128, scan, (128, HALF, "tokens", 0, 1, "", 9)),
    ("read-out of 32, 4096 fp32", 4096, scan, (4096, FULL, "given", 0, 1, "", 32)),
    ("read-out of 32, 2048 fused 16 bf16", 2048, scan, (2048, HALF, "fused", 16, 1, "", 32)),
    ("back from a read-out of 9, 128 tokens bf16", 128, scan, (128, HALF, "tokens", 0, 1, "rebuilt", 9)),
    ("back from a read-out of 32, 4096 fp32", 4096, scan, (4096, FULL, "given", 0, 1, "rebuilt", 32)),
    ("back from a read-out of 32, 2048 fused 8 bf16", 2048, scan, (2048, HALF, "fused", 8, 1, "rebuilt", 32)),
    ("relu 1024 bf16", 1024, scan, (1024, HALF, "given", 0, 1, "", 0, 1)),
    ("back from relu 1024 bf16", 1024, scan, (1024, HALF, "given", 0, 1, "rebuilt", 0, 1)),
    ("back from relu 2048 fused 8 bf16", 2048, scan, (2048, HALF, "fused", 8, 1, "rebuilt", 0, 1)),
]
ON_ONE_CHIP: list[Case] = [
    *((f"transform {n} bf16", n, transform, (n, HALF)) for n in (1, 8, 256, 512, 1024, 8192, 16384, 32768)),
    *((f"transform {n} fp32", n, transform, (n, FULL)) for n in (16, 256, 2048, 4096)),
    *((f"transform {n} with pre and post bf16", n, transform, (n, HALF, True)) for n in (16, 1024)),
    *((f"scan {n} bf16", n, scan, (n, HALF)) for n in (128, 256, 512, 4096)),
    *((f"scan {n} fp32", n, scan, (n, FULL)) for n in (256, 1024)),
    ("scan 4 blocks of 16 bf16", 64, scan, (16, HALF, "given", 0, 4)),
    ("scan 512 fused 10 bf16", 512, scan, (512, HALF, "fused", 10)),
    ("scan 128 tokens fp32", 128, scan, (128, FULL, "tokens")),
    *((f"backward {n} rebuilt bf16", n, scan, (n, HALF, "given", 0, 1, "rebuilt")) for n in (256, 1024)),
    ("backward 1024 read fp32", 1024, scan, (1024, FULL, "given", 0, 1, "read")),
    ("backward 128 tokens rebuilt bf16", 128, scan, (128, HALF, "tokens", 0, 1, "rebuilt")),
]


def read_cuda(compiled: Any, listed: bool) -> dict[str, Any]:
    """Resources from the header; ``listed``: counts over the whole kernel and over its largest loop from the code.

    A listing takes longer than compiling, so one chip's must do.
    """
    tool = str(Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [tool, "--dump-resource-usage", *(["--dump-sass"] if listed else []), file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    resources = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}
    record = {"registers": resources["REG"], "local": resources["STACK"] + resources["LOCAL"]}
    if not listed:
        return record
    # Address, predicate, operation, operands; what never executes ("@!PT", a filler) is left out.
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);", text)
    code = [(int(address, 16), op, rest) for address, predicate, op, rest in found if predicate != "@!PT"]
    return record | {"whole": count(code), "loop": count(max(loops(code), key=len, default=[]))}


Code = list[tuple[int, str, str]]


def loops(code: Code) -> Iterator[Code]:
    for address, op, rest in code:
        target = re.search(r"0x([0-9a-f]+)", rest) if op.startswith("BRA") else None
        if target and int(target[1], 16) < address:
            yield [line for line in code if int(target[1], 16) <= line[0] <= address]


def count(code: Code) -> dict[str, int]:
    """Instructions, barriers, accesses to local and global memory, and bytes a thread by kind of access.

    ahead: whether the last load from global memory was issued before the first exchange.
    """
    result = Counter(instructions=len(code))
    for _, op, _ in code:
        name, *suffixes = op.split(".")
        width = next((WIDTHS[suffix] for suffix in suffixes if suffix in WIDTHS), 4)
        if name in ("STSM", "LDSM"):  # 8x8 matrices of 16-bit pairs: 4 bytes a thread each
            width = 4 * int(next((suffix for suffix in suffixes if suffix in "124"), "1"))
        result["exchange"] += width if name in EXCHANGES else 0
        result["spills"] += name in ("LDL", "STL")
        result["barriers"] += name == "BAR"
        result["accesses"] += name in ("LDG", "LDGSTS", "STG")
        for access in ("LDG", "LDGSTS", "STG"):
            result[access] += width if name == access else 0
    names = [op.split(".")[0] for _, op, _ in code]
    exchanges = [i for i, name in enumerate(names) if name in EXCHANGES]
    loads = [i for i, name in enumerate(names) if name == "LDG"]
    result["ahead"] = bool(loads and exchanges) and loads[-1] < exchanges[0]
    return dict(result)


def read_hip(compiled: Any) -> dict[str, Any]:
    """Scalar registers that spill go to lanes of vector registers, and to the private segment where those end."""
    text = compiled.asm["amdgcn"]
    field = {name: int(value) for name, value in re.findall(r"\.(\w+):\s+(\d+)", text)}
    return {
        "registers": field["vgpr_count"],
        "local": field["private_segment_fixed_size"] + field["vgpr_spill_count"],
    }


def compile_case(chip: str, case: Case) -> list[dict[str, Any]]:
    """One record a launch of the case."""
    label, block, call, arguments = case
    records = []

    def compile_only(kernel: Any, programs: int, *inputs: Any, warps: int, **constants: Any) -> None:
        compiled = kernel.warmup(*inputs, grid=(programs,), num_warps=warps, enable_fp_fusion=False, **constants)
        found = read_cuda(compiled, chip == LISTED) if "cubin" in compiled.asm else read_hip(compiled)
        size = constants.get("COLUMNS") or constants["SIZE"] * constants["HALVES"]
        size *= constants.get("ROWS", 1)
        shared = compiled.metadata.shared
        about = {"chip": chip, "label": label, "block": block, "elements": size, "warps": warps, "shared": shared}
        records.append(about | found)

    _blocks.launch = compile_only
    _blocks.all_registers = (lambda warps: {}) if chip.startswith("gfx") else ALL_REGISTERS
    _blocks.chip = lambda device: (132, SHARED_BYTES[chip])
    call(*arguments)
    return records


def main() -> None:
    records = []
    for name in SHARED_BYTES:
        triton.runtime.driver.set_active(Chip(name))
        for case in ON_EVERY_CHIP + (ON_ONE_CHIP if name == LISTED else []):
            records += compile_case(name, case)
    print(json.dumps({"limits": SHARED_BYTES, "records": records}))


if __name__ == "__main__":
    main()
