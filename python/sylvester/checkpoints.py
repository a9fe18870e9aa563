"""Where an interrupted training goes on: ``checkpoint.pt``, everything that an update changes.

{"format": "sylvester-checkpoint", "version": 1, "configuration": {"settings.seed": 0, ...}, "state": {...}}, a file of
torch.save that holds tensors and plain values only.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from . import models
from .models._directory import wrong_version
from .settings import Settings
from .tasks import Task, name_of_task

FILE, FORMAT, VERSION = "checkpoint.pt", "sylvester-checkpoint", 1
ABSENT = "absent"


class CheckpointError(ValueError):
    """There is no checkpoint that this training could go on from; the message says why."""


def configuration(model: Any, task: Task, settings: Settings) -> dict[str, Any]:
    """What a training must share with its checkpoint, by dotted names."""
    parts: dict[str, dict[str, Any]] = {
        "task": {"name": name_of_task(task), **asdict(task)},  # type: ignore[call-overload]
        "model": {"name": models.name_of(model), **asdict(model.config)},
        "settings": asdict(settings),
    }
    return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint of one training: ``directory`` keeps it, every ``every`` updates it is written anew."""

    directory: Path
    configuration: Mapping[str, Any]
    every: int = 100

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {self.every}")

    @property
    def path(self) -> Path:
        return self.directory / FILE

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def save(self, state: Mapping[str, Any]) -> None:
        content = io.BytesIO()
        described = {"format": FORMAT, "version": VERSION, "configuration": dict(self.configuration)}
        torch.save({**described, "state": dict(state)}, content)
        models.write_file(self.path, content.getvalue())

    def load(self) -> dict[str, Any]:
        """The state that was saved last, on the CPU."""
        saved = self._read()
        old, new = saved["configuration"], self.configuration
        for name in [*new, *(name for name in old if name not in new)]:
            before, now = old.get(name, ABSENT), new.get(name, ABSENT)
            if before != now:
                raise CheckpointError(f"{self.path} was written with {name} = {before!r}, this training has {now!r}")
        return saved["state"]

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            raise CheckpointError(f"{self.directory} has no {FILE}: there is no training to resume") from None
        try:
            # torch.load does not compare the checksums that torch.save writes.
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(f"{self.path} is damaged: wrong checksum of {damaged}")
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (zipfile.BadZipFile, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{self.path} is damaged or no checkpoint ({error})") from None
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise CheckpointError(f"{self.path} is not a {FORMAT}")
        if saved.get("version") != VERSION:
            raise CheckpointError(wrong_version(self.path, saved.get("version"), VERSION))
        return saved
