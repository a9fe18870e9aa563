"""Commands about runs that were saved: eval, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import Threads, console, mistakes, print_facts, set_threads

if TYPE_CHECKING:
    from ..training import Evaluation


def evaluate_command(
    directory: Annotated[Path, typer.Argument(help="A directory that `sylvester train` wrote.")],
    count: Annotated[int, typer.Option("--sequences", min=1, help="Fresh sequences, as far as there are.")] = 1024,
    seed: Annotated[int, typer.Option(help="Fixes the sequences.")] = 1,
    threads: Threads = None,
) -> None:
    """Evaluate a saved model on fresh sequences."""
    set_threads(threads)
    with mistakes():
        from ..runs import load_run
        from ..training import evaluate

        model, task = load_run(directory)
    print_facts({"model": str(directory), **verdict(task, evaluate(model, task, count, seed=seed))})


def report_command(
    directories: Annotated[list[Path], typer.Argument(help="Directories that `sylvester train` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Directory for report.md and report.png.")] = None,
) -> None:
    """Print one Markdown table of several runs."""
    with mistakes():
        from ..report import markdown, table, write

        rows = table(directories)
        typer.echo(markdown(rows), nl=False)
        if out is not None:
            write(rows, out)
            console.print(f"written to {out}", highlight=False)


def verdict(task: Any, final: Evaluation) -> dict[str, str]:
    """How a model did on fresh sequences."""
    solved = "solved" if task.solved(final.loss, final.score) else "not solved"
    return {
        "fresh sequences": f"{solved} ({final.count} drawn)",
        task.metric.name: task.metric.text(final.score),
        "loss": f"{final.loss:.3g}, {task.baseline_name} {task.baseline:.3g}",
    }
