"""Compiles every Triton kernel for chips that need not be here and prints what the binaries cost, as JSON.

    python tests/aot.py

A child process of test_aot.py, without TRITON_INTERPRET: Triton's mode is fixed when it is imported. The launchers run
as they would on a GPU, with a driver that knows the chip's name only and with a launch that stops after compiling, so
the specialisations are those that users get.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import triton
from elftools.elf.elffile import ELFFile
from triton.backends.compiler import GPUTarget

import aot_cases
import aot_lowbit
from sylvester.kernels import _blocks, _early, _lowbit_rows

EXCHANGES = ("SHFL", "STS", "LDS", "STSM", "LDSM")
WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
SHARED_BYTES = {"80": 166912, "90": 232448, "100": 232448, "120": 101376, "gfx942": 65536}
"""Chip -> what a block may have."""
LISTED = "90"
"""The chip whose code is read, and which compiles the cases of ON_ONE_CHIP too."""


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


def read_cuda(compiled: Any, listed: bool) -> dict[str, Any]:
    """Resources from the header; ``listed``: and the code, for ``count_code``."""
    cubin = compiled.asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = run_tool("cuobjdump", "--dump-resource-usage", file.name)
    resources = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}
    record = {"registers": resources["REG"], "local": resources["STACK"] + resources["LOCAL"]}
    if not listed:
        return record
    (code,) = (s.data() for s in ELFFile(io.BytesIO(cubin)).iter_sections() if s.name.startswith(".text"))
    return record | {"code": code}


def run_tool(name: str, *arguments: str) -> str:
    tool = str(Path(triton.__file__).parent / "backends/nvidia/bin" / name)
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout


Code = list[tuple[int, str, str]]
"""Address, operation, operands."""


def count_code(records: list[dict[str, Any]]) -> None:
    """Puts counts over the whole kernel and over its largest loop in the place of code.

    The lister takes 0.2 s to start, longer than a kernel takes to compile: it gets all of them as one.
    """
    coded = [record for record in records if "code" in record]
    ends = list(accumulate(len(record["code"]) for record in coded))
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(record.pop("code") for record in coded))
        file.flush()
        text = run_tool("nvdisasm", "--binary", f"SM{LISTED}", file.name)
    # Address, predicate, operation, operands; what never executes ("@!PT", a filler) is left out.
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);", text)
    lines = [(int(address, 16), op, rest) for address, predicate, op, rest in found if predicate != "@!PT"]
    for record, start, end in zip(coded, [0, *ends], ends, strict=False):
        code = [line for line in lines if start <= line[0] < end]
        record |= {"whole": count(code), "loop": count(max(loops(code), key=len, default=[]))}


def loops(code: Code) -> Iterator[Code]:
    for address, op, rest in code:
        target = re.search(r"0x([0-9a-f]+)", rest) if op.startswith("BRA") else None
        if target and int(target[1], 16) < address:
            yield [line for line in code if int(target[1], 16) <= line[0] <= address]


def count(code: Code) -> dict[str, int]:
    """Instructions, barriers, products on tensor cores, accesses to memory, and bytes a thread by kind of access.

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
        result["products"] += name in ("HGMMA", "IGMMA")
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


def elements(constants: dict[str, Any]) -> int:
    """Of a program's tile; packed weights of one round of its loop."""
    if "FIELDS" in constants:
        rows = constants["COLUMNS"] * constants.get("PARTS", 1)
        return rows * constants["FIELDS"] * (constants.get("BYTES") or 4 * constants["WORDS"])
    size = constants.get("COLUMNS") or constants.get("BLOCK") or constants["SIZE"]
    return size * constants.get("HALVES", 1) * constants.get("ROWS", 1)


def compile_case(chip: str, case: aot_cases.Case) -> list[dict[str, Any]]:
    """One record a launch of the case."""
    label, block, call, arguments = case
    records = []

    def compile_only(kernel: Any, programs: int, *inputs: Any, warps: int, **constants: Any) -> None:
        compiled = kernel.warmup(*inputs, grid=(programs,), num_warps=warps, enable_fp_fusion=False, **constants)
        found = read_cuda(compiled, chip == LISTED) if "cubin" in compiled.asm else read_hip(compiled)
        size = block * constants["BLOCKS"] if "BLOCKS" in constants else elements(constants)
        shared = compiled.metadata.shared
        about = {"chip": chip, "label": label, "kernel": kernel.fn.__name__.strip("_"), "block": block}
        if "WORDS" in constants:
            about["rounds"] = triton.cdiv(inputs[2].shape[1], constants["WORDS"])
        records.append(
            about | {"elements": size, "warps": warps, "shared": shared, "tiles": constants.get("TILES", 1)} | found
        )

    _blocks.launch = compile_only
    _blocks.amd = lambda: chip.startswith("gfx")
    _blocks.chip = lambda device: (132, SHARED_BYTES[chip])
    _early.able = _lowbit_rows.able = lambda device: chip in ("90", "100", "120")
    _early.settled = lambda weights: True
    call(*arguments)
    return records


def main() -> None:
    records = []
    for name in SHARED_BYTES:
        triton.runtime.driver.set_active(Chip(name))
        for cases in (aot_cases, aot_lowbit):
            for case in cases.ON_EVERY_CHIP + (cases.ON_ONE_CHIP if name == LISTED else []):
                records += compile_case(name, case)
    count_code(records)
    print(json.dumps({"limits": SHARED_BYTES, "records": records}))


if __name__ == "__main__":
    main()
