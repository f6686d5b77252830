"""The figure of a claim: what was measured as curves or points, what was published as lines or open circles."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from bilevelbench.core.spec import parse
from bilevelbench.stats.findings import Finding, runs_of, spelled, those
from bilevelbench.store.frame import Results

from . import style
from .style import Palette

MOST = 4  # panels in a row
LINEAR = 20  # a figure that spans less is drawn on a linear scale


def draw(finding: Finding, data: Results) -> Figure:
    """The figure of a claim that has runs, a panel for each problem."""
    claim = finding.claim
    palette = Palette({f"{parse(text).name}[{name}]": name for name, text in claim.solvers.items()})
    names = list(claim.problems)
    columns = min(MOST, len(names))
    rows = -(-len(names) // columns)
    figure = style.Drawing(figsize=(2.9 * columns + 1.7, 2.7 * rows + 0.3))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    own = runs_of(spelled(data.runs), claim, finding.scale)
    for ax, name in zip(axes, names, strict=False):
        if claim.axis == "step":
            _curves(ax, finding, data, own, name, palette)
        else:
            _points(ax, finding, name)
        ax.set_title(style.cut(name, 40))
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    axes[0].set_ylabel(style.cut(claim.figure, 40))
    handles = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.tight_layout(rect=(0, 0, 1 - 1.6 / figure.get_figwidth(), 1))
    figure.legend(handles.values(), handles.keys(), loc="center right", frameon=False, fontsize=7.5)
    return figure


def curves(finding: Finding, data: Results) -> pd.DataFrame:
    """What is drawn over steps, as a table: problem, solver, step, median over seeds, least and most."""
    claim, own = finding.claim, runs_of(spelled(data.runs), finding.claim, finding.scale)
    parts = [_median(finding, data, own, problem, solver) for problem in claim.problems for solver in claim.solvers]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _median(finding: Finding, data: Results, own: pd.DataFrame, problem: str, solver: str) -> pd.DataFrame:
    metric = finding.claim.figure
    runs = own[those(own, finding.claim, problem, solver)]
    runs = runs[runs["steps"] == runs["steps"].max()]  # a trajectory's first steps are runs of their own
    looks = data.looks[data.looks["run"].isin(set(runs["run"]))]
    if metric not in looks or not len(looks):
        return pd.DataFrame()
    by = looks.groupby("step")[metric]
    table = by.agg(["median", "min", "max"]).dropna().reset_index()
    table = table[table["step"] > 0]
    return table.assign(problem=problem, solver=solver)[["problem", "solver", "step", "median", "min", "max"]]


def _curves(ax: Axes, finding: Finding, data: Results, own: pd.DataFrame, problem: str, palette: Palette) -> None:
    drawn = []
    for solver, text in finding.claim.solvers.items():
        table = _median(finding, data, own, problem, solver)
        if not len(table):
            continue
        label = f"{parse(text).name}[{solver}]"
        ax.plot(
            table["step"], table["median"], color=palette.colour(label), ls=palette.line(label), lw=1.5, label=solver
        )
        ax.fill_between(table["step"], table["min"], table["max"], color=palette.colour(label), alpha=0.12, lw=0)
        drawn.append(table["median"])
    for one in finding.cells:
        cell = one.cell
        same = cell.problem == problem and cell.figure == finding.claim.figure and cell.at == "end"
        plain = isinstance(cell.published, float) and not (cell.over or cell.minus)
        if same and plain and cell.published:  # zero is nowhere on a scale of decades
            label = f"{parse(finding.claim.solvers[cell.solver]).name}[{cell.solver}]"
            assert isinstance(cell.published, float)
            ax.axhline(cell.published, color=palette.colour(label), lw=0.8, ls=":")
            if cell.spread:
                low, high = cell.published - cell.spread, cell.published + cell.spread
                ax.axhspan(low, high, color=palette.colour(label), alpha=0.15, lw=0)
    ax.set_xscale("log")
    style.decades(ax.xaxis)
    ax.set_xlabel("step")
    _scale(ax, pd.concat(drawn) if drawn else pd.Series(dtype=float))


def _points(ax: Axes, finding: Finding, problem: str) -> None:
    """Measured figures over a knob, filled and with their intervals; published ones open."""
    knob, values = finding.claim.axis, []
    groups: dict[str, list[tuple[float, float, float, float, float]]] = {}
    for one in finding.cells:
        cell = one.cell
        if cell.problem != problem or cell.figure != finding.claim.figure or cell.over or cell.minus:
            continue
        spec = parse(finding.claim.solvers[cell.solver])
        if knob not in spec.arguments:
            continue
        name = cell.solver.replace(f"{knob}={spec.arguments[knob]}", "").strip() or spec.name
        published = cell.published if isinstance(cell.published, float) else math.nan
        mean, low, high = one.found
        groups.setdefault(name, []).append((float(spec.arguments[knob]), mean, low, high, published))
    for place, (name, rows) in enumerate(sorted(groups.items())):
        x, mean, low, high, published = np.array(sorted(rows)).T
        tone, shift = f"C{place}", 1 + 0.03 * (place - len(groups) / 2)
        reach = np.nan_to_num(np.maximum(np.array([mean - low, high - mean]), 0))
        ax.errorbar(x * shift, mean, reach, color=tone, marker="o", ms=4, lw=1.2, capsize=2, label=name)
        ax.plot(x * shift, published, color=tone, marker="o", ms=7, mfc="none", ls="none")
        values += [*mean, *published]
    ax.set_xscale("log")
    ax.set_xlabel(knob)
    ticks = sorted({row[0] for rows in groups.values() for row in rows})
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    _scale(ax, pd.Series(values, dtype=float))


def _scale(ax: Axes, values: pd.Series) -> None:
    """Decades where a figure spans several, and zero beside them where it is met."""
    found = values[np.isfinite(values)]
    positive = found[found > 0]
    if not len(positive) or positive.max() < LINEAR * positive.min():
        return
    if (found <= 0).any():
        small = max(float(positive.min()), float(positive.max()) * 1e-9)
        ax.set_yscale("symlog", linthresh=small)
        style.decades(ax.yaxis)
        ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=small))
        return
    ax.set_yscale("log")
    style.decades(ax.yaxis)
