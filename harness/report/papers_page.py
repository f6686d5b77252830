"""The page of papers' claims: a table for each paper, a figure and all cells of each claim, and an account in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bilevelbench.stats.findings import Finding, Measured
from bilevelbench.stats.papers import paper
from bilevelbench.stats.rulings import FAILS, HOLDS, LEAST, NOT_RUN, OUT, PART, SHOWN
from bilevelbench.store.files import make_folder, written
from bilevelbench.store.frame import Results

from . import claimed, papers, sheet, style, tables
from .parts import sentence
from .rendered import render
from .words import both, count

FEW = 5  # figures of a claim that all stand in its row
ORDER = ("reproduced", "agrees so far", "not reproduced", "cannot tell", "refuted", "disagrees", PART, OUT, NOT_RUN)
VERBS = {
    "reproduced": "reproduced", "agrees so far": "in agreement so far, in shorter runs", "refuted": "refuted",
    "not reproduced": "tried and neither reproduced nor refuted", "cannot tell": "not to be told from shorter runs",
    "disagrees": "contradicted by shorter runs", PART: "run in part", OUT: "out of reach", NOT_RUN: "not run",
}  # fmt: skip


def write(findings: Sequence[Finding], data: Results | None, out: Path) -> Path:
    """Write ``index.html``, ``figures/*.pdf`` and ``data/*.csv`` under ``out``; the page's path.

    data/claims.csv has a row for each claim, data/cells.csv for each published figure, data/values.csv for each seed of
    these, from which the page's verdicts follow.
    """
    for folder in (out, out / "figures", out / "data"):
        make_folder(folder)
    cells = [row for one in findings for row in papers.cell_rows(one)]
    sheet.write(pd.DataFrame([papers.claim_row(one) for one in findings]), out / "data" / "claims.csv")
    sheet.write(pd.DataFrame(cells), out / "data" / "cells.csv")
    sheet.write(pd.DataFrame([row for one in findings for row in papers.value_rows(one)]), out / "data" / "values.csv")
    with style.theme():
        sections = [_section(name, findings, data, out) for name in dict.fromkeys(one.claim.paper for one in findings)]
    facts = {
        "sections": sections, "least": LEAST,
        "provenance": tables.provenance(data)["facts"] if data is not None else {},
        "notes": [] if data is None else [*data.notes, *_troubles(data.troubles)],
    }  # fmt: skip
    page = out / "index.html"
    render(page, "papers.html.jinja", facts)
    return page


def _troubles(troubles: Sequence[str]) -> list[str]:
    """How many files cannot be used; which, the results folder's own report says."""
    verb = "is" if len(troubles) == 1 else "are"
    what = f"{count(len(troubles), 'file')} of the results {verb} damaged or half-written"
    return [f"{what}, and left out; `bilevelbench report` names them."] if troubles else []


def account(findings: Sequence[Finding]) -> str:
    """Which claims of a paper hold, at what confidence, and where they do not: sentences."""
    found = {word: [one.claim.id for one in findings if one.verdict == word] for word in ORDER}
    parts = [f"{both(ids)} {'is' if len(ids) == 1 else 'are'} {VERBS[word]}" for word, ids in found.items() if ids]
    judged = [cell for one in findings for cell in one.cells if cell.values and cell.ruling != SHOWN]
    said = f"Of {count(len(findings), 'claim')}, {'; '.join(parts)}."
    if judged:
        seeds, holds = max(len(cell.values) for cell in judged), sum(cell.ruling == HOLDS for cell in judged)
        over = f"at 95 % over up to {seeds} seeds" if seeds > 1 else "exactly, for the seed changes nothing there"
        said += f" Of {count(len(judged), 'measured figure')} {holds} hold, {over}."
    for one in findings:
        failed = [cell for cell in one.cells if cell.ruling == FAILS]
        if failed:
            names = [f"{cell.cell.solver} on {cell.cell.problem}" for cell in failed]
            which = both(list(dict.fromkeys(names))) if len(names) <= FEW else count(len(names), "figure")
            said += f" {one.claim.id} is contradicted by {which}."
    return said


def _section(name: str, findings: Sequence[Finding], data: Results | None, out: Path) -> dict[str, Any]:
    own = [one for one in findings if one.claim.paper == name]
    about = paper(name)
    return {
        "name": name, "title": about.title, "cite": about.cite, "account": account(own),
        "rows": [_row(one, data, out) for one in own],
    }  # fmt: skip


def _row(one: Finding, data: Results | None, out: Path) -> dict[str, Any]:
    claim = one.claim
    drawn = _drawn(one, data, out) if data is not None and one.runs and claim.figure else None
    return papers.claim_row(one) | {
        "says": claim.says, "changed": claim.changed, "stands_for": claim.stands_for, "minutes": papers.minutes(one),
        "command": papers.command(one), "kind": one.verdict.replace(" ", "-"), "figure": drawn,
        "heads": [_cell(cell) for cell in heads(one)], "cells": [_cell(cell) for cell in one.cells],
    }  # fmt: skip


def heads(one: Finding) -> list[Measured]:
    """The cells that stand in a claim's row."""
    plain = [cell for cell in one.cells if isinstance(cell.cell.figure, str)]
    chosen = [cell for cell in plain if cell.cell.solver in one.claim.heads and cell.cell.figure == one.claim.figure]
    return chosen or (plain if len(plain) <= FEW else [])


def _cell(one: Measured) -> dict[str, Any]:
    cell = one.cell
    return {
        "of": f"{cell.solver}, {cell.problem}", "figure": papers.figure(cell), "published": papers.published(cell),
        "measured": papers.measured(one), "band": papers.band(cell), "seeds": len(one.values) or "",
        "ruling": "" if one.ruling == SHOWN else one.ruling, "note": one.note,
    }  # fmt: skip


def _drawn(one: Finding, data: Results, out: Path) -> dict[str, str]:
    """The figure of a claim; where it cannot be drawn, a sentence in its place."""
    stem = f"{one.claim.id}-{one.scale}"
    try:
        figure = claimed.draw(one, data)
        svg, pdf = style.drawn(figure, stem)
    except Exception as error:
        return {"svg": "", "stem": stem, "remark": f"This figure cannot be drawn ({sentence(error)})."}
    with written(out / "figures" / f"{stem}.pdf") as private:
        private.write_bytes(pdf)
    table = claimed.curves(one, data)
    if len(table):
        sheet.write(table, out / "data" / f"{stem}.csv")
    return {"svg": svg, "stem": stem, "remark": "", "data": stem if len(table) else ""}


def minutes_of(findings: Sequence[Finding]) -> float:
    """CPU minutes of all claims that were tried."""
    return sum(one.cpu_seconds for one in findings if not math.isnan(one.cpu_seconds)) / 60
