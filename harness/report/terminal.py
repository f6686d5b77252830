"""The leader table and the verdict in a terminal."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import tables
from .page import Report
from .style import Palette

OTHERS = 65  # columns of a terminal that all but the names of solvers take


def show(report: Report, console: Console) -> None:
    """Print the verdict, the leader table and the failed runs."""
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("solver", overflow="fold", max_width=max(20, console.width - OTHERS))
    table.add_column("order")
    for head in ("cost", "leads", "held", "seconds", "peak memory", "failed"):
        table.add_column(head, justify="right")
    for row in tables.leaders(report.leaders, Palette({})):
        table.add_row(
            Text(row["solver"]),
            row["class"].removesuffix(" order"),
            row["cost"],
            row["lead"],
            row["share"],
            row["seconds"],
            row["memory"],
            row["failed"],
        )
    console.print(table)
    console.print(
        "[dim]cost: calls for the same targets over the first solver's, unsolved as ten budgets; leads: share of "
        "resamples in which it is cheapest by a tenth; held: share of targets[/dim]"
    )
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
