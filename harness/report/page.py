"""One self-contained HTML page out of a folder of results; figures also as PDF, their data as CSV."""

from __future__ import annotations

import gc
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from bilevelbench.stats import compare, targets
from bilevelbench.store.frame import BYTES, Results, load

from . import figures, sheet, style, tables, verdict

METRICS = ("phi_gap", "phi", "grad_phi", "gap", "stationarity", "f")  # then the problem's own


@dataclass
class Report:
    """What was written, and what it says."""

    path: Path
    verdict: str
    leaders: pd.DataFrame
    failures: pd.DataFrame
    troubles: list[str]


def write(results: Path, out: Path, only: list[str] | None = None) -> Report:
    """Write ``index.html``, ``figures/*.pdf`` and ``data/*.csv`` under ``out``, from the result files of a folder.

    ``only``: names of the files to use. ``ValueError`` where there is no run to show, ``OSError`` where ``out`` cannot
    be written.
    """
    data = load(results, only)
    gc.freeze()  # what was read stays to the end, and is not to be walked at every collection of garbage
    try:
        return _write(data, results, out)
    finally:
        gc.unfreeze()


def _write(data: Results, results: Path, out: Path) -> Report:
    for folder in ("figures", "data"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    style.apply()
    hit = targets.hits(data.runs, data.looks)
    leaders = compare.leaders(data.runs, hit)
    final = data.looks.groupby("run", as_index=False, observed=True).last() if len(data.looks) else data.looks
    problems = {run: (record.header or {})["problem"] for run, record in data.records.items()}
    text = verdict.paragraph(data.runs, hit, leaders, verdict.against_references(data.runs, final, problems))
    leaders.to_csv(out / "data" / "leaders.csv", index=False)
    sheet.write(hit, out / "data" / "targets.csv")
    failures = data.runs[data.runs["status"].isin(compare.FAILED)]
    page = _environment().get_template("page.html.jinja").render(
        verdict=text,
        leaders=tables.leaders(leaders),
        reached=tables.reached(compare.reached(hit), leaders["solver"].tolist()) if len(hit) else None,
        problems=[_problem(name, data, final, out) for name in sorted(data.runs["problem"].unique())],
        pictures=_pictures(data, out),
        memory=_memory(data.runs, out),
        failures=failures.to_dict("records"),
        unsupported=data.runs[data.runs["status"] == "unsupported"].to_dict("records"),
        provenance=tables.provenance(data),
        superseded=data.superseded,
        notes=data.notes,
        troubles=[trouble.replace(str(results) + "/", "") for trouble in data.troubles],
    )  # fmt: skip
    (out / "index.html").write_text(page, encoding="utf-8")
    return Report(out / "index.html", text, leaders, failures, data.troubles)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("bilevelbench.report"),
        autoescape=jinja2.select_autoescape(["html", "jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def slug(text: str) -> str:
    """A file name out of a label."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _problem(name: str, data: Results, final: pd.DataFrame, out: Path) -> dict[str, Any]:
    runs, looks = data.runs[data.runs["problem"] == name], data.looks[data.looks["problem"] == name]
    known = [metric for metric in METRICS if metric in looks and looks[metric].notna().any()]
    fixed = {
        "run",
        "problem",
        "solver",
        "seed",
        "step",
        "seconds",
        "cpu_seconds",
        "total_calls",
        "grads",
        "status",
        *METRICS,
    }
    own = [c for c in looks.columns if c not in fixed and c != "lower_residual" and looks[c].notna().any()]
    headers = [(data.records[run].header or {})["problem"] for run in runs["run"]]
    about = next((header for header in headers if header.get("n_x")), headers[0])
    lines = _median_lines(headers)
    arrows = {metric: tables.arrow(metric, about.get("better") or {}) for metric in known + own}
    shown = []
    for metric in known + own:
        figure, remark = figures.convergence(
            looks, runs, metric, {k: v[metric] for k, v in lines.items() if metric in v}
        )
        stem = f"{slug(name)}-{slug(metric)}"
        svg = style.save(figure, out / "figures", stem)
        shown.append({"metric": metric, "arrow": arrows[metric], "svg": svg, "remark": remark, "stem": stem})
        plt.close(figure)
    sheet.write(looks.dropna(axis=1, how="all"), out / "data" / f"{slug(name)}.csv")
    return {
        "name": name, "slug": slug(name), "about": about, "figures": shown, "lines": lines, "arrows": arrows,
        "bar": (about.get("bar") or {}).get("lines", []),
        "final": tables.final(runs, final[final["problem"] == name], known + own),
    }  # fmt: skip


def _median_lines(headers: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The reference lines of a problem, the median over its seeds."""
    found: dict[str, dict[str, list[float]]] = {}
    for header in headers:
        for line, values in (header.get("references") or {}).items():
            for metric, value in values.items():
                if value is not None:
                    found.setdefault(line, {}).setdefault(metric, []).append(value)
    return {line: {m: float(np.median(v)) for m, v in values.items()} for line, values in found.items()}


def _pictures(data: Results, out: Path) -> list[dict[str, Any]]:
    """One figure per family of problems that can be drawn; several starts share it."""
    families: dict[str, tuple[dict[str, Any], dict[str, list[np.ndarray]]]] = {}
    for run, solver in data.runs[["run", "solver"]].itertuples(index=False):
        record = data.records[run]
        header = (record.header or {})["problem"]
        picture = header.get("picture")
        if picture:
            points = [[row[name][i] for name, i in picture["axes"]] for row in record.rows if row.get("x")]
            if points:
                _, paths = families.setdefault(header["name"], (picture, {}))
                paths.setdefault(solver, []).append(np.array(points))
    made = []
    for name, (picture, paths) in sorted(families.items()):
        figure = figures.trajectories(paths, picture)
        stem = f"{slug(name)}-trajectories"
        made.append(
            {"name": name, "label": picture["label"], "stem": stem, "svg": style.save(figure, out / "figures", stem)}
        )
        plt.close(figure)
        rows = [
            (s, k, i, *p) for s, curves in sorted(paths.items()) for k, c in enumerate(curves) for i, p in enumerate(c)
        ]
        table = pd.DataFrame(rows, columns=["solver", "run", "look", *picture["labels"]])
        table.to_csv(out / "data" / f"{stem}.csv", index=False)
    return made


def _memory(runs: pd.DataFrame, out: Path) -> dict[str, Any] | None:
    table = runs.dropna(subset=["peak_bytes"])
    if not len(table):
        return None
    table[["problem", "solver", "seed", *BYTES, "n_x", "n_y"]].dropna(axis=1, how="all").to_csv(
        out / "data" / "memory.csv", index=False
    )
    figure = figures.memory(table)
    svg = style.save(figure, out / "figures", "memory")
    plt.close(figure)
    return {"svg": svg, "stem": "memory", "table": tables.memory(table)}
