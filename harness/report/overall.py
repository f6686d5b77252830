"""Figures of all problems at once: cost to target, performance profiles, cost beside memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bilevelbench.stats import profiles
from bilevelbench.stats.compare import Comparison

from . import style
from .figures import legend, panels
from .parts import Atelier, kept
from .style import Palette

BY = {"calls": "oracle calls", "grads": "gradient equivalents", "seconds": "seconds"}
FARTHEST = 1e3  # times the best: what a profile shows
TITLE = {"calls": "calls", "grads": "gradients", "seconds": "seconds", "pareto": "cost and memory"}


def figures(atelier: Atelier, hit: pd.DataFrame, found: Comparison, troubles: list[str]) -> list[dict[str, Any]]:
    """A figure for each axis of cost that can be had, and one of cost beside memory."""
    made = [
        kept(troubles, f"the profiles by {by}", partial(_profiles, atelier, hit, found, by), None)
        for by in found.fields
    ]
    made.append(kept(troubles, "the figure of cost and memory", partial(_pareto, atelier, found), None))
    return [figure for figure in made if figure]


def _profiles(atelier: Atelier, hit: pd.DataFrame, found: Comparison, by: str) -> dict[str, Any] | None:
    table = profiles.weighed(hit, atelier.data.runs, by, found.weights)
    table = table[table["cost"] > 0]
    if not len(table):
        return None
    order = [s for s in found.leaders["solver"] if s in set(hit["solver"])]
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


def draw_profiles(table: pd.DataFrame, solvers: list[str], label: str, palette: Palette) -> Figure:
    """Left, the share of targets held within so much cost; right, within so many times the best solver's."""
    figure, (left, right) = panels([palette.name(solver) for solver in solvers], 2)
    for ax, column, most, words in (
        (left, "cost", np.inf, label), (right, "ratio", FARTHEST, f"{label} ÷ the best solver's"),
    ):  # fmt: skip
        curves = profiles.curve(table, column)
        end = min(max((curve[-1, 0] for curve in curves.values() if len(curve)), default=10.0), most) * 1.3
        begin = min((curve[0, 0] for curve in curves.values() if len(curve)), default=1.0)
        ax.add_collection(
            LineCollection(
                [_stairs(curves.get(solver, np.zeros((0, 2))), begin, end) for solver in solvers],
                colors=[palette.colour(solver) for solver in solvers],
                linestyles=[palette.line(solver) for solver in solvers], linewidths=1.5,
            )
        )  # fmt: skip
        ax.set(xscale="log", xlim=(begin, max(end, begin * 1.5)), ylim=(0, 1.02), xlabel=words)
        style.decades(ax.xaxis)
    left.set_ylabel("share of all targets held")
    legend(figure, solvers, palette, 2)
    return figure


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
