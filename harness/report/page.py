"""One self-contained HTML page out of folders of results; figures also as PDF, their data as CSV.

The table comes first, then each figure by itself: one that cannot be drawn is a sentence, and the rest is there.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bilevelbench.stats import targets
from bilevelbench.stats.compare import compare, duels, reached
from bilevelbench.stats.kinds import advice
from bilevelbench.store.files import make_folder
from bilevelbench.store.frame import Results, load
from bilevelbench.store.journal import shown
from bilevelbench.store.schema import FAILED

from . import caveats, live, overall, parts, sheet, style, tables, verdict, which
from .parts import Atelier, kept
from .rendered import render
from .verdict import Verdict
from .words import TERMS

MOST_FAILURES, MOST_TROUBLES = 200, 20  # in the page; all failures are in data/runs.csv
NOTHING: dict[str, Any] = {"facts": {}, "busy": False}  # of what was run


@dataclass(frozen=True)
class Asked:
    """How results are to be read: of which solver the verdict speaks, weights of families other than 1, and whether
    each problem has one figure alone, of its first metric, which makes a page to publish."""

    subject: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    brief: bool = False

    def check(self, data: Results) -> None:
        """``ValueError`` where it names a solver or a family that the results do not have, or a weight that is none."""
        verdict.subject_of(data.runs, self.subject)
        known = sorted(data.runs["family"].unique())
        for name, weight in self.weights.items():
            if name not in known:
                raise ValueError(f"there is no family {name!r} in these results; they have {', '.join(known)}")
            if not 0 <= weight < float("inf"):
                raise ValueError(
                    f"the weight {weight:g} of the family {name} is not valid; it is a number of at least 0"
                )
        if known and all(self.weights.get(name, 1.0) == 0 for name in known):
            raise ValueError("all families have the weight 0; leave one with more")


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
    tell: Callable[[Report], None] = lambda report: None, asked: Asked | None = None,
) -> Report:  # fmt: skip
    """Write ``index.html``, ``figures/*.pdf`` and ``data/*.csv`` under ``out``, from the runs of one or more folders.

    ``only``: stems of the files to use. ``tell`` is called once the table is there, before any figure is drawn.
    ``ValueError`` where there is no run to show, ``OSError`` where ``out`` cannot be written.
    """
    return show(load(results, only), [results] if isinstance(results, Path) else list(results), out, tell, asked)


def show(
    data: Results, results: list[Path], out: Path, tell: Callable[[Report], None] = lambda report: None,
    asked: Asked | None = None,
) -> Report:  # fmt: skip
    """The same from what was read already, of the folders ``results``."""
    asked = asked or Asked()
    asked.check(data)
    gc.freeze()  # what was read stays to the end, and is not to be walked at every collection of garbage
    try:
        with style.theme():
            return _write(data, results, out, tell, asked)
    finally:
        gc.unfreeze()


def _write(data: Results, results: list[Path], out: Path, tell: Callable[[Report], None], asked: Asked) -> Report:
    for folder in (out, out / "figures", out / "data"):
        make_folder(folder)
    hit = targets.of(data.runs, data.stored)
    found = compare(data.runs, hit, asked.weights)
    leaders = found.leaders
    final = data.stored.lasts()
    troubles = list(data.troubles)
    said = kept(troubles, "the verdict", lambda: verdict.of(data, hit, found, asked.subject), Verdict("", {}))
    refused = (data.runs["status"] == "unsupported") & (data.runs["fault"] != "")  # a problem that has to be mended
    failures = data.runs[data.runs["status"].isin(FAILED) | refused]
    report = Report(out / "index.html", str(said), leaders, failures, troubles)
    order = leaders["solver"].tolist()
    atelier = Atelier(data, final, out, asked.brief, tables.first(order, said.subject))
    sheet.write(leaders, out / "data" / "leaders.csv")
    sheet.write(data.runs[list(tables.RUN)], out / "data" / "runs.csv")
    sheet.write(hit, out / "data" / "targets.csv")
    fought = duels(found, hit, said.subject)
    sheet.write(fought, out / "data" / "duels.csv")
    abouts = {
        str(p): (data.records[run].header or {})["problem"]
        for p, run in data.runs.groupby("problem")["run"].first().items()
    }
    kinds = kept(troubles, "the page of kinds", lambda: advice(data.runs, hit, found, abouts), None)
    if kinds is not None:
        sheet.write(kinds, out / "data" / "which.csv")
    provenance = kept(troubles, "the list of what was run", lambda: tables.provenance(data), NOTHING)
    facts: dict[str, Any] = {
        "doubts": caveats.doubts(said.parts, data.runs, provenance["busy"], data.superseded),
        "terms": TERMS,
        "brief": not atelier.rows,
        "which": [] if kinds is None or not len(kinds) else which.sections(kinds),
        "verdict": said,
        "duels": tables.duels(fought, atelier.palette),
        "weights": asked.weights,
        "leaders": tables.leaders(leaders, atelier.palette),
        "reached": tables.reached(reached(hit), order, atelier.palette) if len(hit) else None,
        "failures": failures.head(MOST_FAILURES).to_dict("records"),
        "failed": len(failures),
        "unsupported": tables.unsupported(data.runs[(data.runs["status"] == "unsupported") & ~refused]),
        "provenance": provenance,
        "notes": data.notes,
    }
    nothing: dict[str, Any] = {"overall": [], "problems": [], "pictures": [], "memory": None}
    _render(report, results, facts | nothing | {"drawn": False, "live": None})
    tell(report)
    whole = {"overall": overall.figures(atelier, hit, found, troubles)}
    payload = live.Payload(atelier, order)
    drawn = _drawn(atelier, payload, troubles)
    alive = kept(troubles, "the data of the page", lambda: payload.made(drawn["problems"]), None)
    _render(report, results, facts | whole | drawn | {"drawn": True, "live": alive})
    return report


def _drawn(atelier: Atelier, payload: live.Payload, troubles: list[str]) -> dict[str, Any]:
    """All that has figures, part by part. The looks of a problem are read once."""
    sections = []
    for name in sorted(atelier.data.runs["problem"].unique()):
        section = kept(troubles, f"the section of {name}", partial(parts.problem, atelier, name), None)
        if section:
            sections.append(section)
            kept(troubles, f"the data of {name} in the page", partial(payload.add, section), None)
    return {
        "problems": sections,
        "pictures": kept(troubles, "trajectories", lambda: parts.pictures(atelier), []),
        "memory": kept(troubles, "the section on memory", lambda: parts.memory(atelier), None),
    }


def _inside(trouble: str, results: list[Path]) -> str:
    """A sentence on a file; of a single folder the path is said within it."""
    return trouble.replace(f"{shown(results[0])}/", "") if len(results) == 1 else trouble


def _render(report: Report, results: list[Path], facts: dict[str, Any]) -> None:
    troubles = [_inside(trouble, results) for trouble in report.troubles[:MOST_TROUBLES]]
    if len(report.troubles) > MOST_TROUBLES:
        troubles.append(f"There are {len(report.troubles) - MOST_TROUBLES} more files of which something is wrong.")
    render(report.path, "page.html.jinja", facts | live.script() | {"troubles": troubles})
