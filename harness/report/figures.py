"""Convergence: what a metric does against calls and against seconds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from . import style
from .curves import Curves
from .style import Palette

AXES = {"total_calls": "oracle calls", "seconds": "seconds"}
CLOSE = 0.035  # of a panel's height: two rows of names need that much
NAMES = 15  # letters of a name for which a figure has room as it is


def convergence(
    looks: pd.DataFrame, runs: pd.DataFrame, metric: str, lines: dict[str, float], palette: Palette,
    axes: Mapping[str, str] = AXES, thin: bool = True,
) -> tuple[Figure, str]:  # fmt: skip
    """A metric against calls and against seconds, side by side; the figure and a remark on what it does not show.

    Every seed thin, the median over seeds thick, a cross where a run was cut or failed. ``lines``: reference values.
    ``axes``: the columns of a panel each, and what they are called; ``thin``: whether every seed is drawn.
    """
    curves = Curves.of(looks, runs, metric, axes, palette, thin)
    linear = curves.floor is None
    figure, side = panels([palette.name(solver) for solver in curves.groups], len(axes))
    drawn = {name: value for name, value in lines.items() if linear or value > 0}
    for ax, (column, label) in zip(side, axes.items(), strict=True):
        curves.draw(ax, column)
        for value in drawn.values():
            ax.axhline(value, color="#333", lw=0.7, ls="--")
        ax.set_xlabel(label)
        # where there is room; to be placed beside the numbers they are measured
        ax.xaxis.set_label_coords(0.5, -0.35 / figure.get_figheight())
    names(side[-1], drawn)
    side[0].set_ylabel(style.cut(metric, 40))
    side[0].yaxis.set_label_coords(0.2 / figure.get_figwidth(), 0.55, transform=figure.transFigure)
    legend(figure, list(curves.groups), palette, len(axes))
    return figure, curves.remark


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


def names(ax: Axes, lines: dict[str, float], letter: float = 6.5) -> None:
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
            xycoords="axes fraction", fontsize=letter, color="#333", ha="right", va="bottom", zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6},  # readable on curves, too
        )  # fmt: skip


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
