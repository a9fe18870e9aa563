"""Training: a command a task. Its own options make the task; all other options are the same for every task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from ..settings import Settings
from ..tasks import Adding, CopyMemory, Digits, Task
from ..tasks.digits import PERMUTATION
from ._console import FAILED, INTERRUPTED, Device, Threads, console, found_device, mistakes, print_facts, set_threads
from ._runs import verdict

if TYPE_CHECKING:
    from ..training import Progress

app = typer.Typer(help="Train a model on a task and save it.", no_args_is_help=True, rich_markup_mode=None)

SETTINGS = {
    "steps": "Most updates to make; ends before when solved.",
    "batch_size": "Sequences an update.",
    "learning_rate": "Learning rate at the start.",
    "sign_learning_rate": "The signs' own.",
    "optimizer": "Optimiser.",
    "beta2": "Share of the old in the running mean of squared gradients.",
    "weight_decay": "Weight decay, as the optimiser means it.",
    "schedule": "How the learning rates fall.",
    "decay": "What they fall to over all steps, as a factor.",
    "stages": "Equal parts of the steps, for the schedule step.",
    "clip_norm": "Longest gradient of all parameters together; any when left out.",
    "spare": "Share of the allowed loss and mistakes at which training ends before its steps; 0: never.",
    "seed": "Fixes initial values and sequences.",
}
"""The settings that are options, and their help; a task's own defaults are shown with them."""


@app.callback()
def group() -> None:
    """Train a model on a task and save it."""


def run(
    task: Task,
    settings: Settings,
    *,
    model: Annotated[str, typer.Option(help="hadam, block-hadam, rnn, lstm or gru.")] = "hadam",
    hidden_size: Annotated[
        int | None, typer.Option(help="Width of the state; what suits the task when left out.")
    ] = None,
    block_size: Annotated[int | None, typer.Option(help="Hadamard block; one block when left out.")] = None,
    bits: Annotated[
        int | None,
        typer.Option(help="Of input and read-out weights: 1 (ternary) to 8, 4 when left out; 32 is float32."),
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(help="Recurrences, one driven by the other; 1 when left out.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="In the recurrence: identity (when left out), relu or modrelu.")
    ] = None,
    dropout: Annotated[float | None, typer.Option(help="Between layers, in training; 0 when left out.")] = None,
    threads: Threads = None,
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="Directory to write; runs/TASK when left out.")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Updates from one checkpoint to the next.")] = 100,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the directory.")] = False,
) -> None:
    """Train, save and print. The parameters after the first two are the options that all tasks share."""
    from ..machine import keep_freed_memory

    threads_used = set_threads(threads)
    directory = out or Path("runs") / (task.label if model == "hadam" else f"{task.label}-{model}")
    with mistakes():
        from ..checkpoints import CheckpointError, Checkpoints, configuration
        from ..runs import save_run
        from ..training import train

        torch.manual_seed(settings.seed)
        given = {"hidden_size": hidden_size, "block_size": block_size, "bits": bits, "num_layers": num_layers}
        place = found_device(device)
        learner = _learner(task, model, **given, activation=activation, dropout=dropout).to(place)
        checkpoints = Checkpoints(directory, configuration(learner, task, settings), checkpoint_every)
        state = checkpoints.load() if resume else None
        directory.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with mistakes((CheckpointError, OSError)), training_bar(task, settings.steps) as report:
        result = train(learner, task, settings, report, checkpoints, state)
    with mistakes():
        summary, final = save_run(directory, learner, task, settings, result, threads_used)
    print_facts(
        {
            "outcome": result.outcome,
            **verdict(task, final),
            "updates": f"{result.steps} in {result.seconds:.1f} s, {1e3 * summary['seconds_per_step']:.1f} ms each",
            "model": f"{summary['parameters']} parameters, {summary['bytes']} bytes when packed",
            "saved to": str(directory),
        }
    )
    raise typer.Exit({"interrupted": INTERRUPTED, "diverged": FAILED}.get(result.outcome, 0))


def _learner(task: Task, model: str, **given: Any) -> Any:
    """A new model: the options that suit the task, and over them those that are given."""
    from .. import models

    known = models.option_names(model)
    options = {name: value for name, value in task.model_options.items() if name in known}
    options |= {name: value for name, value in given.items() if value is not None}
    if options.get("bits") == torch.finfo(torch.float32).bits and "bits" in known:
        options["bits"] = None
    shape = {"input_size": task.inputs, "output_size": task.outputs, "last_only": task.last_only}
    return models.build(model, **shape, **options)


@contextmanager
def training_bar(task: Task, steps: int) -> Iterator[Callable[[Progress], None]]:
    """A live bar with loss and score of the newest batch."""
    numbers = TextColumn("loss {task.fields[loss]:.5f}  {task.fields[score]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), numbers, TimeElapsedColumn())
    with ProgressBar(*columns, console=console) as bar:
        row = bar.add_task(task.label, total=steps, loss=float("nan"), score="")

        def report(now: Progress) -> None:
            score = f"{task.metric.name} {task.metric.text(now.score)}"
            bar.update(row, completed=now.step, loss=now.loss, score=score)

        yield report


def trains(make: Callable[..., Task]) -> None:
    """Add the command that trains on the task which ``make`` makes; its return type states the default settings."""
    kinds = get_type_hints(Settings)
    own, defaults = signature(make, eval_str=True), get_type_hints(make)["return"].settings
    settings = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=typer.Option(getattr(defaults, name), help=text),
            annotation=kinds[name],
        )
        for name, text in SETTINGS.items()
    ]
    shared = list(signature(run, eval_str=True).parameters.values())[2:]

    def command(**given: Any) -> None:
        with mistakes():
            task = make(**{name: given.pop(name) for name in own.parameters})
            chosen = replace(task.settings, **{name: given.pop(name) for name in SETTINGS})
        run(task, chosen, **given)

    parameters = [
        *(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own.parameters.values()),
        *settings,
        *shared,
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(make.__name__, help=make.__doc__)(command)


@trains
def copy(length: Annotated[int, typer.Option(help="Total length of a sequence, at least 21.")] = 1000) -> CopyMemory:
    """Recall ten symbols after LENGTH - 20 blanks. Ctrl-C ends the training and saves; --resume goes on."""
    return CopyMemory(length)


@trains
def adding(length: Annotated[int, typer.Option(help="Numbers in a sequence, at least 2.")] = 750) -> Adding:
    """Add the two marked of LENGTH numbers. Ctrl-C ends the training and saves; --resume goes on."""
    return Adding(length)


@trains
def digits(
    side: Annotated[int, typer.Option(help="Pixels a side: 8 as they come, 28 enlarged; a step each.")] = 8,
    permuted: Annotated[bool, typer.Option("--permuted", help="In one fixed random order of the pixels.")] = False,
) -> Digits:
    """Read a digit pixel by pixel. Ctrl-C ends the training and saves; --resume goes on."""
    return Digits(side, PERMUTATION if permuted else None)
