"""Trajectories and memory. Each figure takes a table and draws what is in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bilevelbench.store.text import apart

from . import style
from .style import Palette


def trajectories(paths: dict[str, list[np.ndarray]], picture: dict[str, Any], palette: Palette) -> Figure:
    """One panel per solver: the path of two coordinates over level sets; a dot at the start, a square at the end."""
    columns = min(4, len(paths))
    rows = -(-len(paths) // columns)
    figure = style.Drawing(figsize=(2.45 * columns, 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in panels.flat[len(paths) :]:
        ax.axis("off")
    for ax, (solver, curves) in zip(panels.flat, sorted(paths.items()), strict=False):
        path(ax, curves, picture, palette.colour(solver))
        ax.set_title(palette.name(solver), loc="left")
    for ax in panels[-1]:
        ax.set_xlabel(style.cut(picture["labels"][0], 30))
    for ax in panels[:, 0]:
        ax.set_ylabel(style.cut(picture["labels"][1], 30))
    return figure


def path(ax: Axes, curves: list[np.ndarray], picture: dict[str, Any], colour: str) -> None:
    """One panel: level sets, and a solver's paths over them."""
    ax.contour(picture["u"], picture["v"], picture["level"], levels=12, colors="#c9c9c9", linewidths=0.6)
    if picture["outline"]:
        outline = np.array([*picture["outline"], picture["outline"][0]])
        ax.plot(*outline.T, ":", color="#666", lw=0.9)
    for curve in curves:
        ax.plot(*curve.T, color=colour, lw=1.3)
        ax.plot(*curve[0], "o", color="#222", ms=3)
        ax.plot(*curve[-1], "s", color=colour, ms=4.5, mec="white", mew=0.6)
    if picture["solution"]:
        ax.plot(*picture["solution"], "*", color="gold", ms=10, mec="#333", mew=0.6, zorder=5)
    left, right, bottom, top = picture["box"]
    ax.set(xlim=(left, right), ylim=(bottom, top))
    ax.grid(False)


def memory(table: pd.DataFrame, palette: Palette) -> Figure:
    """Peak bytes of every solver, one panel per problem. Columns: problem, solver, peak_bytes."""
    problems = sorted(table["problem"].unique())
    columns = min(3, len(problems))
    rows = -(-len(problems) // columns)
    solvers = sorted(table["solver"].unique(), reverse=True)
    names = [palette.name(solver) for solver in solvers]
    left = 0.15 + 0.075 * max(map(len, names))  # inches; to lay it out by the text's size takes ten times as long
    width, height = max(3.1 * columns, left + 0.1 + 2 * columns), (0.17 * len(solvers) + 0.75) * rows
    figure = style.Drawing(figsize=(width, height))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=left / width, right=1 - 0.1 / width, top=1 - 0.25 / height, bottom=0.45 / height, wspace=0.08,
        hspace=0.5 * rows / height,
    )  # fmt: skip
    titles = apart({problem: problem for problem in problems}, int((width - left) / columns / (8 * style.LETTER)))
    for ax in panels.flat[len(problems) :]:
        ax.axis("off")
    for ax, problem in zip(panels.flat, problems, strict=False):
        rows_of = table[table["problem"] == problem].groupby("solver")["peak_bytes"].max().dropna()
        places, sizes = [solvers.index(solver) for solver in rows_of.index], rows_of.to_numpy(float) / 1024
        colours = [palette.colour(solver) for solver in rows_of.index]
        ax.hlines(places, 0, sizes, colors=colours, lw=1.1)
        ax.scatter(sizes, places, c=colours, s=16, zorder=2)
        ax.set_yticks(range(len(solvers)), names)
        ax.set_title(titles[problem], loc="left", fontsize=8)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
    for ax in panels[-1]:
        ax.set_xlabel("peak live tensors, KiB")
    return figure
