"""Convergence: what a metric does against calls and against seconds."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bilevelbench.store.schema import FAILED

from . import style
from .style import Palette

# Curves of one value: matplotlib widens the axis, as it should, and says so on the terminal.
warnings.filterwarnings("ignore", message="Attempting to set identical low and high")

AXES = {"total_calls": "oracle calls", "seconds": "seconds"}
LINEAR = ("accuracy", "f1", "auc")  # shares; everything else is drawn over decades, unless it spans hardly one
NARROW = 20
CLOSE = 0.035  # of a panel's height: two rows of names need that much
MOST_POINTS = 6000  # of a figure's thin lines: more can be told apart by nobody, and the page is to open
NAMES = 15  # letters of a name for which a figure has room as it is


def convergence(
    looks: pd.DataFrame, runs: pd.DataFrame, metric: str, lines: dict[str, float], palette: Palette,
    axes: Mapping[str, str] = AXES,
) -> tuple[Figure, str]:  # fmt: skip
    """A metric against calls and against seconds, side by side; the figure and a remark on what it does not show.

    Every seed thin, the median over seeds thick, a cross where a run was cut or failed. ``lines``: reference values.
    ``axes``: the columns of a panel each, and what they are called.
    """
    columns = list(dict.fromkeys(["run", "solver", "step", *axes, metric]))
    data = looks.loc[looks[metric].notna(), columns]
    data = data.assign(failed=data["run"].isin(runs.loc[runs["status"].isin(FAILED), "run"]))
    data["run"] = pd.factorize(data["run"])[0]
    positive = data[metric][data[metric] > 0]
    linear = metric in LINEAR or (len(positive) == len(data) and positive.max() < NARROW * positive.min())
    floor, remark = (None, "") if linear else _floor(data[metric])
    stride = -(-len(data) // MOST_POINTS)
    if stride > 1:
        remark = f"{remark} Of the thin lines every {stride}th look is drawn; the data hold all.".strip()
    named = {str(solver): group for solver, group in data.groupby("solver", sort=True, observed=True)}
    groups = {solver: named[solver] for solver in sorted(named, key=palette.grey)}  # the coloured ones first
    figure, side = panels([palette.name(solver) for solver in groups], len(axes))
    for ax, (column, label) in zip(side, axes.items(), strict=True):
        _curves(ax, groups, column, metric, floor, stride, palette)
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
        ax.xaxis.set_label_coords(
            0.5, -0.35 / figure.get_figheight()
        )  # where there is room; to be placed beside the numbers they are measured
        style.decades(ax.xaxis)
        if not linear:
            style.decades(ax.yaxis)
    _names(side[-1], drawn)
    side[0].set_ylabel(style.cut(metric, 40))
    side[0].yaxis.set_label_coords(0.2 / figure.get_figwidth(), 0.55, transform=figure.transFigure)
    legend(figure, list(groups), palette, len(axes))
    return figure, remark


def panels(names: list[str], count: int) -> tuple[Figure, Any]:
    """Panels with room for names at the right; all places are inches, to lay them out takes ten times as long."""
    height, edge = max(3.5, 0.118 * len(names)), _edge(count)
    letters = max(map(len, names), default=0) - NAMES
    width = edge + 1.43 + max(0.0, letters * style.LETTER * _letter(len(names), height))
    figure = style.Drawing(figsize=(width, height))
    made = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    figure.subplots_adjust(
        left=0.69 / width, right=edge / width, top=1 - 0.105 / height, bottom=0.455 / height, wspace=0.06
    )
    return figure, made


def _edge(count: int) -> float:
    """Inches from the left to where the panels end."""
    return 0.69 + 3.54 * count


def _pitch(names: int, height: float) -> float:
    return min(0.16, 0.98 * height / max(names, 1))


def _letter(names: int, height: float) -> float:
    """Points of a letter in the legend."""
    return min(8.5, 62 * _pitch(names, height))


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
            style.cut(", ".join(style.cut(name, 40) for _, name in row), 80), (1, row[0][0]),
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
    ax: Axes, groups: dict[str, pd.DataFrame], column: str, metric: str, floor: float | None, stride: int,
    palette: Palette,
) -> None:  # fmt: skip
    """The curves of all solvers: a solver's runs as one line with gaps, and the lines of a panel as two collections.

    A line of its own for each run, or for each solver, takes ten times as long.
    """
    thin: list[tuple[str, np.ndarray]] = []
    thick: list[tuple[str, np.ndarray]] = []
    crosses: list[tuple[str, float, float]] = []
    for solver, group in reversed(groups.items()):  # grey is drawn below
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
                colors=[palette.colour(solver) for solver, _ in curves],
                linestyles=[palette.line(solver) for solver, _ in curves],
                linewidths=width, alpha=alpha, joinstyle="round", zorder=2,
            )
        )  # fmt: skip
    if crosses:
        solvers, across, up = zip(*crosses, strict=True)
        ax.scatter(
            across, up, c=[palette.colour(solver) for solver in solvers], marker="x", s=36, linewidths=1.6, zorder=3
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


def legend(figure: Figure, solvers: list[str], palette: Palette, count: int) -> None:
    """Names with their lines at the right, as small as they must be to fit: a tenth of the time of matplotlib's own."""
    (width, height), edge = figure.get_size_inches(), _edge(count)
    pitch = _pitch(len(solvers), height)
    places = 0.55 + (np.arange(len(solvers))[::-1] - (len(solvers) - 1) / 2) * pitch / height
    places += min(0.0, 0.99 - places.max(initial=0) - pitch / height / 2)
    figure.add_artist(
        LineCollection(
            [[((edge + 0.1) / width, place), ((edge + 0.33) / width, place)] for place in places],
            colors=[palette.colour(solver) for solver in solvers],
            linestyles=[palette.line(solver) for solver in solvers],
            linewidths=1.7, transform=figure.transFigure,
        )
    )  # fmt: skip
    letter = _letter(len(solvers), height)
    for solver, place in zip(solvers, places, strict=True):
        figure.text((edge + 0.38) / width, place, palette.name(solver), fontsize=letter, va="center_baseline")
