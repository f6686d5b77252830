"""Which solver should I use: a few lines for each kind of problem, no advice without rows."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from io import StringIO
from typing import Any

import pandas as pd

from bilevelbench.stats.kinds import KINDS, kinds_of

from .tables import number
from .words import both, count

PUBLISHED = "which.csv"  # in suites: what the published reference says
SHOWN = 5


def published() -> pd.DataFrame:
    """What the published reference report says of each kind of problem, see ``stats.kinds.advice``."""
    return pd.read_csv(StringIO((files("bilevelbench.suites") / PUBLISHED).read_text(encoding="utf-8")))


def sentence(table: pd.DataFrame, kind: str) -> str:
    """Who leads on a kind of problem, how surely, and on what that rests."""
    own = table[table["kind"] == kind]
    if not len(own):
        return "We do not know: no problem of this kind, or fewer than five instances."
    first = own.iloc[0]
    rests = f"{count(int(first['problems']), 'problem')} of {count(int(first['families']), 'family')}"
    rests += f", {count(int(first['instances']), 'instance')}"
    if own["leads"].any():
        return f"{first['solver']} leads, in {first['lead']:.0%} of the resamples ({rests})."
    among = own.loc[own["among"].astype(bool), "solver"].tolist()
    names = both(among) if len(among) <= SHOWN else f"{count(len(among), 'solver')}, cheapest {both(among[:SHOWN])}"
    return f"No winner among {names} ({rests})."


def sections(table: pd.DataFrame) -> list[dict[str, Any]]:
    """For the page: each kind with its sentence and the first solvers."""
    made = []
    for kind in KINDS:
        rows = [
            {"solver": row["solver"], "cost": number(row["cost"], 3), "lead": f"{row['lead']:.0%}",
             "spread": f"{number(row['low'], 2)}–{number(row['high'], 2)}" if row["low"] < row["high"] else "",
             "share": f"{row['share']:.0%}", "vectors": number(row["vectors"], 2)}
            for row in table[table["kind"] == kind.name].head(SHOWN).to_dict("records")
        ]  # fmt: skip
        made.append({"words": kind.words, "said": sentence(table, kind.name), "rows": rows})
    return made


def told(about: Mapping[str, Any], able: list[str], refused: Mapping[str, str], table: pd.DataFrame) -> str:
    """For a terminal: of a problem the kinds that it is of, who leads there, and which solvers cannot take it.

    ``able``: the solvers that can; ``refused``: why the others cannot.
    """
    lines = []
    for kind in kinds_of(about):
        lines += [f"{kind.words}:", f"  {sentence(table, kind.name)}"]
        own = table[(table["kind"] == kind.name) & table["solver"].isin(able)]
        lines += [
            f"  {row['solver']:14} {number(row['cost'], 3):>6} times the first's calls, holds {row['share']:.0%}, "
            f"{number(row['vectors'], 2)} vectors of y"
            for row in own.head(SHOWN).to_dict("records")
        ]
    lines.append(f"solvers that take it: {', '.join(able) or 'none'}")
    if refused:
        lines += ["", "solvers that cannot:", *(f"  {name:14} {why}" for name, why in refused.items())]
    return "\n".join(lines)
