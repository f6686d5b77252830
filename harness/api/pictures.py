"""Figures one by one, as they are to be printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from bilevelbench.core.errors import RequestError
from bilevelbench.report import overall, paper, parts, pictures, style
from bilevelbench.stats import profiles
from bilevelbench.stats.compare import Comparison
from bilevelbench.store.frame import Results

from .arguments import named, unknown, word
from .columns import LOOKS

X = {
    "calls": ("total_calls", "oracle calls"), "passes": ("passes", "passes"),
    "grads": ("grads", "gradient equivalents"), "rows": ("total_rows", "rows of data"),
    "steps": ("step", "outer steps"), "seconds": ("seconds", "seconds"),
}  # fmt: skip
KINDS = ("convergence", "profile", "ecdf", "memory", "sensitivity", "trajectory")


class Wanted(NamedTuple):
    """What ``Results.figure`` is asked for."""

    kind: str
    problem: Any
    solvers: Any
    y: str
    x: str | None
    width: str


def asked(data: Results, hit: pd.DataFrame, compared: Callable[[], Comparison], want: Wanted) -> paper.Printed:
    """The figure that is wanted. ``compared()``: what follows from the targets ``hit``."""
    kind, problem, solvers, y, x, width = want
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    word("x", x, "calls")
    try:
        inches = paper.inches(word("width", width, "icml") or "")
    except ValueError as error:
        raise RequestError(f"width={error}") from None
    if x is not None and x not in X:
        raise unknown("x", x, X)
    data, hit = chosen(data, hit, problem, solvers)
    with paper.theme():
        if kind == "convergence":
            return convergence(data, named_problems(data, problem), y, x, inches)
        if kind in ("profile", "ecdf"):
            return distribution(data, hit, compared(), kind, x or "calls", inches)
        if kind == "memory":
            return memory(data, inches)
        if kind == "sensitivity":
            return sensitivity(data, inches)
        return trajectory(data, problem, inches)


def chosen(data: Results, hit: pd.DataFrame, problem: Any, solvers: Any) -> tuple[Results, pd.DataFrame]:
    """What is left of results and targets where problems and solvers are named."""
    keep = pd.Series(True, data.runs.index)
    if problem is not None:
        keep &= data.runs["problem"].isin(named_problems(data, problem))
    if solvers is not None:
        keep &= data.runs["solver"].isin(
            [name for _, one in named("solvers", solvers) for name in matching(data, "solver", one)]
        )
    runs = data.runs[keep]
    if not len(runs):
        raise RequestError("no run is of these problems and these solvers; ask for others")
    return data._replace(runs=runs, stored=data.stored.only(runs)), hit[hit["run"].isin(set(runs["run"]))]


def named_problems(data: Results, problem: Any) -> list[str]:
    """The problems that are meant, as they stand in ``runs``; the one that there is where none is named."""
    if problem is None:
        known = sorted(data.runs["problem"].unique())
        if len(known) != 1:
            raise unknown("problem", problem, known)
        return known
    return [name for _, one in named("problem", problem) for name in matching(data, "problem", one)]


def matching(data: Results, what: str, asked: Any) -> list[str]:
    """The one name that is asked for, whole or before its bracket."""
    known = sorted(data.runs[what].unique())
    found = [name for name in known if name == asked] or [name for name in known if short(name) == asked]
    if len(found) != 1 and not (found and what == "solver"):  # settings of one solver are shown together
        raise unknown(what, asked, found or known)
    return found


def short(name: str) -> str:
    """A name without what is in brackets or kept apart."""
    return name.partition("(")[0].partition("[")[0].partition(",")[0]


def convergence(data: Results, problems: list[str], metric: str, x: str | None, inches: float) -> paper.Printed:
    """A metric on problems against an axis; on one problem against calls and seconds, where there is room."""
    cases, lines = {}, {}
    for name in problems:
        runs, looks = data.runs[data.runs["problem"] == name], data.stored.of(name)
        known = [c for c in looks.columns if c not in LOOKS and looks[c].notna().any()]
        if metric not in known:
            raise unknown("y", metric, known)
        headers = [(data.records[run].header or {})["problem"] for run in runs["run"]]
        found = parts.median_lines(headers)
        lines[name] = {line: values[metric] for line, values in found.items() if metric in values}
        cases[name] = (looks, runs)
    both = x is None and len(problems) == 1 and inches > 2 * paper.PANEL * paper.POINT
    axes = dict([X["calls"], X["seconds"]] if both else [X[x or "calls"]])
    return paper.convergence(cases, lines, metric, axes, palette(data), inches)


def distribution(
    data: Results, hit: pd.DataFrame, compared: Comparison, kind: str, by: str, inches: float
) -> paper.Printed:  # fmt: skip
    """The performance profile, or the empirical distribution of the cost to target."""
    if not len(hit):
        raise RequestError(f"a {kind} needs targets, and no problem here has any: a known or kept best value, or a bar")
    nobody = RequestError(f"kind={kind!r}: no solver among these held a target here")
    if not compared.fields:
        raise nobody
    if by not in compared.fields:
        raise unknown("x", by, compared.fields)
    table = profiles.weighed(hit, data.runs, by, compared.weights)
    table = table[table["cost"] > 0]
    if not len(table):
        raise nobody
    order = [s for s in compared.leaders["solver"] if s in set(hit["solver"])]
    words = X[by][1]
    column, label = ("cost", words) if kind == "ecdf" else ("ratio", f"{words} ÷ the best solver's")
    look = palette(data)
    figure, (ax,) = paper.canvas(inches, 1, 0.55)
    overall.profile(ax, table, column, label, order, look)
    paper.powers(ax)
    ax.set_ylabel("share of targets held")
    paper.legend(figure, order, look)
    return figure


def memory(data: Results, inches: float) -> paper.Printed:
    """Peak bytes of every solver on every problem."""
    table = data.runs.dropna(subset=["peak_bytes"])
    if not len(table):
        raise RequestError("kind='memory': no run here has measured its memory; those of the engine eager do")
    return paper.memory(table, palette(data), inches)


def sensitivity(data: Results, inches: float) -> paper.Printed:
    """What hangs on the step, from the scores of tuning."""
    table, found = overall.tuned(data)
    if not len(table):
        raise RequestError("kind='sensitivity': the suites of these results came without scores of their tuning")
    look = palette(data)
    figure, (ax,) = paper.canvas(inches, 1, 0.55)
    overall.steps(ax, found, look)
    paper.legend(figure, [str(solver) for solver in found.index], look)
    return figure


def trajectory(data: Results, problem: Any, inches: float) -> paper.Printed:
    """The paths of all solvers on one problem, a panel each."""
    (name, *more) = named_problems(data, problem)
    if more:
        raise RequestError(f"kind='trajectory' is of one problem; problem={problem!r} names {1 + len(more)}")
    picture, paths = parts.tracks(data, data.runs[data.runs["problem"] == name])
    if picture is None:
        raise RequestError(
            f"kind='trajectory': {name} has no picture, or its runs kept no iterates; run it with iterates=True"
        )
    look, order = palette(data), sorted(paths)
    figure, panels = paper.canvas(inches, len(order), 0.95, sharex=True, sharey=True)
    for ax, solver in zip(panels, order, strict=True):
        pictures.path(ax, paths[solver], picture, look.colour(solver))
        ax.set_title(style.cut(look.name(solver), 28), loc="left")
    figure.supxlabel(style.cut(picture["labels"][0], 30), fontsize=8)
    figure.supylabel(style.cut(picture["labels"][1], 30), fontsize=8)
    return figure


def palette(data: Results) -> style.Palette:
    """How the solvers look, as in the report."""
    return style.Palette(dict(zip(data.runs["solver"], data.runs["short"], strict=True)))
