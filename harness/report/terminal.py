"""The leader table and the verdict in a terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import tables
from .page import Report
from .style import Palette

OTHERS = 62  # columns of a terminal that all but the names of solvers take


def show(report: Report, console: Console) -> None:
    """Print the verdict, the leader table and the failed runs."""
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("solver", overflow="fold", max_width=max(20, console.width - OTHERS))
    table.add_column("class")
    for head in ("targets", "calls", "seconds", "peak memory", "failed"):
        table.add_column(head, justify="right")
    for row in tables.leaders(report.leaders, Palette({})):
        table.add_row(
            Text(row["solver"]),
            row["class"],
            row["share"],
            row["calls"],
            row["seconds"],
            row["memory"],
            row["failed"],
        )
    console.print(table)
    console.print("[dim]calls, seconds: median cost to a target over the cheapest solver's; ∞ = never reached[/dim]")
    if len(report.failures):
        console.print()
        for run in report.failures.astype({"attempts": float}).to_dict("records"):
            whose = f" ({run['fault']})" if run["fault"] else ""
            again = f", {run['attempts']:.0f} attempts" if run["attempts"] > 1 else ""
            step = f", step {run['steps']:.0f}" if pd.notna(run["steps"]) else ""
            console.print(
                f"{run['status']}{whose}{again}: {run['problem']} {run['solver']} seed {run['seed']}{step}: "
                f"{run['reason']}"[:300],
                style="red", markup=False, highlight=False,
            )  # fmt: skip
    console.print()
    console.print(report.verdict, markup=False, highlight=False)
