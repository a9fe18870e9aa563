"""What a training run leaves in its directory: the model, ``summary.json`` and ``loss.png``."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import models
from .settings import Settings
from .tasks import TASKS, Task, name_of_task
from .training import Evaluation, Progress, Result, evaluate

SUMMARY, CURVE = "summary.json", "loss.png"


def save_run(
    directory: Path, model: Any, task: Any, settings: Settings, result: Result, threads: int
) -> tuple[dict[str, Any], Evaluation]:
    """Write everything; returns the summary and how the model does on fresh sequences.

    The model is safe before anything that takes time, so a second Ctrl-C does not lose it.
    """
    task_name = name_of_task(task)
    models.save(model, directory, task={"name": task_name, **asdict(task)})
    final = evaluate(model, task, settings.evaluation_sequences, seed=settings.seed)
    summary = {
        "task": task_name,
        "label": task.label,
        "model": models.name_of(model),
        "outcome": result.outcome,
        "solved": task.solved(final.loss, final.score),
        "steps": result.steps,
        "seconds": result.seconds,
        "seconds_per_step": result.seconds / max(result.steps, 1),
        "loss": final.loss,
        "baseline": task.baseline,
        "metric": task.metric.name,
        "score": final.score,
        "score_text": task.metric.text(final.score),
        "sequences": final.count,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": model.packed_bytes(),
        "threads": threads,
        "device": str(next(model.parameters()).device),
        "task_settings": asdict(task),
        "model_settings": asdict(model.config),
        "settings": asdict(settings),
    }
    models.write_file(directory / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    if result.history:
        models.write_file(directory / CURVE, loss_curve(result.history, task))
    return summary, final


def load_run(directory: Path) -> tuple[Any, Any]:
    """Model and task of a saved run; ModelDirectoryError when either is damaged."""
    model, described = models.load(directory)
    arguments = dict(described or {})
    name = arguments.pop("name", None)
    if name not in TASKS:
        raise models.ModelDirectoryError(f"{directory} was saved with task {name!r}, known are {', '.join(TASKS)}")
    try:
        return model, TASKS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise models.ModelDirectoryError(f"{directory}: its task cannot be made: {error}") from None


def loss_curve(history: Sequence[Progress], task: Task) -> bytes:
    """PNG of loss and score over the updates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [entry.step for entry in history]
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    above.semilogy(steps, [entry.loss for entry in history], linewidth=0.8)
    above.axhline(task.baseline, color="gray", linestyle="--", label=task.baseline_name)
    above.set_ylabel("loss")
    above.legend()
    unit = 100 if task.metric.share else 1
    below.plot(steps, [unit * entry.score for entry in history], linewidth=0.8)
    below.set_ylabel(task.metric.name + (", %" if task.metric.share else ""))
    below.set_xlabel("update")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    pyplot.close(figure)
    return png.getvalue()
