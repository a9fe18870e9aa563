"""Commands about this machine and the operators on it: info, libpath, check, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from ._console import FAILED, INTERRUPTED, complain, console, mistakes, print_facts

Operator = Annotated[str | None, typer.Argument(help="One operator; all of them when left out.")]


def info() -> None:
    """Print what this machine has, what runs on it, and why something does not."""
    from ..machine import facts

    print_facts(facts())


def libpath() -> None:
    """Print the path of libsylvester.so, for torch.ops.load_library or a C++ program."""
    with mistakes():
        from .. import _library

        typer.echo(_library.path())


def check(operator: Operator = None) -> None:
    """Check operators against their float64 references, at every CPU level of this machine."""
    with mistakes():
        from ..benchmarks import runner

        results = runner.check(operator)
    console.print(runner.check_table(results))
    raise typer.Exit(0 if all(result.passed for result in results) else FAILED)


def bench(
    operator: Operator = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small cases, few samples: a minute.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    out: Annotated[Path, typer.Option(help="Directory for results.jsonl and results.png.")] = Path("runs/bench"),
) -> None:
    """Time operators against their floor, dense products and the eager loop. Refuses one whose checks fail."""
    with mistakes():
        from ..benchmarks import runner
        from ..benchmarks.checks import selected

        selected(operator)
    try:
        # It is drawn when something begins: a spinner would turn while others are timed.
        with Live(console=console, auto_refresh=False, transient=True) as line:

            def begin(text: str) -> None:
                line.update(Text(text, style="dim"), refresh=True)

            runner.bench(operator, quick=quick, threads=threads, out=out, show=console.print, begin=begin)
    except runner.Red as red:
        complain(red)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        complain(f"stopped; what was measured until then, if anything, is in {out}")
        raise typer.Exit(INTERRUPTED) from None
    console.print(f"written to {out}", highlight=False)
