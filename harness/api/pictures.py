"""The figures of the report, one by one."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from bilevelbench.core.errors import RequestError
from bilevelbench.report import figures, parts, pictures, style
from bilevelbench.store.frame import Results


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
