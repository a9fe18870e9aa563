"""One table of several runs, as Markdown and as a picture."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .models import write_file
from .runs import SUMMARY

COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "task": lambda run: run["label"],
    "model": lambda run: run["model"],
    "bits": lambda run: str(run["model_settings"].get("bits") or 32),
    "hidden": lambda run: str(run["model_settings"]["hidden_size"]),
    "parameters": lambda run: str(run["parameters"]),
    "bytes": lambda run: str(run["bytes"]),
    "updates": lambda run: str(run["steps"]),
    "seconds": lambda run: f"{run['seconds']:.1f}",
    "loss": lambda run: f"{run['loss']:.3g}",
    "baseline": lambda run: f"{run['baseline']:.3g}",
    "result": lambda run: f"{run['score_text']} ({run['metric']})",
    "solved": lambda run: "yes" if run["solved"] else "no",
    "seed": lambda run: str(run["settings"]["seed"]),
}
"""Heading -> text of a cell, from a run's summary."""


def table(directories: Sequence[Path]) -> list[list[str]]:
    """A row of cells a run, in the order given; ValueError when a directory holds none that can be read."""
    return [_row(directory) for directory in directories]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(rows: Sequence[Sequence[str]], directory: Path) -> None:
    """Write ``report.md`` and ``report.png``."""
    directory.mkdir(parents=True, exist_ok=True)
    write_file(directory / "report.md", markdown(rows).encode())
    write_file(directory / "report.png", picture(rows))


def picture(rows: Sequence[Sequence[str]]) -> bytes:
    """PNG of the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(16, 0.6 + 0.3 * len(rows)), layout="constrained")
    axes.axis("off")
    drawn = axes.table([list(row) for row in rows], colLabels=list(COLUMNS), loc="center", cellLoc="left")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.auto_set_column_width(list(range(len(COLUMNS))))
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    pyplot.close(figure)
    return png.getvalue()


def _row(directory: Path) -> list[str]:
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a directory")
    try:
        run = json.loads((directory / SUMMARY).read_bytes())
        return [cell(run) for cell in COLUMNS.values()]
    except FileNotFoundError:
        raise ValueError(f"{directory} has no {SUMMARY}: it holds no finished run") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory}: {SUMMARY} is damaged ({error})") from None
    except KeyError as error:
        raise ValueError(f"{directory}: {SUMMARY} has no {error}; another version of sylvester wrote it") from None
