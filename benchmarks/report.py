"""What a benchmark run leaves behind: a table on the screen, JSON lines and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from sylvester.machine import facts

from .checks import CheckResult

OURS, PEAK, COPY = "sylvester", "additions at peak", "copy"
FLOORS = (PEAK, COPY)


@dataclass(frozen=True)
class Row:
    """One number: the time of a contender on a case, or a mark with the limit it must keep."""

    operator: str
    case: str
    contender: str
    value: float
    unit: str = "s"
    dtype: str = "float32"
    threads: int = 1
    level: str = ""
    of_ours: float | None = None
    """Time of this contender over ours, measured in turns with it."""
    limit: float | None = None
    at_most: bool = True

    @property
    def is_mark(self) -> bool:
        return self.limit is not None

    @property
    def met(self) -> bool:
        return self.limit is None or (self.value <= self.limit if self.at_most else self.value >= self.limit)


def check_table(results: Iterable[CheckResult]) -> Table:
    table = Table("operator", "level", "checks", "largest error / allowed", "seconds", "verdict", box=None)
    for result in results:
        verdict = (
            "[green]passed[/]" if result.passed else f"[red]{len(result.failures)} failed: {result.failures[0]}[/]"
        )
        numbers = (str(result.checks), f"{result.worst:.2f}", f"{result.seconds:.1f}")
        table.add_row(result.operator, result.level, *numbers, verdict)
    return table


def readable(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def times_table(rows: Iterable[Row]) -> Table:
    """One line a case: our time, and every contender as a multiple of it."""
    cases: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        if not row.is_mark:
            cases.setdefault((row.case, row.dtype), {})[row.contender] = row
    rivals = list(dict.fromkeys(name for found in cases.values() for name in found if name != OURS))
    table = Table("case", "dtype", OURS, *rivals, box=None, caption="rivals and floors: their time over ours")
    for (case, dtype), found in cases.items():
        ratios = [f"{found[r].of_ours:.2f}" if r in found and found[r].of_ours is not None else "–" for r in rivals]
        table.add_row(case, dtype, readable(found[OURS].value), *ratios)
    return table


def marks_table(rows: Iterable[Row]) -> Table:
    table = Table("operator", "mark", "measured", "limit", "", box=None)
    for row in rows:
        if row.limit is not None:
            sign, verdict = "≤" if row.at_most else "≥", "[green]met[/]" if row.met else "[red]missed[/]"
            unit = f" {row.unit}" if row.unit else ""
            table.add_row(row.operator, row.case, f"{row.value:.3g}{unit}", f"{sign} {row.limit:g}{unit}", verdict)
    return table


def write_atomically(path: Path, data: bytes) -> None:
    """A reader sees the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def write(rows: Sequence[Row], out: Path) -> None:
    """``results.jsonl``, the machine in its first line, and ``results.png``."""
    lines = [json.dumps({"machine": facts()})]
    lines += [json.dumps(asdict(row) | ({"met": row.met} if row.is_mark else {})) for row in rows]
    write_atomically(out / "results.jsonl", ("\n".join(lines) + "\n").encode())
    write_atomically(out / "results.png", picture(rows))


def picture(rows: Sequence[Row]) -> bytes:
    """Every contender's time over ours, a panel an operator, on a logarithmic axis: right of 1 is slower than ours."""
    import io

    from matplotlib.figure import Figure

    times = [row for row in rows if not row.is_mark and row.contender != OURS]
    operators = list(dict.fromkeys(row.operator for row in times))
    names = list(dict.fromkeys(row.contender for row in times))
    cases = {o: list(dict.fromkeys((r.case, r.dtype) for r in times if r.operator == o)) for o in operators}
    lines = [max(len(cases[o]), 1) for o in operators] or [1]
    figure = Figure(figsize=(11, 1.6 + 0.42 * sum(lines)), layout="constrained")
    panels = figure.subplots(len(lines), 1, squeeze=False, sharex=True, height_ratios=lines)[:, 0]
    for panel, operator in zip(panels, operators, strict=False):
        for name in names:
            found = [r for r in times if r.operator == operator and r.contender == name and r.of_ours]
            heights = [cases[operator].index((r.case, r.dtype)) for r in found]
            style = {"marker": "|", "markersize": 16, "markeredgewidth": 3} if name in FLOORS else {"marker": "o"}
            panel.plot([r.of_ours for r in found], heights, linestyle="", color=f"C{names.index(name)}", **style)
        panel.axvline(1.0, color="black", linewidth=1)
        panel.set(title=operator, xscale="log", ylim=(len(cases[operator]) - 0.5, -0.5))
        panel.set_yticks(range(len(cases[operator])), [f"{case}, {dtype}" for case, dtype in cases[operator]])
        panel.grid(axis="x", alpha=0.3)
    figure.legend(panels[0].get_lines()[:-1], names, loc="outside upper center", ncols=3, frameon=False)
    panels[-1].set_xlabel("time over ours, measured in turns (floors: bars, rivals: dots)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
