"""The figures: convergence, trajectories, memory. Each takes a table and draws what is in it."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from . import style

# Curves of one value: matplotlib widens the axis, as it should, and says so on the terminal.
warnings.filterwarnings("ignore", message="Attempting to set identical low and high")

AXES = {"total_calls": "oracle calls", "seconds": "seconds"}
LINEAR = ("accuracy", "f1", "auc")  # shares; everything else is drawn over decades, unless it spans hardly one
NARROW = 20
CLOSE = 0.035  # of a panel's height: two rows of names need that much
MOST_POINTS = 6000  # of a figure's thin lines: more can be told apart by nobody, and the page is to open
FAILED = ("diverged", "error", "timeout", "oom", "cut off")


def convergence(looks: pd.DataFrame, runs: pd.DataFrame, metric: str, lines: dict[str, float]) -> tuple[Figure, str]:
    """A metric against calls and against seconds, side by side; the figure and a remark on what it does not show.

    Every seed thin, the median over seeds thick, a cross where a run was cut or failed. ``lines``: reference values.
    """
    data = looks.loc[looks[metric].notna(), ["run", "solver", "step", *AXES, metric]]
    data = data.assign(failed=data["run"].isin(runs.loc[runs["status"].isin(FAILED), "run"]))
    data["run"] = pd.factorize(data["run"])[0]
    positive = data[metric][data[metric] > 0]
    linear = metric in LINEAR or (len(positive) == len(data) and positive.max() < NARROW * positive.min())
    floor, remark = (None, "") if linear else _floor(data[metric])
    stride = -(-len(data) // MOST_POINTS)
    if stride > 1:
        remark = f"{remark} Of the thin lines every {stride}th look is drawn; the data hold all.".strip()
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.5), sharey=True)
    figure.subplots_adjust(left=0.075, right=0.845, top=0.97, bottom=0.13, wspace=0.06)  # ten times as fast as a layout
    groups = {str(solver): group for solver, group in data.groupby("solver", sort=True, observed=True)}
    for ax, (column, label) in zip(panels, AXES.items(), strict=True):
        _curves(ax, groups, column, metric, floor, stride)
        start = data[data["step"] == 0][metric]
        if len(start) and start.nunique() == 1:
            level = float(start.iloc[0]) if floor is None else max(float(start.iloc[0]), floor)
            ax.axhline(level, color="#999", lw=0.7, ls=":")
        drawn = {name: value for name, value in lines.items() if linear or value > 0}
        for value in drawn.values():
            ax.axhline(value, color="#333", lw=0.7, ls="--")
        if not (data[column] > 0).any():  # no run came past its start: an axis without a scale of its own
            ax.set_xlim(1, 10)
        ax.set(xscale="log", xlabel=label, yscale="linear" if linear else "log")
        ax.xaxis.set_label_coords(0.5, -0.1)  # where there is room; to be placed beside the numbers they are measured
        style.decades(ax.xaxis)
        if not linear:
            style.decades(ax.yaxis)
    _names(panels[1], drawn)
    panels[0].set_ylabel(metric)
    panels[0].yaxis.set_label_coords(0.022, 0.55, transform=figure.transFigure)
    _legend(figure, list(groups))
    return figure, remark


def _names(ax: Axes, lines: dict[str, float]) -> None:
    """The names of reference lines above them, in one row where lines are too close for two."""
    if not lines:
        return
    height = ax.transAxes.inverted().transform(ax.transData.transform([(1.0, value) for value in lines.values()]))[:, 1]
    places = sorted(zip(height, lines, strict=True), reverse=True)
    rows = [[places[0]]]
    for above, here in itertools.pairwise(places):
        if above[0] - here[0] > CLOSE:
            rows.append([])
        rows[-1].append(here)
    for row in rows:
        ax.annotate(
            ", ".join(name for _, name in row), (1, row[0][0]),
            xycoords="axes fraction", fontsize=6.5, color="#333", ha="right", va="bottom", zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},  # readable on curves, too
        )  # fmt: skip


def _floor(values: pd.Series) -> tuple[float | None, str]:
    """On a logarithmic axis values at or below zero are drawn at a floor, and the caption says so."""
    positive = values[values > 0]
    if not len(positive):
        return 1e-16, "No value is above zero; all are drawn at 1e-16."
    floor = max(float(positive.min()), 1e-16)
    below = int((values < floor).sum())
    return floor, f"{below} value{'s' if below != 1 else ''} below {floor:.1g} drawn there." if below else ""


def _curves(
    ax: Axes, groups: dict[str, pd.DataFrame], column: str, metric: str, floor: float | None, stride: int
) -> None:
    """The curves of all solvers: a solver's runs as one line with gaps, and the lines of a panel as two collections.

    A line of its own for each run, or for each solver, takes ten times as long.
    """
    thin: list[tuple[str, np.ndarray]] = []
    thick: list[tuple[str, np.ndarray]] = []
    crosses: list[tuple[str, float, float]] = []
    for solver, group in groups.items():
        names, steps, failed, x, y = (group[name].to_numpy() for name in ("run", "step", "failed", column, metric))
        y = y.astype(float) if floor is None else np.maximum(y.astype(float), floor)
        runs = int(np.count_nonzero(names[1:] != names[:-1])) + 1  # they come sorted
        some = x > 0
        names, steps, failed, x, y = names[some], steps[some], failed[some], x[some].astype(float), y[some]
        several = runs > 1
        if len(x):
            first = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
            last = np.append(first[1:], len(x)) - 1
            kept = (np.arange(len(x)) - np.repeat(first, last - first + 1)) % stride == 0
            kept[last] = True
            gaps = np.cumsum(kept)[last]
            line = np.column_stack([np.insert(values[kept], gaps, np.nan) for values in (x, y)])
            (thin if several else thick).append((solver, line))
            crosses += [(solver, x[end], y[end]) for end in last if failed[end]]
        if several:
            thick.append((solver, _middle(runs, steps, x, y)))
    for curves, width, alpha in ((thin, 0.6, 0.45), (thick, 1.7, 1.0)):
        ax.add_collection(
            LineCollection(
                [curve for _, curve in curves],
                colors=[style.colour(solver) for solver, _ in curves],
                linestyles=[style.line(solver) for solver, _ in curves],
                linewidths=width, alpha=alpha, joinstyle="round", zorder=2,
            )
        )  # fmt: skip
    if crosses:
        solvers, across, up = zip(*crosses, strict=True)
        ax.scatter(
            across, up, c=[style.colour(solver) for solver in solvers], marker="x", s=36, linewidths=1.6, zorder=3
        )
    ax.autoscale()  # collections do not ask for it in every matplotlib


def _middle(runs: int, steps: np.ndarray, *values: np.ndarray) -> np.ndarray:
    """The medians over the runs at the steps that all runs have, a column for each of the values."""
    each = steps[: len(steps) // runs]
    if len(steps) != runs * len(each) or (steps.reshape(runs, -1) != each).any():  # they have not all the same
        found, count = np.unique(steps, return_counts=True)
        common = np.isin(steps, found[count == runs])
        order = np.argsort(steps[common], kind="stable")
        values = tuple(part[common][order].reshape(-1, runs).T.ravel() for part in values)
    return np.column_stack([np.median(part.reshape(runs, -1), axis=0) for part in values])


def _legend(figure: Figure, solvers: list[str]) -> None:
    """Names with their lines at the right, as small as they must be to fit: a tenth of the time of matplotlib's own."""
    height = figure.get_figheight()
    pitch = min(0.16, 0.98 * height / max(len(solvers), 1))
    places = 0.55 + (np.arange(len(solvers))[::-1] - (len(solvers) - 1) / 2) * pitch / height
    places += min(0.0, 0.99 - places.max(initial=0) - pitch / height / 2)
    figure.add_artist(
        LineCollection(
            [[(0.855, place), (0.88, place)] for place in places],
            colors=[style.colour(solver) for solver in solvers],
            linestyles=[style.line(solver) for solver in solvers],
            linewidths=1.7, transform=figure.transFigure,
        )
    )  # fmt: skip
    for solver, place in zip(solvers, places, strict=True):
        figure.text(0.886, place, solver, fontsize=min(8.5, 62 * pitch), va="center_baseline")


def trajectories(paths: dict[str, list[np.ndarray]], picture: dict[str, Any]) -> Figure:
    """One panel per solver: the path of two coordinates over level sets; a dot at the start, a square at the end."""
    columns = min(4, len(paths))
    rows = -(-len(paths) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(2.45 * columns, 2.3 * rows),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    left, right, bottom, top = picture["box"]
    for ax in panels.flat[len(paths) :]:
        ax.axis("off")
    for ax, (solver, curves) in zip(panels.flat, sorted(paths.items()), strict=False):
        ax.contour(picture["u"], picture["v"], picture["level"], levels=12, colors="#c9c9c9", linewidths=0.6)
        if picture["outline"]:
            outline = np.array([*picture["outline"], picture["outline"][0]])
            ax.plot(*outline.T, ":", color="#666", lw=0.9)
        for curve in curves:
            ax.plot(*curve.T, color=style.colour(solver), lw=1.3)
            ax.plot(*curve[0], "o", color="#222", ms=3)
            ax.plot(*curve[-1], "s", color=style.colour(solver), ms=4.5, mec="white", mew=0.6)
        if picture["solution"]:
            ax.plot(*picture["solution"], "*", color="gold", ms=10, mec="#333", mew=0.6, zorder=5)
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.set_title(solver, loc="left")
        ax.grid(False)
    for ax in panels[-1]:
        ax.set_xlabel(picture["labels"][0])
    for ax in panels[:, 0]:
        ax.set_ylabel(picture["labels"][1])
    return figure


def memory(table: pd.DataFrame) -> Figure:
    """Peak bytes of every solver, one panel per problem. Columns: problem, solver, peak_bytes."""
    problems = sorted(table["problem"].unique())
    columns = min(3, len(problems))
    rows = -(-len(problems) // columns)
    solvers = sorted(table["solver"].unique(), reverse=True)
    width, height = 3.1 * columns, (0.17 * len(solvers) + 0.75) * rows
    figure, panels = plt.subplots(rows, columns, figsize=(width, height), sharey=True, squeeze=False)
    names = 0.15 + 0.075 * max(map(len, solvers))  # inches; to lay it out by the text's size takes ten times as long
    figure.subplots_adjust(
        left=names / width, right=1 - 0.1 / width, top=1 - 0.25 / height, bottom=0.45 / height, wspace=0.08,
        hspace=0.5 * rows / height,
    )  # fmt: skip
    for ax in panels.flat[len(problems) :]:
        ax.axis("off")
    for ax, problem in zip(panels.flat, problems, strict=False):
        rows_of = table[table["problem"] == problem].groupby("solver")["peak_bytes"].max().dropna()
        places, sizes = [solvers.index(solver) for solver in rows_of.index], rows_of.to_numpy(float) / 1024
        colours = [style.colour(solver) for solver in rows_of.index]
        ax.hlines(places, 0, sizes, colors=colours, lw=1.1)
        ax.scatter(sizes, places, c=colours, s=16, zorder=2)
        ax.set_yticks(range(len(solvers)), solvers)
        ax.set_title(problem, loc="left", fontsize=8)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
    for ax in panels[-1]:
        ax.set_xlabel("peak live tensors, KiB")
    return figure
