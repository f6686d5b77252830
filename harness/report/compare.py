"""Two versions compared, as a table: in a terminal, in Markdown for a pull request, on a page."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bilevelbench.stats.versions import EQUAL, MARGIN, Cell
from bilevelbench.store.files import make_folder

from . import style
from .rendered import render

if TYPE_CHECKING:
    from rich.console import Console

HEADS = ("solver", "problem", "ratio", "calls", "passes", "bytes", "iterates", "verdict")


class Compared(Protocol):
    """What ``bilevelbench.compare`` answers."""

    base: str
    head: str
    cells: list[Cell]
    notes: list[str]
    false_alarms: float
    alpha: float
    commit: str

    @property
    def worse(self) -> bool: ...


def table(cells: list[Cell], alpha: float) -> pd.DataFrame:
    """A row for each solver and problem: the ratio of seconds with its bounds, what is exact, and the verdict."""
    rows = []
    for cell in cells:
        found, exact = cell.interval(alpha), bool(cell.base and cell.head)
        row: dict[str, Any] = {"solver": cell.solver, "problem": cell.problem}
        row |= dict(zip(("ratio", "low", "high"), found if cell.launches else (math.nan,) * 3, strict=True))
        row |= {"launches": len(cell.launches), "blocks": sum(map(len, cell.launches))}
        for kind in ("calls", "passes"):
            for name, one in (("base", cell.base), ("head", cell.head)):
                row[f"{kind}_{name}"] = sum(one[kind].values()) / one["steps"] if exact else math.nan
        for what in ("bytes", "exponent"):
            for name, one in (("base", cell.base), ("head", cell.head)):
                row[f"{what}_{name}"] = one.get(what, math.nan)
        row |= {"iterates": cell.path if exact else "", "verdict": cell.verdict(alpha), "worse": cell.worse(alpha)}
        rows.append(row)
    return pd.DataFrame(rows)


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A row in words, by ``HEADS``: what is the same under both is said once."""

    def pair(what: str, form: str) -> str:
        one, other = row[f"{what}_base"], row[f"{what}_head"]
        if one != one or other != other:
            return ""
        return format(other, form) if one == other else f"{one:{form}} → {other:{form}}"

    ratio = ""
    if row["ratio"] == row["ratio"]:
        ratio = f"{row['ratio']:.3f}"
        ratio += f" ({row['low']:.2f} to {row['high']:.2f})" if math.isfinite(row["high"]) else ""
    power = pair("exponent", ".1f")
    size = pair("bytes", ",.0f") + (f" ~ n^{power}" if power else "")
    words = {"ratio": ratio, "calls": pair("calls", "g"), "passes": pair("passes", "g"), "bytes": size}
    return {name: words.get(name, str(row.get(name, ""))) for name in HEADS}


def headline(found: Compared) -> str:
    """What came of it, in a sentence."""
    worse = [cell.name for cell in found.cells if cell.worse(found.alpha)]
    measured = sum(bool(cell.launches) for cell in found.cells)
    words = f"{found.head} against {found.base}: {len(worse)} of {measured} worse" if worse else (
        f"{found.head} against {found.base}: none of {measured} worse")  # fmt: skip
    return words + (f"; since {found.commit}" if found.commit else "")


def method(found: Compared) -> str:
    """How the verdicts were come to, in two sentences."""
    return (
        "Ratios are CPU seconds of head over base, in blocks by turns, in processes made anew; the intervals hold at "
        f"all times and for all rows together but with probability {found.false_alarms:g}. Slower or faster is what "
        f"lies beyond {MARGIN:g} as a whole, as fast what lies within {EQUAL:g}. Calls, passes, bytes and iterates are "
        "exact."
    )


def _rows(found: Compared) -> list[dict[str, Any]]:
    """What is worse comes first, then the largest ratio."""
    rows: list[dict[str, Any]] = [dict(row) for _, row in table(found.cells, found.alpha).iterrows()]
    return sorted(rows, key=lambda row: (not row["worse"], -(row["ratio"] if row["ratio"] == row["ratio"] else 0)))


def markdown(found: Compared) -> str:
    """The table for a pull request; what is worse in bold."""
    lines = [f"### {headline(found)}", "", f"| {' | '.join(HEADS)} |", "|---" * len(HEADS) + "|"]
    for row in _rows(found):
        words = [text.replace("|", "\\|") for text in shown(row).values()]
        words[-1] = f"**{words[-1]}**" if row["worse"] else words[-1]
        lines.append(f"| {' | '.join(words)} |")
    lines += ["", method(found), *(f"\n{note}." for note in found.notes)]
    return "\n".join(lines) + "\n"


def show(found: Compared, console: Console) -> None:
    """The table for a terminal."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for head in HEADS:
        made.add_column(head, overflow="fold")
    for row in _rows(found):
        made.add_row(*map(escape, shown(row).values()), style="bold" if row["worse"] else None)
    console.print(made)
    for words in (*found.notes, headline(found)):
        console.print(escape(words), style="bold" if words is not found.notes else None, soft_wrap=True)


def plain(found: Compared) -> str:
    """The table as text."""
    import io

    from rich.console import Console

    out = io.StringIO()
    show(found, Console(file=out, width=160))
    return out.getvalue()


def write(found: Compared, path: Path) -> Path:
    """One page of HTML with everything in it."""
    make_folder(path.parent)
    with style.theme():
        svg, _ = style.drawn(_forest(found), "compare") if any(cell.launches for cell in found.cells) else ("", b"")
    facts = {
        "title": headline(found), "method": method(found), "notes": found.notes, "svg": svg, "heads": HEADS,
        "rows": [(row["worse"], shown(row)) for row in _rows(found)],
    }  # fmt: skip
    render(path, "compare.html.jinja", facts)
    return path


def _forest(found: Compared) -> Figure:
    """Every ratio with its interval."""
    rows = [row for row in _rows(found) if row["ratio"] == row["ratio"]]
    figure = style.Drawing(figsize=(9.2, 0.19 * len(rows) + 0.8), layout="constrained")
    ax = figure.subplots()
    several = len({row["problem"] for row in rows}) > 1
    ax.set_yticks(range(len(rows)), [row["solver"] + (f", {row['problem']}" if several else "") for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    for place, row in enumerate(rows):
        ends = np.clip([row["low"], row["high"]], row["ratio"] / 4, row["ratio"] * 4)
        ax.plot(ends, [place, place], color=style.colour(row["solver"]), lw=2)
        ax.plot(row["ratio"], place, "o", color="#c00" if row["worse"] else style.colour(row["solver"]), ms=4)
    for line in (1 / MARGIN, 1, MARGIN):
        ax.axvline(line, color="#999", lw=0.7, ls=":" if line == 1 else "-", alpha=0.6)
    ax.set_xlabel("seconds of head over base")
    return figure
