"""The curves of a metric on one problem, to be drawn into any panel: every seed thin, the median over seeds thick."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from bilevelbench.store.schema import FAILED

from . import style
from .style import Palette

# Curves of one value: matplotlib widens the axis, as it should, and says so on the terminal.
warnings.filterwarnings("ignore", message="Attempting to set identical low and high")

LINEAR = ("accuracy", "f1", "auc")  # shares; everything else is drawn over decades, unless it spans hardly one
NARROW = 20
MOST_POINTS = 6000  # of a figure's thin lines: more can be told apart by nobody, and the page is to open


class Curves(NamedTuple):
    """What is drawn of a metric, the same along every axis. ``floor``: where values at or below zero are drawn, None on
    a linear axis; ``start``: the common start, if there is one; ``remark``: on what is not shown."""

    groups: dict[str, pd.DataFrame]  # looks by solver, the coloured ones first
    metric: str
    floor: float | None
    stride: int
    start: float | None
    remark: str
    palette: Palette
    thin: bool

    @classmethod
    def of(
        cls, looks: pd.DataFrame, runs: pd.DataFrame, metric: str, axes: Iterable[str], palette: Palette,
        thin: bool = True,
    ) -> Curves:  # fmt: skip
        """Of the looks and runs of one problem; ``axes``: the columns that it will be drawn against; ``thin``: whether
        runs are drawn beside their median."""
        columns = list(dict.fromkeys(["run", "solver", "step", *axes, metric]))
        data = looks.loc[looks[metric].notna(), columns]
        data = data.assign(failed=data["run"].isin(runs.loc[runs["status"].isin(FAILED), "run"]))
        data["run"] = pd.factorize(data["run"])[0]
        positive = data[metric][data[metric] > 0]
        below = (data[metric] < 0).sum() > len(positive)
        linear = metric in LINEAR or below or (len(positive) == len(data) and positive.max() < NARROW * positive.min())
        floor, remark = (None, "") if linear else _floor(data[metric])
        stride = -(-len(data) // MOST_POINTS)
        if not thin:
            remark = f"{remark} Medians alone are drawn; the data hold every run.".strip()
        elif stride > 1:
            remark = f"{remark} Of the thin lines every {stride}th look is drawn; the data hold all.".strip()
        named = {str(solver): group for solver, group in data.groupby("solver", sort=True, observed=True)}
        start = data[data["step"] == 0][metric]
        return cls(
            {solver: named[solver] for solver in sorted(named, key=palette.grey)}, metric, floor, stride,
            float(start.iloc[0]) if len(start) and start.nunique() == 1 else None, remark, palette, thin,
        )  # fmt: skip

    def draw(self, ax: Axes, column: str, scale: float = 1.0) -> None:
        """Draw them against a column, lines ``scale`` times as wide; both axes get their scales."""
        _curves(ax, self, column, scale)
        if self.start is not None:
            level = self.start if self.floor is None else max(self.start, self.floor)
            ax.axhline(level, color="#999", lw=0.7, ls=":")
        if not any((group[column] > 0).any() for group in self.groups.values()):
            ax.set_xlim(1, 10)  # no run came past its start: an axis without a scale of its own
        ax.set(xscale="log", yscale="linear" if self.floor is None else "log")
        style.decades(ax.xaxis)
        if self.floor is not None:
            style.decades(ax.yaxis)


def _floor(values: pd.Series) -> tuple[float | None, str]:
    """On a logarithmic axis values at or below zero are drawn at a floor, and the caption says so."""
    positive = values[values > 0]
    if not len(positive):
        return 1e-16, "No value is above zero; all are drawn at 1e-16."
    floor = max(float(positive.min()), 1e-16)
    below = int((values < floor).sum())
    return floor, f"{below} value{'s' if below != 1 else ''} below {floor:.1g} drawn there." if below else ""


def _curves(ax: Axes, what: Curves, column: str, scale: float) -> None:
    """The curves of all solvers: a solver's runs as one line with gaps, and the lines of a panel as two collections.

    A line of its own for each run, or for each solver, takes ten times as long.
    """
    groups, metric, floor, stride, palette = what.groups, what.metric, what.floor, what.stride, what.palette
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
    for curves, width, alpha in ((thin if what.thin else [], 0.6, 0.45), (thick, 1.7, 1.0)):
        ax.add_collection(
            LineCollection(
                [curve for _, curve in curves],
                colors=[palette.colour(solver) for solver, _ in curves],
                linestyles=[palette.line(solver) for solver, _ in curves],
                linewidths=scale * width, alpha=alpha, joinstyle="round", zorder=2,
            )
        )  # fmt: skip
    if crosses:
        solvers, across, up = zip(*crosses, strict=True)
        ax.scatter(
            across, up, c=[palette.colour(solver) for solver in solvers], marker="x", s=36 * scale**2,
            linewidths=1.6 * scale, zorder=3,
        )  # fmt: skip
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
