"""Models: one self-contained file each. Adding a model adds one line to ``MODELS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from ._directory import ModelDirectoryError as ModelDirectoryError
from ._directory import read_directory, write_directory
from ._directory import write_file as write_file
from ._reference_weights import from_reference as from_reference
from .baseline import BaselineConfig as BaselineConfig
from .baseline import GRUModel as GRUModel
from .baseline import LSTMModel as LSTMModel
from .baseline import RNNModel as RNNModel
from .hadam import BlockHadamModel as BlockHadamModel
from .hadam import HadamConfig as HadamConfig
from .hadam import HadamModel as HadamModel

MODELS: dict[str, tuple[type[nn.Module], type[Any]]] = {
    "hadam": (HadamModel, HadamConfig),
    "block-hadam": (BlockHadamModel, HadamConfig),
    "rnn": (RNNModel, BaselineConfig),
    "lstm": (LSTMModel, BaselineConfig),
    "gru": (GRUModel, BaselineConfig),
}
"""Name on the command line and in a saved directory -> (module, its configuration dataclass)."""


def option_names(name: str) -> list[str]:
    """The fields of a model's configuration; ValueError for a model that there is not."""
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, got {name!r}")
    return [field.name for field in fields(MODELS[name][1])]


def build(name: str, **options: Any) -> nn.Module:
    """A new model; ``options`` are fields of its configuration. ValueError for one that it has not."""
    known = option_names(name)
    for option in options:
        if option not in known:
            raise ValueError(f"the model {name} has no {option}; its options are {', '.join(known)}")
    module, configuration = MODELS[name]
    return module(configuration(**options))


def name_of(model: nn.Module) -> str:
    """The name under which a model is saved."""
    for name, (module, _) in MODELS.items():
        if type(model) is module:
            return name
    raise ValueError(f"model must be one of {', '.join(MODELS)}, got {type(model).__name__}")


def save(model: nn.Module, directory: str | Path, *, task: Mapping[str, Any] | None = None) -> None:
    """Write weights and configuration; ``task`` (JSON values) is kept beside them for the evaluation."""
    write_directory(Path(directory), name_of(model), model.config, model.state_dict(), task)


def load(directory: str | Path) -> tuple[nn.Module, dict[str, Any] | None]:
    """The model of a saved directory, in evaluation mode on the CPU, and the task it was saved with.

    Raises ModelDirectoryError when the directory is damaged, half-written or of another version.
    """
    saved = read_directory(Path(directory))
    if saved.model not in MODELS:
        raise ModelDirectoryError(f"{directory} holds a model {saved.model!r}, known are {', '.join(MODELS)}")
    module, configuration = MODELS[saved.model]
    try:
        model = module(configuration(**saved.config))
        model.load_state_dict(saved.state)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelDirectoryError(f"{directory}: configuration and weights do not make a model: {error}") from None
    return model.eval(), saved.task
