"""The figures of the report, one by one."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from bilevelbench.core.errors import RequestError
from bilevelbench.report import figures, parts, pictures, style
from bilevelbench.store.frame import Results

from .arguments import unknown
from .columns import LOOKS

X = {
    "calls": ("total_calls", "oracle calls"), "seconds": ("seconds", "seconds"), "steps": ("step", "outer steps"),
    "grads": ("grads", "gradient equivalents"),
}  # fmt: skip
FIGURES = ("convergence", "memory", "trajectories")


def asked(data: Results, kind: str, problem: str | None, y: str, x: str | None) -> Figure:
    """The figure that ``Results.figure`` is asked for."""
    if kind not in FIGURES:
        raise unknown("kind", kind, FIGURES)
    if kind == "memory":
        return memory(data)
    name = named(data, problem)
    if kind == "trajectories":
        return trajectories(data, name)
    looks = data.looks[data.looks["problem"] == name]
    known = [c for c in looks.columns if c not in LOOKS and looks[c].notna().any()]
    if y not in known:
        raise unknown("y", y, known)
    if x is not None and x not in X:
        raise unknown("x", x, X)
    return convergence(data, name, y, dict([X[x]]) if x else dict([X["calls"], X["seconds"]]))


def named(data: Results, problem: str | None) -> str:
    """The problem that is meant, as it stands in ``runs``."""
    known = sorted(data.runs["problem"].unique())
    found = [name for name in known if problem in (None, name)] or [
        name for name in known if name.partition("(")[0].partition(",")[0] == problem
    ]
    if len(found) != 1:
        raise unknown("problem", problem, found or known)
    return str(found[0])


def convergence(data: Results, problem: str, metric: str, axes: Mapping[str, str]) -> Figure:
    """A metric on one problem; ``axes`` are columns of the looks and what they are called."""
    runs, looks = data.runs[data.runs["problem"] == problem], data.looks[data.looks["problem"] == problem]
    headers = [(data.records[run].header or {})["problem"] for run in runs["run"]]
    lines = {line: values[metric] for line, values in parts.median_lines(headers).items() if metric in values}
    with style.theme():
        return figures.convergence(looks, runs, metric, lines, palette(data), axes)[0]


def memory(data: Results) -> Figure:
    """Peak bytes of every solver on every problem."""
    table = data.runs.dropna(subset=["peak_bytes"])
    if not len(table):
        raise RequestError("kind='memory': no run here has measured its memory; those of the engine eager do")
    with style.theme():
        return pictures.memory(table, palette(data))


def trajectories(data: Results, problem: str) -> Figure:
    """The paths of all solvers on one problem."""
    runs = data.runs[data.runs["problem"] == problem]
    picture, paths = parts.tracks(data, runs)
    if picture is None:
        raise RequestError(
            f"kind='trajectories': {problem} has no picture, or its runs kept no iterates; run it with iterates=True"
        )
    with style.theme():
        return pictures.trajectories(paths, picture, palette(data))


def palette(data: Results) -> style.Palette:
    """How the solvers look, as in the report."""
    return style.Palette(dict(zip(data.runs["solver"], data.runs["short"], strict=True)))
