"""A saved model: a directory of ``weights.safetensors`` and ``config.json``.

config.json  {"format": "sylvester-model", "version": 1, "model": name, "config": {...}, "task": {...} or null,
              "weights_sha256": hex}

Each file is written under a temporary name and renamed. The configuration comes last and knows the checksum of the
weights, so a directory that was half-written is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import Tensor

FORMAT, VERSION = "sylvester-model", 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"


class ModelDirectoryError(ValueError):
    """The directory holds no model that can be read; the message says why."""


@dataclass(frozen=True)
class Saved:
    """What a directory holds."""

    model: str
    config: dict[str, Any]
    task: dict[str, Any] | None
    state: dict[str, Tensor]


def write_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_directory(
    directory: Path, model: str, config: Any, state: Mapping[str, Tensor], task: Mapping[str, Any] | None
) -> None:
    weights = bytes_from_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
    described = {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "config": asdict(config),
        "task": None if task is None else dict(task),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / WEIGHTS, weights)
    write_file(directory / CONFIG, (json.dumps(described, indent=2) + "\n").encode())


def read_directory(directory: Path) -> Saved:
    described = _read_config(directory)
    try:
        weights = (directory / WEIGHTS).read_bytes()
    except OSError as error:
        raise ModelDirectoryError(f"{directory}: {WEIGHTS} cannot be read ({error.strerror})") from None
    if hashlib.sha256(weights).hexdigest() != described["weights_sha256"]:
        raise ModelDirectoryError(
            f"{directory}: {WEIGHTS} is not the file that {CONFIG} was written for; it is damaged or half-written"
        )
    try:
        state = tensors_from_bytes(weights)
    except SafetensorError as error:
        raise ModelDirectoryError(f"{directory}: {WEIGHTS} is not a safetensors file ({error})") from None
    return Saved(described["model"], described["config"], described["task"], state)


def wrong_version(where: Path, found: Any, known: int) -> str:
    return f"{where} was written in version {found} of the format, this sylvester reads version {known}"


def _read_config(directory: Path) -> dict[str, Any]:
    if not directory.is_dir():
        raise ModelDirectoryError(f"{directory} is not a directory")
    try:
        described = json.loads((directory / CONFIG).read_bytes())
    except FileNotFoundError:
        raise ModelDirectoryError(f"{directory} has no {CONFIG}: not a saved model, or half-written") from None
    except OSError as error:
        raise ModelDirectoryError(f"{directory}: {CONFIG} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ModelDirectoryError(f"{directory}: {CONFIG} is not JSON, so damaged ({error})") from None
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ModelDirectoryError(f"{directory}: {CONFIG} does not describe a {FORMAT}")
    if described.get("version") != VERSION:
        raise ModelDirectoryError(wrong_version(directory, described.get("version"), VERSION))
    kinds: dict[str, Any] = {"model": str, "config": dict, "task": dict | None, "weights_sha256": str}
    for name, kind in kinds.items():
        if name not in described or not isinstance(described[name], kind):
            raise ModelDirectoryError(f"{directory}: {CONFIG} is damaged, {name!r} is missing or of the wrong type")
    return described
