"""What every Hadamard kernel shares: the transform of a tile in registers, the exact scale, the launch."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.target_info import is_cuda

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_BLOCK = 1 << 15


@triton.constexpr_function
def interpreted() -> bool:
    return triton.knobs.runtime.interpret


@triton.constexpr_function
def assembly() -> bool:
    """Whether instructions may be named: not in the interpreter, and not on AMD."""
    return not interpreted() and is_cuda()


@triton.jit
def product(a, b, c):
    """a · b + c with float32's accuracy: in three products of tf32 halves; AMD's matrix cores take float32."""
    return tl.dot(a, b, c, input_precision="tf32x3" if is_cuda() else "ieee")


@triton.jit
def tile_product(weights, floats, total, PARTS: tl.constexpr, WEIGHTS_FIRST: tl.constexpr):
    """weights · floats, or floats · weights, + total: with the leading ``PARTS`` · 8 bits of floats of another type.

    Tensor cores cut off what they add to the total: a long sum is added up outside of them.
    """
    if floats.dtype == weights.dtype and floats.dtype != tl.float32:
        if WEIGHTS_FIRST:
            return tl.dot(weights, floats, total)
        else:
            return tl.dot(floats, weights, total)
    else:
        rest = floats.to(tl.float32)
        for _ in tl.static_range(PARTS):
            # Cut off, not rounded: the largest floats would round to infinity. And infinity has no rest.
            part = (rest.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
            rest = tl.where(tl.abs(rest) == float("inf"), 0.0, rest - part)
            if WEIGHTS_FIRST:
                total = tl.dot(weights, part.to(weights.dtype), total, input_precision="ieee")
            else:
                total = tl.dot(part.to(weights.dtype), weights, total, input_precision="ieee")
        return total


@triton.jit
def hadamard(x, SIZE: tl.constexpr, LOG_BLOCK: tl.constexpr, DIGITS: tl.constexpr):
    """Unscaled transform of each 2**LOG_BLOCK consecutive elements of ``x``; (SIZE,) -> (SIZE,), float32.

    Every stage adds and subtracts neighbours and sends the bit it has used away from the bottom of the index, so each
    stage is the same text and strides ascend. The compiler's layouts follow the rotation: it exchanges values among
    threads only where the bottom bit has left a thread, with 32 values a thread or more twice in all, 16 bytes an
    element. Butterflies in place take shuffles and selects besides.
    """
    for i in tl.static_range(len(DIGITS)):
        x = _digit(x, SIZE, DIGITS[i])
    # The index is now (position in block, block): turn it back.
    x = tl.reshape(x, [2**LOG_BLOCK, SIZE // 2**LOG_BLOCK])
    return tl.reshape(tl.permute(x, [1, 0]), [SIZE])


@triton.jit
def _digit(x, SIZE: tl.constexpr, BITS: tl.constexpr):
    """The stages of the lowest ``BITS`` bits of the index, which then become its highest."""
    for _ in tl.static_range(BITS):
        even, odd = tl.split(tl.reshape(x, [SIZE // 2**BITS, 2 ** (BITS - 1), 2]))
        x = tl.reshape(tl.permute(tl.join(even + odd, even - odd), [0, 2, 1]), [SIZE])
    x = tl.reshape(x, [SIZE // 2**BITS, 2**BITS])
    return tl.reshape(tl.permute(x, [1, 0]), [SIZE])


def digits(block: int, warps: int) -> tuple[int, ...]:
    """How the stages are grouped: it changes no value, only where the compiler exchanges.

    One bit at a time is best; but 4 warps then take 4 exchanges for 1024 elements, where 3 and one shuffled bit do.
    """
    return (2, 4, 3, 1) if (block, warps) == (1024, 4) else (1,) * (block.bit_length() - 1)


@triton.jit
def scaled(y, hi, lo, EXACT: tl.constexpr):
    """y · (hi + lo) in about one rounding; EXACT: lo is 0, and infinity must stay infinity."""
    if EXACT:
        return y * hi
    else:
        return tl.fma(y, hi, y * lo)


@triton.jit
def scaled_plus(y, hi, lo, z, EXACT: tl.constexpr):
    """y · (hi + lo) + z in about one rounding."""
    if EXACT:
        return tl.fma(y, hi, z)
    else:
        return tl.fma(y, hi, tl.fma(y, lo, z))


@cache
def split_scale(scale: float | None, block: int) -> tuple[float, float]:
    """The scale as hi + lo in float32, lo of the sign of hi or 0; None: 1/sqrt(block), irrational every second time.

    A scale given as a number has no more meaning than its float32, so only the exact one is split.
    """
    if scale is not None:
        return _float32(scale), 0.0
    exact = 1.0 / math.sqrt(block)
    hi = _float32(exact)
    if hi > exact:
        hi = torch.nextafter(torch.tensor(hi), torch.tensor(0.0)).item()
    return hi, _float32(exact - hi)


def _float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


def require_floats(name: str, dtype: torch.dtype) -> None:
    """float64 has its own instance on the CPU only."""
    if dtype not in FLOATS:
        raise TypeError(f"{name} must be float32, bfloat16 or float16 on a GPU, got {dtype}; float64 runs on the CPU")


def require_block(block_size: int) -> None:
    if block_size > LARGEST_BLOCK:
        raise ValueError(f"block_size must be at most {LARGEST_BLOCK} on a GPU, got {block_size}")


@cache
def chip(device: torch.device) -> tuple[int, int]:
    """(multiprocessors, bytes of shared memory a program may have)."""
    if device.type != "cuda":  # the interpreter
        return 2, 1 << 20
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", properties.shared_memory_per_block)
    return properties.multi_processor_count, shared


def amd() -> bool:
    """Whether kernels are for AMD's chips, where a warp has 64 lanes."""
    return torch.version.hip is not None


def all_registers(warps: int) -> dict[str, int]:
    """A launch option: left to itself NVIDIA's compiler spills a few bytes to fit one more program on a multiprocessor.

    The kernels that ask for it wait for their own steps, which more programs do not shorten, or spill on one chip.
    """
    return {} if amd() else {"maxnreg": min(255, (1 << 16) // (32 * warps))}


def launch(kernel: Any, programs: int, *arguments: Any, warps: int, **constants: Any) -> None:
    """Every launch goes through here.

    Floating-point fusion is off: which products are fused would depend on how the compiler specialised the arguments,
    and a row's bits on its batch. Where an FMA is wanted the kernels say so.
    """
    if programs:
        kernel[(programs,)](*arguments, **constants, num_warps=warps, enable_fp_fusion=False)
