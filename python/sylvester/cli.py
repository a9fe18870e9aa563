"""The command line. A command parses, calls the package and prints; the work is done elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from .training import Evaluation, Progress, Settings, evaluate, train

app = typer.Typer(
    help="Fused kernels for quantised orthogonal recurrence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
train_app = typer.Typer(help="Train a model on a task and save it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")
console, errors = Console(), Console(stderr=True)

USAGE, INTERRUPTED = 2, 130
"""Exit codes: a user's mistake, and a training that Ctrl-C ended."""

Operator = Annotated[str | None, typer.Argument(help="One operator; all of them when left out.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's choice when left out.")]


@contextmanager
def mistakes() -> Iterator[None]:
    """What a user got wrong becomes a message and exit code 2, without a traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(USAGE) from None


def set_threads(threads: int | None) -> int:
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def print_facts(facts: dict[str, str]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        table.add_row(name, fact)
    console.print(table)


@app.command()
def info() -> None:
    """Print what this machine has, what runs on it, and why something does not."""
    from .machine import facts

    print_facts(facts())


@app.command()
def libpath() -> None:
    """Print the path of libsylvester.so, for torch.ops.load_library or a C++ program."""
    with mistakes():
        from . import _library

        typer.echo(_library.path())


@app.command()
def check(operator: Operator = None) -> None:
    """Check operators against their float64 references, at every CPU level of this machine."""
    with mistakes():
        from .benchmarks import runner

        results = runner.check(operator)
    console.print(runner.check_table(results))
    raise typer.Exit(0 if all(result.passed for result in results) else 1)


@app.command()
def bench(
    operator: Operator = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small cases, few samples: a minute.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    out: Annotated[Path, typer.Option(help="Directory for results.jsonl and results.png.")] = Path("runs/bench"),
) -> None:
    """Time operators against their floor, dense products and the eager loop. Refuses one whose checks fail."""
    with mistakes():
        from .benchmarks import runner
        from .benchmarks.checks import selected

        selected(operator)
    try:
        runner.bench(operator, quick=quick, threads=threads, out=out, show=console.print)
    except runner.Red as red:
        errors.print(f"error: {red}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"written to {out}", highlight=False)


@train_app.callback()
def train_command() -> None:
    """Train a model on a task and save it."""


@train_app.command("copy")
def train_copy(
    length: Annotated[int, typer.Option(help="Total length of a sequence, at least 21.")] = 1000,
    hidden_size: Annotated[int, typer.Option(help="Width of the state.")] = 128,
    block_size: Annotated[int | None, typer.Option(help="Hadamard block; one block when left out.")] = None,
    bits: Annotated[int, typer.Option(help="Of input and read-out weights: 1 (ternary) to 8; 32 is float32.")] = 4,
    learning_rate: Annotated[float, typer.Option(help="Adam's learning rate at the start.")] = Settings.learning_rate,
    sign_learning_rate: Annotated[float, typer.Option(help="The signs' own.")] = Settings.sign_learning_rate,
    steps: Annotated[int, typer.Option(help="Most updates to make; ends before when solved.")] = Settings.steps,
    batch_size: Annotated[int, typer.Option(help="Sequences an update.")] = Settings.batch_size,
    seed: Annotated[int, typer.Option(help="Fixes initial values and sequences.")] = Settings.seed,
    threads: Threads = None,
    out: Annotated[Path | None, typer.Option(help="Directory to write; runs/copy-LENGTH when left out.")] = None,
) -> None:
    """Train a HadamRNN to recall ten symbols after LENGTH - 20 blanks. Ctrl-C ends the training and saves."""
    from .machine import keep_freed_memory

    threads_used = set_threads(threads)
    directory = out or Path(f"runs/copy-{length}")
    with mistakes():
        from .models import HadamConfig, HadamModel
        from .runs import save_run
        from .tasks import CopyMemory

        settings = Settings(steps, batch_size, learning_rate, sign_learning_rate, seed=seed)
        task = CopyMemory(length)
        torch.manual_seed(seed)
        shape = (task.inputs, hidden_size, task.outputs, block_size)
        model = HadamModel(HadamConfig(*shape, bits=None if bits == 32 else bits))
        directory.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with training_bar(f"copy {length}", steps) as report:
        result = train(model, task, settings, report)
    with mistakes():
        summary, final = save_run(directory, model, task, settings, result, threads_used)
    print_facts(
        {
            "outcome": result.outcome,
            **_verdict(task, final),
            "updates": f"{result.steps} in {result.seconds:.1f} s, {1e3 * summary['seconds_per_step']:.1f} ms each",
            "model": f"{summary['parameters']} parameters, {summary['bytes']} bytes when packed",
            "saved to": str(directory),
        }
    )
    raise typer.Exit({"interrupted": INTERRUPTED, "diverged": 1}.get(result.outcome, 0))


@contextmanager
def training_bar(label: str, steps: int) -> Iterator[Callable[[Progress], None]]:
    """A live bar with loss and accuracy of the newest batch."""
    numbers = TextColumn("loss {task.fields[loss]:.5f}  recalled {task.fields[accuracy]:.1%}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), numbers, TimeElapsedColumn())
    with ProgressBar(*columns, console=console) as bar:
        row = bar.add_task(label, total=steps, loss=float("nan"), accuracy=0.0)
        yield lambda now: bar.update(row, completed=now.step, loss=now.loss, accuracy=now.accuracy)


@app.command("eval")
def evaluate_command(
    directory: Annotated[Path, typer.Argument(help="A directory that `sylvester train` wrote.")],
    count: Annotated[int, typer.Option("--sequences", min=1, help="Fresh sequences to draw.")] = 1024,
    seed: Annotated[int, typer.Option(help="Fixes the sequences.")] = 1,
    threads: Threads = None,
) -> None:
    """Evaluate a saved model on fresh sequences."""
    set_threads(threads)
    with mistakes():
        from .runs import load_run

        model, task = load_run(directory)
    final = evaluate(model, task, count, seed=seed)
    print_facts({"model": str(directory), "sequences": str(count), **_verdict(task, final)})


def _verdict(task: Any, final: Evaluation) -> dict[str, str]:
    """How a model did on fresh sequences."""
    return {
        "fresh sequences": "solved" if task.solved(final.loss, final.accuracy) else "not solved",
        "recalled": f"{final.accuracy:.2%} of the symbols",
        "loss": f"{final.loss:.3g}, without memory {task.baseline:.3g}",
    }
