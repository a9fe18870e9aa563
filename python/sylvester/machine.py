"""What this machine has, what runs on it, and why something does not."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from . import __version__


def facts() -> dict[str, str]:
    """Rows of ``sylvester info``. Never raises: what is missing is reported with its reason."""
    return {
        "sylvester": f"{__version__}, Python {platform.python_version()}",
        "CPU kernels": _cpu_kernels(),
        "CPU levels": _cpu_levels(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "torch": str(torch.__version__),
        "Triton": _triton(),
        "GPU": _gpu(),
        "GPU kernels": _gpu_kernels(),
    }


def keep_freed_memory() -> None:
    """Let this process reuse freed memory instead of returning it to the system; for training, until the process ends.

    Above 32 MiB glibc maps new pages for every tensor, and touching them costs more than computing on them: the
    read-out of a training step of 1000 steps takes half the time with old pages. Elsewhere than glibc: no effect.
    """
    trim_threshold, mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, ctypes.c_int(2**31 - 1))


def _cpu_kernels() -> str:
    try:
        from . import _library
    except (ImportError, OSError) as error:
        return f"do not run: {error}"
    return f"run at level {_library.isa()}, from {_library.path().name}"


def _cpu_levels() -> str:
    try:
        from . import _library
    except (ImportError, OSError):
        return "unknown without the library"
    missing = [level for level in _library.LEVELS if level not in _library.levels()]
    text = ", ".join(_library.levels())
    if missing:
        text += f" (this CPU lacks {', '.join(missing)})"
    forced = os.environ.get("SYLVESTER_ISA")
    return text + (f"; SYLVESTER_ISA={forced}" if forced else "")


def _triton() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    try:
        return version("triton")
    except PackageNotFoundError:
        return "of unknown version"


def _gpu() -> str:
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        return f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}"
    if torch.version.cuda is None and torch.version.hip is None:
        return "none: this torch was built without CUDA"
    return "none: torch sees no device"


def _gpu_kernels() -> str:
    reasons = []
    if not torch.cuda.is_available():
        reasons.append("no GPU")
    if importlib.util.find_spec("triton") is None:
        reasons.append("Triton is not installed")
    return f"do not run: {' and '.join(reasons)}" if reasons else "run through Triton"
