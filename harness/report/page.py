"""One self-contained HTML page out of folders of results; figures also as PDF, their data as CSV.

The table comes first, then each figure by itself: one that cannot be drawn is a sentence, and the rest is there.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from bilevelbench.stats import compare, targets
from bilevelbench.store.files import make_folder, written
from bilevelbench.store.frame import Results, load
from bilevelbench.store.journal import shown
from bilevelbench.store.schema import FAILED

from . import parts, sheet, style, tables, verdict
from .parts import Atelier, kept

NOTHING: dict[str, Any] = {"facts": {}, "busy": False}  # of what was run


@dataclass(repr=False)
class Report:
    """What was written, and what it says. ``failures``: a row for each run that did not end well."""

    path: Path
    verdict: str
    leaders: pd.DataFrame
    failures: pd.DataFrame
    troubles: list[str]

    def __repr__(self) -> str:
        return f"<Report: {self.path}>"


def write(
    results: Path | Sequence[Path], out: Path, only: Collection[str] | None = None,
    tell: Callable[[Report], None] = lambda report: None,
) -> Report:  # fmt: skip
    """Write ``index.html``, ``figures/*.pdf`` and ``data/*.csv`` under ``out``, from the runs of one or more folders.

    ``only``: stems of the files to use. ``tell`` is called once the table is there, before any figure is drawn.
    ``ValueError`` where there is no run to show, ``OSError`` where ``out`` cannot be written.
    """
    return show(load(results, only), [results] if isinstance(results, Path) else list(results), out, tell)


def show(data: Results, results: list[Path], out: Path, tell: Callable[[Report], None] = lambda report: None) -> Report:
    """The same from what was read already, of the folders ``results``."""
    gc.freeze()  # what was read stays to the end, and is not to be walked at every collection of garbage
    try:
        with style.theme():
            return _write(data, results, out, tell)
    finally:
        gc.unfreeze()


def _write(data: Results, results: list[Path], out: Path, tell: Callable[[Report], None]) -> Report:
    for folder in (out, out / "figures", out / "data"):
        make_folder(folder)
    hit = targets.hits(data.runs, data.looks)
    leaders = compare.leaders(data.runs, hit)
    final = verdict.final(data)
    troubles = list(data.troubles)
    text = kept(troubles, "the verdict", lambda: verdict.of(data, hit, leaders), "")
    refused = (data.runs["status"] == "unsupported") & (data.runs["fault"] != "")  # a problem that has to be mended
    failures = data.runs[data.runs["status"].isin(FAILED) | refused]
    report = Report(out / "index.html", text, leaders, failures, troubles)
    atelier = Atelier(data, final, out)
    sheet.write(leaders, out / "data" / "leaders.csv")
    sheet.write(hit, out / "data" / "targets.csv")
    order = leaders["solver"].tolist()
    facts: dict[str, Any] = {
        "verdict": text,
        "leaders": tables.leaders(leaders, atelier.palette),
        "reached": tables.reached(compare.reached(hit), order, atelier.palette) if len(hit) else None,
        "failures": failures.to_dict("records"),
        "unsupported": data.runs[(data.runs["status"] == "unsupported") & ~refused].to_dict("records"),
        "provenance": kept(troubles, "the list of what was run", lambda: tables.provenance(data), NOTHING),
        "superseded": data.superseded,
        "notes": data.notes,
    }
    _render(report, results, facts | {"problems": [], "pictures": [], "memory": None, "drawn": False})
    tell(report)
    _render(report, results, facts | _drawn(atelier, troubles) | {"drawn": True})
    return report


def _drawn(atelier: Atelier, troubles: list[str]) -> dict[str, Any]:
    """All that has figures, part by part."""
    sections = [
        kept(troubles, f"the section of {name}", partial(parts.problem, atelier, name), None)
        for name in sorted(atelier.data.runs["problem"].unique())
    ]
    return {
        "problems": [section for section in sections if section],
        "pictures": kept(troubles, "trajectories", lambda: parts.pictures(atelier), []),
        "memory": kept(troubles, "the section on memory", lambda: parts.memory(atelier), None),
    }


def _inside(trouble: str, results: list[Path]) -> str:
    """A sentence on a file; of a single folder the path is said within it."""
    return trouble.replace(f"{shown(results[0])}/", "") if len(results) == 1 else trouble


def _render(report: Report, results: list[Path], facts: dict[str, Any]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bilevelbench.report"),
        autoescape=jinja2.select_autoescape(["html", "jinja"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    troubles = [_inside(trouble, results) for trouble in report.troubles]
    page = environment.get_template("page.html.jinja").render(facts | {"troubles": troubles})
    with written(report.path) as private:
        private.write_text(page, encoding="utf-8")
