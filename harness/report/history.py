"""Pages of figures over commits: one for each solver, and one that lists every change. They ask for nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bilevelbench.core.errors import RequestError
from bilevelbench.stats.changes import Change, changes
from bilevelbench.store import history
from bilevelbench.store.files import make_folder

from . import sheet, style
from .rendered import render
from .tables import number

NONE = "(no solver)"
PAGE = "history.html.jinja"
SERIES = ["solver", "figure", "unit", "problem", "machine"]


def write(paths: list[Path], out: Path) -> Path:
    """Write ``index.html``, a page for each solver and the data, below ``out``; the index. ``RequestError`` where a
    file cannot be read."""
    try:
        table = history.read(paths)
    except ValueError as error:
        raise RequestError(str(error)) from None
    for folder in (out, out / "data"):
        make_folder(folder)
    sheet.write(table, out / "data" / "history.csv")
    every = [change for _, one in table.groupby(SERIES, sort=True) for change in _changes(one)]
    solvers = sorted(table["solver"].unique())
    names = {solver: f"{_slug(solver, k)}.html" for k, solver in enumerate(solvers)}
    for solver in solvers:
        own = table[table["solver"] == solver]
        figures = [_drawn(str(key), one) for key, one in own.groupby("figure", sort=True)]
        mine = [change for change in every if change["solver"] == solver]
        facts = {"title": solver or NONE, "figures": figures, "changes": mine, "solvers": None}
        render(out / names[solver], PAGE, facts)
    listed = [
        {"name": solver or NONE, "page": names[solver], "commits": table[table["solver"] == solver]["commit"].nunique(),
         "changes": sum(change["solver"] == solver for change in every)} for solver in solvers
    ]  # fmt: skip
    render(out / "index.html", PAGE, {"title": "History", "figures": [], "changes": every, "solvers": listed})
    return out / "index.html"


def _slug(solver: str, place: int) -> str:
    return f"{place:03d}-" + (re.sub(r"[^A-Za-z0-9]+", "-", solver).strip("-").lower()[:40] or "none")


def _changes(one: pd.DataFrame) -> list[dict[str, Any]]:
    """The changes of one line, each with the commits that it lies between; several values of a commit are one."""
    points = _points(one)
    first = one.iloc[0]
    found = []
    for change in changes(points["value"].to_numpy()):
        after, before = points.iloc[change.place], points.iloc[change.place - 1]
        found.append(
            {name: first[name] for name in SERIES}
            | {"commit": after["commit"][:10], "since": before["commit"][:10], "day": _day(after["when"])}
            | {"ratio": _words(change), "size": change.ratio}
        )
    return sorted(found, key=lambda row: -abs(np.log(row["size"])))


def _points(one: pd.DataFrame) -> pd.DataFrame:
    made = one.groupby("commit", sort=False).agg({"when": "min", "value": "median", "low": "min", "high": "max"})
    return made.reset_index().sort_values("when", kind="stable")


def _words(change: Change) -> str:
    ends = f" ({change.low:.2f} to {change.high:.2f})" if change.high - change.low > 0.005 else ""
    return f"{change.ratio:.2f}{ends}"


def _day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d")


def _drawn(figure: str, table: pd.DataFrame) -> dict[str, Any]:
    """One figure of a solver: a line over commits for each problem and machine; changes are marked."""
    with style.theme():
        svg, _ = style.drawn(_lines(table), re.sub(r"\W+", "-", figure))
    last = _points(table).iloc[-1]
    unit = str(table["unit"].iloc[0])
    return {
        "title": figure,
        "svg": svg,
        "last": f"{number(last['value'])} {unit}".strip(),
        "commit": last["commit"][:10],
    }


def _lines(table: pd.DataFrame) -> Figure:
    figure = style.Drawing(figsize=(9.2, 2.6), layout="constrained")
    ax = figure.subplots()
    commits = list(_points(table)["commit"])
    place = {commit: k for k, commit in enumerate(commits)}
    for (problem, machine), one in table.groupby(["problem", "machine"], sort=True):
        points = _points(one)
        at = points["commit"].map(place)
        label = ", ".join(part for part in (str(problem), style.cut(str(machine), 30)) if part)
        (line,) = ax.plot(at, points["value"], "o-", ms=3, lw=1.2, label=label)
        ax.vlines(at, points["low"], points["high"], color=line.get_color(), lw=0.8, alpha=0.6)
        for change in changes(points["value"].to_numpy()):
            up = change.ratio > 1
            ax.axvline(at.iloc[change.place] - 0.5, color="#c00" if up else "#090", lw=0.8, ls=":")
    ticks = range(0, len(commits), max(1, len(commits) // 12))
    ax.set_xticks(list(ticks), [commits[k][:7] for k in ticks], rotation=30, ha="right")
    ax.set_ylabel(str(table["unit"].iloc[0]))
    if (table["value"] > 0).all() and table["value"].max() > 20 * table["value"].min():
        ax.set_yscale("log")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure
