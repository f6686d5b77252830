"""Figures of all problems at once: cost to target, performance profiles, cost beside memory."""

from __future__ import annotations

import json
import re
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bilevelbench.stats import profiles, sensitivity
from bilevelbench.stats.compare import Comparison
from bilevelbench.store.frame import Results

from . import style
from .figures import legend, panels
from .parts import Atelier, kept
from .style import Palette
from .words import both

BY = {"calls": "oracle calls", "grads": "gradient equivalents", "seconds": "seconds"}
FARTHEST = 1e3  # times the best: what a profile shows
TITLE = {"calls": "calls", "grads": "gradients", "seconds": "seconds", "pareto": "cost and memory", "steps": "steps"}


def figures(atelier: Atelier, hit: pd.DataFrame, found: Comparison, troubles: list[str]) -> list[dict[str, Any]]:
    """A figure for each axis of cost that can be had, and one of cost beside memory."""
    made = [
        kept(troubles, f"the profiles by {by}", partial(_profiles, atelier, hit, found, by), None)
        for by in found.fields
    ]
    made.append(kept(troubles, "the figure of cost and memory", partial(_pareto, atelier, found), None))
    made.append(kept(troubles, "the figure of steps", partial(_steps, atelier), None))
    return [figure for figure in made if figure]


def _profiles(atelier: Atelier, hit: pd.DataFrame, found: Comparison, by: str) -> dict[str, Any] | None:
    table = profiles.weighed(hit, atelier.data.runs, by, found.weights)
    table = table[table["cost"] > 0]
    if not len(table):
        return None
    took = set(hit["solver"].unique())
    order = [s for s in found.leaders["solver"] if s in took]
    atelier.write(table, f"profiles-{by}")
    drawn = atelier.figure(f"profiles-{by}", lambda: (draw_profiles(table, order, BY[by], atelier.palette), ""))
    return drawn | {"title": TITLE[by], "data": f"profiles-{by}"}


def _pareto(atelier: Atelier, found: Comparison) -> dict[str, Any] | None:
    table = profiles.pareto(found.leaders)
    if len(table) < 2:
        return None
    atelier.write(table, "pareto")
    return atelier.figure("pareto", lambda: (draw_pareto(table, atelier.palette), "")) | {
        "title": TITLE["pareto"], "data": "pareto",
    }  # fmt: skip


def tuned(data: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What hangs on the steps of the suites that were run, where the scores of their tuning came with the package: a
    row for each step that was tried, and the share of targets held by solver and step. Empty where there are none."""
    runs = data.runs
    suites = {(record.header or {}).get("suite", "") for record in data.records.values()}
    lines = [line for suite in sorted(suites) for line in _scores(suite)]
    known, families = set(runs["asked_problem"]), dict(zip(runs["asked_problem"], runs["family"], strict=True))
    table = sensitivity.table(line for line in lines if line["problem"] in known)
    table = table[table["solver"].isin(runs["name"])]
    return table, sensitivity.curves(table, families) if len(table) else table


def _steps(atelier: Atelier) -> dict[str, Any] | None:
    table, found = tuned(atelier.data)
    if not len(table):
        return None
    atelier.write(table, "steps")
    remark = _ranked(sensitivity.ranks(found))
    return atelier.figure("steps", lambda: (draw_steps(found, atelier.palette), remark)) | {
        "title": TITLE["steps"], "data": "steps",
    }  # fmt: skip


def _scores(suite: str) -> list[dict[str, Any]]:
    """Lines of ``suites/scores`` for a shipped suite; none for any other."""
    if not re.fullmatch(r"[a-z-]+", suite):
        return []
    path = files("bilevelbench.suites") / "scores" / f"{suite}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _ranked(ranks: pd.DataFrame) -> str:
    first = {factor: both(sorted(ranks.index[ranks[factor] == 1])) for factor in (0.5, 1.0, 2.0)}
    return (
        f"Most targets: {first[0.5]} with half the step, {first[1.0]} with the chosen one, {first[2.0]} with twice it."
    )


def draw_steps(found: pd.DataFrame, palette: Palette) -> Figure:
    """Share of targets held against the step, as a multiple of the chosen one."""
    solvers = [str(solver) for solver in found.index]
    figure, (ax,) = panels([palette.name(solver) for solver in solvers], 1)
    steps(ax, found, palette)
    legend(figure, solvers, palette, 1)
    return figure


def steps(ax: Axes, found: pd.DataFrame, palette: Palette) -> None:
    """The panel of it."""
    for solver in map(str, found.index):
        own = found.loc[solver].dropna()
        ax.plot(own.index, own, color=palette.colour(solver), ls=palette.line(solver), marker="o", ms=2.5, lw=1.5)
    ax.set_xscale("log", base=2)
    ax.set_xticks(found.columns, [f"{factor:g}" for factor in found.columns])
    ax.minorticks_off()
    ax.set(ylim=(0, 1.02), xlabel="step ÷ the chosen one")
    ax.set_ylabel("share of targets held in tuning")


def draw_profiles(table: pd.DataFrame, solvers: list[str], label: str, palette: Palette) -> Figure:
    """Left, the share of targets held within so much cost; right, within so many times the best solver's."""
    solvers = sorted(solvers, key=palette.grey)  # the coloured ones first
    figure, (left, right) = panels([palette.name(solver) for solver in solvers], 2)
    profile(left, table, "cost", label, solvers, palette)
    profile(right, table, "ratio", f"{label} ÷ the best solver's", solvers, palette)
    left.set_ylabel("share of all targets held")
    legend(figure, solvers, palette, 2)
    return figure


def profile(ax: Axes, table: pd.DataFrame, column: str, words: str, solvers: list[str], palette: Palette) -> None:
    """A panel of distributions: of ``cost``, or of ``ratio``, which is shown as far as it tells anything."""
    curves = profiles.curve(table, column)
    most = FARTHEST if column == "ratio" else np.inf
    end = min(max((curve[-1, 0] for curve in curves.values() if len(curve)), default=10.0), most) * 1.3
    begin = min((curve[0, 0] for curve in curves.values() if len(curve)), default=1.0)
    ax.add_collection(
        LineCollection(
            [_stairs(curves.get(solver, np.zeros((0, 2))), begin, end) for solver in reversed(solvers)],
            colors=[palette.colour(solver) for solver in reversed(solvers)],
            linestyles=[palette.line(solver) for solver in reversed(solvers)], linewidths=1.5,
        )
    )  # fmt: skip
    ax.set(xscale="log", xlim=(begin, max(end, begin * 1.5)), ylim=(0, 1.02), xlabel=words)
    style.decades(ax.xaxis)


def _stairs(curve: np.ndarray, begin: float, end: float) -> np.ndarray:
    inside = curve[curve[:, 0] <= end]
    x = np.r_[begin, np.repeat(inside[:, 0], 2), end]
    heights = np.r_[0.0, inside[:, 1]]
    return np.column_stack([x, np.repeat(heights, 2)])


def draw_pareto(table: pd.DataFrame, palette: Palette) -> Figure:
    """Calls against memory; what no other solver beats in both is named in bold."""
    figure = style.Drawing(figsize=(6.2, 3.8))
    ax = figure.subplots()
    figure.subplots_adjust(left=0.11, right=0.98, top=0.97, bottom=0.14)
    for row in table.to_dict("records"):
        ax.scatter(row["cost"], row["vectors"], s=26, c=palette.colour(row["solver"]), zorder=3)
        ax.annotate(
            palette.name(row["solver"]), (row["cost"], row["vectors"]), xytext=(4, 3), textcoords="offset points",
            fontsize=7.5, fontweight="bold" if row["best"] else "normal", color="#222" if row["best"] else "#666",
        )  # fmt: skip
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="calls for the same targets ÷ the first solver's",
        ylabel="peak memory, vectors of y",
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlim(right=ax.get_xlim()[1] * 1.6)
    return figure
