"""The command line. A command parses, calls the package and prints; the work is done elsewhere."""

from __future__ import annotations

import typer

from . import _machine, _runs, _train
from ._console import console as console
from ._console import errors as errors

app = typer.Typer(
    help="Fused kernels for quantised orthogonal recurrence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
for command in (_machine.info, _machine.libpath, _machine.check, _machine.bench):
    app.command()(command)
app.add_typer(_train.app, name="train")
app.command("eval")(_runs.evaluate_command)
app.command("report")(_runs.report_command)
