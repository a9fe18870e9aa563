"""What benchmarks/gpu.py asks of every kernel before it times one: the values of float64, and the same bits twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from .gpu_device import Bench


def transform64(x: Tensor, block: int) -> Tensor:
    """Orthogonal transform of blocks of the last axis in float64, differentiable."""
    y = x.double().unflatten(-1, (-1, block))
    for stage in range(block.bit_length() - 1):
        a, b = y.unflatten(-1, (block >> stage + 1, 2, 1 << stage)).unbind(-2)
        y = torch.stack((a + b, a - b), -2).flatten(-3)
    return y.flatten(-2) * block**-0.5


def scan64(drive: Tensor, weight: Tensor | None, sign: Tensor, bias: Tensor, h: Tensor, block: int) -> Tensor:
    """All states, (T, B, D) in float64, differentiable."""
    z = drive
    if weight is not None:
        z = drive @ weight.t() if drive.is_floating_point() else weight[drive]
    states = []
    for z_t in z.unbind(0):
        h = sign * transform64(h, block) + z_t + bias
        states.append(h)
    return torch.stack(states)


def error(got: Tensor, want: Tensor, stages: int, steps: int = 1) -> float:
    """Largest error as a fraction of what is allowed: a rounding a stage, adding like random numbers over steps."""
    info = torch.finfo(got.dtype)
    largest = max(want.abs().max().item(), 1e-3)
    # The interpreter cuts 16-bit values off where a GPU rounds; gradients pass through two roundings.
    rounding = (want.abs() + largest) * info.eps if info.bits == 16 else 0.0
    allowed = (stages + 8) * 4 * steps**0.5 * 2.0**-24 * largest + rounding
    fraction = ((got.double() - want).abs() / allowed).max().item()
    return fraction if fraction == fraction else float("inf")


def check_transforms(b: Bench) -> Iterator[tuple[str, float]]:
    for stages in range(0, 16, 5 if b.tiny else 1):
        block = 1 << stages
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            x, pre, post = b.normal(7, 3 * block, dtype=dtype), b.normal(3 * block), b.normal(3 * block)
            want = post.double() * transform64(pre * x.double(), block)
            results = {"": b.transforms.hadamard_transform(x, block, None, pre, post)}
            b.transforms.hadamard_transform_(x, block, None, pre, post)
            for name, got in (results | {"in place": x}).items():
                yield f"transform {block} {dtype} {name}", error(got, want, stages)


def check_scans(b: Bench) -> Iterator[tuple[str, float]]:
    """Forward, backward with rebuilt states, and the same bits twice."""
    steps, rows = (5, 2) if b.tiny else (150, 3)
    for block in (16,) if b.tiny else (1, 16, 128, 256, 512, 1024, 2048, 4096, 8192):
        # Every kernel takes seconds to compile, so not every block meets every kind of drive.
        for kind in ("given", "10", "40", "tokens") if block in (16, 256, 1024) else ("given", "10"):
            for dtype, reverse in ((torch.float32, False), (torch.bfloat16, True)):
                drive, weight = b.drive(kind, steps, rows, 3 * block, dtype)
                sign, bias, h0 = b.signs(3 * block), b.normal(3 * block), b.normal(rows, 3 * block)
                inputs, flags = (drive, weight, sign, bias, h0), (block, 0, False, reverse, False)
                run = partial(b.scans.hadamard_scan, *inputs, *(None,) * 4, *flags, True)
                states, last, kept = run()
                grad = b.normal(*states.shape, dtype=dtype)
                found = b.scans.hadamard_scan_backward(
                    grad, None, *inputs, *(None,) * 4, last, kept, *flags, True, True, True
                )
                leaves = {name: x.double().requires_grad_() for name, x in
                          {"drive": drive, "weight": weight, "sign": sign, "bias": bias, "h0": h0}.items()
                          if x is not None and x.is_floating_point()}  # fmt: skip
                turn = partial(torch.flip, dims=(0,)) if reverse else partial(torch.clone)
                z = turn(leaves.get("drive", drive))
                want = scan64(z, leaves.get("weight"), leaves["sign"], leaves["bias"], leaves["h0"], block)
                label, stages = f"scan {kind} {block} {dtype}", block.bit_length() - 1
                yield label, max(error(states, turn(want), stages, steps), error(last, want[-1], stages, steps))
                yield f"{label}, bits again", 0.0 if torch.equal(run()[0], states) else float("inf")
                grads = torch.autograd.grad(turn(want), list(leaves.values()), grad.double())
                for name, got, wanted in zip(leaves, (g for g in found if g.numel()), grads, strict=True):
                    yield f"{label}, gradient of {name}", error(got, wanted, stages, steps * rows)
