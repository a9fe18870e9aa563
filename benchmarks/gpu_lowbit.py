"""The low-bit products on a GPU: what benchmarks/gpu.py checks and times of them.

Weights are cold: a sample multiplies with as many copies in turn as fill more than any cache, COLD_BYTES, each right
after the one before. The floor moves as many bytes as the packed weights have, half of them in and half of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from .gpu_checks import error
from .gpu_device import Bench, Calls, Check, Group, planned

COLD_BYTES = 1 << 28
ENCODINGS = {"binary": 0, "ternary": 1, "int2": 2, "int4": 4, "int8": 8, "trits": 9}


def draw_codes(b: Bench, name: str, *shape: int) -> Tensor:
    """int8 codes, every one as likely as any other."""
    if name in ("ternary", "trits"):
        return torch.randint(-1, 2, shape, device=b.device, dtype=torch.int8)
    if name == "binary":
        return torch.randint(0, 2, shape, device=b.device, dtype=torch.int8) * 2 - 1
    half = 1 << int(name[3:]) - 1
    return torch.randint(-half, half, shape, device=b.device, dtype=torch.int8)


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of rows and their scales, as the operators define them."""
    x = x.float()
    largest = x.abs().amax(-1, keepdim=True)
    limit = torch.full_like(largest, 127)  # by a number torch divides on GPUs by multiplying
    return (x * (limit / largest)).round().to(torch.int8), (largest / limit)[:, 0]


def check_products(b: Bench) -> Iterator[Check]:
    for name in list(ENCODINGS)[: 2 if b.tiny else None]:
        for columns, depth in ((9, 70),) if b.tiny else ((37, 70), (513, 1000), (1024, 4096)):
            yield f"{name} {depth} to {columns}", partial(_products, b, name, columns, depth)


def _products(b: Bench, name: str, columns: int, depth: int) -> Iterator[tuple[str, float]]:
    """Sums of codes are exact, whichever kernel adds them up; floats and dx are as good as float32."""
    dtypes, encoding = (torch.float32, torch.bfloat16, torch.float16), ENCODINGS[name]
    codes, scale, bias = draw_codes(b, name, columns, depth), b.normal(columns), b.normal(columns)
    weights = (codes, b.lowbit.lowbit_layout_codes(codes, encoding), scale, encoding)
    for rows in (1, 5) if b.tiny else (1, 2, 5, 16, 40, 130):
        x = b.normal(rows, depth)
        for check, fraction in _check_codes(b, x, bias, *weights):
            yield f"{rows} rows, {check}", fraction
        for dtype in dtypes[: 1 if b.tiny else None]:
            for check, fraction in _check_floats(b, x.to(dtype), *weights):
                yield f"{rows} rows {dtype}, {check}", fraction


def _check_codes(
    b: Bench, x: Tensor, bias: Tensor, codes: Tensor, layout: Tensor, scale: Tensor, encoding: int
) -> Iterator[tuple[str, float]]:
    run = partial(b.lowbit.lowbit_matmul, layout=layout, latent=None, encoding=encoding, out_features=len(codes))
    x_codes, x_scale = quantised(x)
    one = torch.ones_like(x_scale)
    sums = (x_codes.double() @ codes.double().t()).float()
    got = run(x_codes, one, scale=torch.ones_like(scale[0]), bias=None, exact=False)
    yield "sums", 0.0 if torch.equal(got, sums) else float("inf")
    given = run(x_codes, x_scale, scale=scale, bias=bias, exact=False)
    yield "codes", error(given, sums.double() * x_scale.double()[:, None] * scale.double() + bias.double(), 0)
    same = torch.equal(run(x, None, scale=scale, bias=bias, exact=False), given)
    yield "quantised on the way", 0.0 if same else float("inf")
    alone = run(x_codes[:1], x_scale[:1], scale=scale, bias=bias, exact=False)
    yield "bits alone", 0.0 if torch.equal(alone, given[:1]) else float("inf")


def _check_floats(
    b: Bench, x: Tensor, codes: Tensor, layout: Tensor, scale: Tensor, encoding: int
) -> Iterator[tuple[str, float]]:
    columns, depth = codes.shape
    exact = partial(b.lowbit.lowbit_matmul, x_scale=None, layout=layout, scale=scale, bias=None, latent=None,
                    encoding=encoding, out_features=columns, exact=True)  # fmt: skip
    weight = codes.double() * scale.double()[:, None]
    got = exact(x)
    yield "floats", error(got, x.double() @ weight.t(), depth.bit_length())
    yield "floats, bits alone", 0.0 if torch.equal(exact(x[-1:]), got[-1:]) else float("inf")
    grad = b.normal(len(x), columns, dtype=x.dtype)
    back = b.lowbit.lowbit_matmul_input(grad, layout, scale, encoding, depth)
    yield "dx", error(back, grad.double() @ weight, columns.bit_length())


def copies_of(b: Bench, name: str, columns: int, depth: int) -> list[Tensor]:
    """Layouts of the same weights in neighbouring memory: an even number, together COLD_BYTES or more."""
    layout = b.lowbit.lowbit_layout_codes(draw_codes(b, name, columns, depth), ENCODINGS[name])
    count = 2 if b.tiny else 2 * -(-COLD_BYTES // (2 * layout.nbytes))
    return list(layout.expand(count, *layout.shape).clone())


SHAPES = (
    ("ternary", 1), ("trits", 1), ("binary", 1), ("int4", 1), ("int8", 1), ("ternary", 2), ("ternary", 16),
    ("ternary", 64), ("ternary", 256), ("int4", 256), ("int8", 256),
)  # fmt: skip


def timed_products(b: Bench) -> Iterator[Group]:
    def calls(name: str, rows: int, size: int) -> Calls:
        layouts, scale = copies_of(b, name, size, size), b.normal(size)
        x = b.normal(rows, size, dtype=torch.bfloat16)
        x_codes, x_scale = quantised(x)
        bytes_moved = layouts[0].new_empty(2, len(layouts) * layouts[0].nbytes // 2)
        dense = [b.normal(size, size, dtype=torch.bfloat16) for _ in range(2)]  # larger than caches, so two do

        def product(x: Tensor, x_scale: Tensor | None, exact: bool) -> None:
            for layout in layouts:
                b.lowbit.lowbit_matmul(x, x_scale, layout, scale, None, None, ENCODINGS[name], size, exact)

        def input_gradient() -> None:
            for layout in layouts:
                b.lowbit.lowbit_matmul_input(x, layout, scale, ENCODINGS[name], size)

        def linear() -> None:
            for i in range(len(layouts)):
                torch.nn.functional.linear(x, dense[i % 2])

        found: Calls = {
            "floor": lambda: bytes_moved[0].copy_(bytes_moved[1]),
            "bf16 linear": linear,
            "codes": lambda: product(x_codes, x_scale, False),
            "bf16, quantised": lambda: product(x, None, False),
        }
        if rows >= 16:
            found |= {"bf16, exact": lambda: product(x, None, True), "dx": input_gradient}
        return found

    for name, rows in (SHAPES[0], SHAPES[8]) if b.tiny else SHAPES:
        size = 16 if b.tiny else 8000 if name == "trits" else 8192
        yield f"{name} M={rows} {size}x{size}, cold weights in turn", partial(calls, name, min(rows, size), size)


FEW_PLANS = [(columns, words, parts) for columns in (2, 4, 8, 16) for words in (128, 256, 512) for parts in (1, 2, 4)
             if 4 <= columns * parts <= 32]  # fmt: skip
"""Rows of W at a time, words of each, times, for one row of x."""
Tiles = tuple[tuple[int, int, int], ...]
SHAPES_OF_TILES: dict[str, tuple[str, dict[int, Tiles], tuple[int, ...]]] = {
    "codes": ("codes_plan", {
        16: ((16, 32, 4), (16, 64, 4), (16, 128, 4), (16, 64, 8), (16, 128, 8)),
        64: ((64, 32, 4), (64, 64, 4), (64, 128, 4), (64, 128, 8), (32, 64, 4), (32, 128, 4)),
        256: ((64, 64, 4), (128, 64, 4), (128, 128, 8), (256, 64, 4), (256, 64, 8), (256, 128, 8)),
    }, (32, 64, 128, 256)),
    "bf16, exact": ("floats_plan", dict.fromkeys(
        (16, 256), ((32, 64, 4), (64, 64, 4), (64, 128, 8), (128, 64, 4), (128, 128, 8), (256, 64, 8))), (32, 64)),
    "dx": ("input_plan", dict.fromkeys(
        (16, 256), ((64, 32, 4), (128, 32, 4), (128, 64, 4), (128, 64, 8), (256, 32, 8), (256, 64, 8))), (64, 128)),
}  # fmt: skip
"""Candidate -> the plan's function, (rows, columns, warps) by rows of x, bytes of a plane."""


def tuned_products(b: Bench) -> Iterator[Group]:
    """Alternatives to the plans of few rows and of tiles."""
    plan_type = type(b.products.codes_plan(16, 16, 4, b.device))

    def calls(group: Callable[[], Calls], candidate: str, rows: int, fields: int) -> Calls:
        run = group()[candidate]
        if rows == 1:
            few = FEW_PLANS[-1 if b.tiny else 0 :]
            plans = {str(p): partial(planned, [b.lowbit], p, run, "few_rows_plan") for p in few}
            return {"in use": run} | plans
        attribute, tiles, bytes = SHAPES_OF_TILES[candidate]
        size = 1 if candidate == "codes" else 2
        found = [plan_type(m, n, p, stages, warps) for m, n, warps in tiles[rows] for p in bytes for stages in (2, 3, 4)
                 if candidate == "dx" or stages * p * (size * fields * m + n) <= 220 << 10]  # fmt: skip
        return {"in use": run} | {str(tuple(p)): partial(planned, [b.products], p, run, attribute)
                                  for p in found[-1 if b.tiny else 0 :]}  # fmt: skip

    for name, group in timed_products(b):
        encoding, rows = name.split()[0], int(name.split()[1][2:])
        fields = {"ternary": 4, "int4": 2, "int8": 1}.get(encoding, 0)
        for candidate, (_, tiles, _) in SHAPES_OF_TILES.items():
            if rows in tiles and fields or rows == 1 and candidate == "codes":
                yield f"plans of {candidate}, {name}", partial(calls, group, candidate, rows, fields)


def product_targets(seconds: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Name -> (measured, limit)."""
    one, many = (seconds.get(f"ternary M={m} 8192x8192, cold weights in turn", {}) for m in (1, 256))
    if not (one and many):
        return {}
    return {
        "ternary M=1 8192x8192, of the packed bytes' floor": (one["codes"] / one["floor"], 1 / 0.7),
        "ternary M=1 8192x8192, of cuBLAS bf16": (one["codes"] / one["bf16 linear"], 1 / 5),
        "ternary M=256 int8, of cuBLAS bf16": (many["codes"] / many["bf16 linear"], 1 / 1.3),
    }
