"""The parts of a page that are drawn: a section for each problem, trajectories, memory."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bilevelbench.data.facts import behind
from bilevelbench.store.files import written
from bilevelbench.store.frame import Results
from bilevelbench.store.looks import LOOK
from bilevelbench.store.summary import BYTES
from bilevelbench.store.text import clean

from . import figures, sheet, style, tables
from . import pictures as pictured

METRICS = ("phi_gap", "phi", "grad_phi", "gap", "stationarity", "f")  # then the problem's own
ERRORS = ("lower_residual", "lower_error", "phi_error", "grad_phi_error")  # in the data beside the figure, not drawn
UNSAID = {
    "about": "", "n_x": 0, "n_y": 0, "n_f": 1, "n_g": 1, "flags": [], "phi_star": None, "phi_star_source": "",
    "selection": "", "judged": "", "seeded": True, "guards": {}, "better": {}, "bar": {},
}  # fmt: skip
MOST_METRICS = 10  # of a problem that are shown; the page has as many tabs
MOST_RUNS = 2000  # of which all figures are drawn, and whose rows are in the page
MOST_LOOKS = 2_000_000  # that a page can show run by run
MOST_SLUG = 60  # characters
TAKEN = {  # files and anchors
    "leaders", "targets", "duels", "overall", "which", "steps", "pareto", "profiles-calls", "profiles-grads",
    "profiles-seconds", "memory", "convergence", "trajectories", "failures", "provenance",
}  # fmt: skip


def sentence(error: Exception) -> str:
    """What went wrong, on one line."""
    return clean(f"{type(error).__name__}: {error}".rstrip(": "), 200)


def kept(troubles: list[str], what: str, make: Callable[[], Any], instead: Any) -> Any:
    """A part of a report; where it cannot be made the others are, and there is a sentence on it in ``troubles``."""
    try:
        return make()
    except OSError:  # that is the folder's, and everything's
        raise
    except Exception as error:
        troubles.append(f"{what} cannot be made ({sentence(error)})")
        return instead


class Atelier:
    """Where the figures of one report are made: its data, where they go, how solvers look, and names for files."""

    def __init__(
        self, data: Results, final: pd.DataFrame, out: Path, brief: bool = False, first: Sequence[str] = ()
    ) -> None:
        self.data, self.final, self.out, self.brief = data, final, out, brief
        self.many = len(data.runs) > MOST_RUNS
        self.rows = not brief and len(data.stored) <= MOST_LOOKS
        self.palette = style.Palette(dict(zip(data.runs["solver"], data.runs["short"], strict=True)), first)
        self._slugs: dict[str, str] = dict.fromkeys(TAKEN, "")

    def slug(self, *labels: str) -> str:
        """A name for a file out of labels, of their letters and digits; what is not alike has not the same."""
        text, whole = ("-".join(re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-") for label in labels), "\0".join(labels))
        name, salt = text.lower()[:MOST_SLUG].strip("-") or "unnamed", 0
        while self._slugs.setdefault(name, whole) != whole:
            name, salt = f"{text.lower()[:MOST_SLUG]}-{zlib.crc32(f'{salt}{whole}'.encode()):08x}".strip("-"), salt + 1
        return name

    def figure(self, stem: str, draw: Callable[[], tuple[Figure, str]], shown: bool = True) -> dict[str, Any]:
        """A figure as SVG where it is ``shown`` in the page, its PDF written, and a remark on it; where it cannot be
        drawn, a sentence instead."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as of a sign that a font has not: it is drawn as a box
                figure, remark = draw()
                svg, pdf = style.drawn(figure, stem) if shown else ("", style.pdf(figure))
        except Exception as error:
            svg, remark, pdf = "", f"This figure cannot be drawn ({sentence(error)}).", b""
        if pdf:
            with written(self.out / "figures" / f"{stem}.pdf") as private:
                private.write_bytes(pdf)
        return {"svg": svg, "pdf": bool(pdf), "remark": remark, "stem": stem}

    def write(self, table: pd.DataFrame, stem: str) -> None:
        """A table as CSV."""
        sheet.write(table, self.out / "data" / f"{stem}.csv")


def problem(atelier: Atelier, name: str) -> dict[str, Any]:
    """The section of a problem: its figures, and where every solver ended."""
    data = atelier.data
    runs, looks = data.runs[data.runs["problem"] == name], data.stored.of(name)
    metrics, left_out = _metrics(looks)
    drawn = metrics[:1] if atelier.brief or atelier.many else metrics
    headers = [(data.records[run].header or {})["problem"] for run in runs["run"]]
    about = next((header for header in headers if header.get("n_x")), headers[0])
    about = UNSAID | {name: value for name, value in about.items() if value is not None}
    lines = median_lines(headers)
    read = {path for run in runs["run"] for path in (data.records[run].end or {}).get("manifest") or {}}
    arrows = {metric: tables.arrow(metric, about["better"]) for metric in metrics}
    slug = atelier.slug(name)
    shown = []
    for metric in drawn:
        own = {line: values[metric] for line, values in lines.items() if metric in values}

        def draw(metric: str = metric, own: dict[str, float] = own) -> tuple[Figure, str]:
            return figures.convergence(looks, runs, metric, own, atelier.palette, thin=not atelier.many)

        made = atelier.figure(atelier.slug(name, metric), draw, shown=metric == drawn[0])
        shown.append(made | {"metric": metric, "arrow": arrows[metric]})
    columns = ["run", "solver", "seed", *LOOK, *metrics[:1]] if atelier.brief else list(looks.columns)
    atelier.write(looks[list(dict.fromkeys(columns))].dropna(axis=1, how="all"), slug)
    final = atelier.final
    return {
        "name": name, "slug": slug, "about": about, "figures": shown, "lines": lines, "arrows": arrows,
        "left_out": left_out, "unjudged": _unjudged(looks), "data": behind(read), "bar": about["bar"].get("lines", []),
        "final": tables.final(runs, final[final["problem"] == name], metrics, atelier.palette),
    }  # fmt: skip


def _metrics(looks: pd.DataFrame) -> tuple[list[str], int]:
    """The metrics that are shown, the judge's first, and how many more there are."""
    known = [metric for metric in METRICS if metric in looks and looks[metric].notna().any()]
    fixed = {"run", "problem", "solver", "seed", "grads", "passes", "total_rows", *LOOK, *METRICS, *ERRORS, "unjudged"}
    own = [column for column in looks.columns if column not in fixed and looks[column].notna().any()]
    metrics = known + own
    return metrics[:MOST_METRICS], max(0, len(metrics) - MOST_METRICS)


def _unjudged(looks: pd.DataFrame) -> str:
    """How many looks lack figures because they could not be judged, and why most of them do."""
    reasons = looks["unjudged"][looks["unjudged"] != ""].astype(str)
    if not len(reasons):
        return ""
    return f"{len(reasons)} of {len(looks)} looks lack figures that could not be judged ({reasons.mode().iloc[0]})."


def median_lines(headers: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The reference lines of a problem, the median over its seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for header in headers:
        for line, values in (header.get("references") or {}).items():
            for metric, value in values.items():
                if value is not None:
                    found.setdefault(line, {}).setdefault(metric, []).append(value)
    return {line: {m: float(np.median(v)) for m, v in values.items()} for line, values in found.items()}


def pictures(atelier: Atelier) -> list[dict[str, Any]]:
    """One figure per family of problems that can be drawn; several starts share it."""
    data, made = atelier.data, []
    names = {run: str((record.header or {})["problem"].get("name", "")) for run, record in data.records.items()}
    for name, runs in data.runs.groupby(data.runs["run"].map(names), sort=True):
        picture, paths = tracks(data, runs)
        if picture is None:
            continue
        stem = atelier.slug(str(name), "trajectories")

        def draw(paths: Any = paths, picture: Any = picture) -> tuple[Figure, str]:
            return pictured.trajectories(paths, picture, atelier.palette), ""

        made.append(atelier.figure(stem, draw) | {"name": name, "label": picture["label"]})
        rows = [
            (s, k, i, *p) for s, curves in sorted(paths.items()) for k, c in enumerate(curves) for i, p in enumerate(c)
        ]
        atelier.write(pd.DataFrame(rows, columns=["solver", "run", "look", *picture["labels"]]), stem)
    return made


def tracks(data: Results, runs: pd.DataFrame) -> tuple[dict[str, Any] | None, dict[str, list[np.ndarray]]]:
    """The picture of the problem of some runs, None where it has none, and each solver's paths through it."""
    first, paths = None, dict[str, list[np.ndarray]]()
    for run, solver in runs[["run", "solver"]].itertuples(index=False):
        picture = (data.records[run].header or {})["problem"].get("picture")
        points = _path(data.records[run].rows, picture["axes"]) if picture else []
        if points:
            first = first or picture
            paths.setdefault(solver, []).append(np.array(points))
    return first, paths


def _path(rows: list[dict[str, Any]], axes: list[Any]) -> list[list[float]]:
    """The drawn coordinates of the iterates, where they are long enough to have them."""
    points = [row for row in rows if row.get("x") and row.get("y")]
    if any(i >= len(row[name]) for row in points for name, i in axes):
        return []
    return [[row[name][i] for name, i in axes] for row in points]


def memory(atelier: Atelier) -> dict[str, Any] | None:
    """Peak bytes of every solver, as a figure and a table."""
    table = atelier.data.runs.dropna(subset=["peak_bytes"])
    if not len(table):
        return None
    columns = ["problem", "solver", "seed", *BYTES, "n_x", "n_y"]
    atelier.write(table[columns].dropna(axis=1, how="all"), "memory")
    drawn = atelier.figure("memory", lambda: (pictured.memory(table, atelier.palette), ""))
    return drawn | {"table": tables.memory(table)}
