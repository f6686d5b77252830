"""The verdict: a few sentences, every clause of them backed by rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bilevelbench.stats.compare import Comparison, Hanging, duels, families, stability
from bilevelbench.stats.paired import LEAST, MARGIN, SURE, Standing
from bilevelbench.stats.targets import not_run
from bilevelbench.store.frame import Results

from .bars import CONTROL, against_references, controls, useful
from .caveats import failures, idle, judge, tuning
from .words import both, count, either, plain, some, times, title

SUBJECT = "bome"
AXES = {"grads": "gradient equivalents", "seconds": "seconds"}


class Verdict(NamedTuple):
    """What is said, sentence by sentence, and of whom."""

    subject: str
    parts: dict[str, str]  # by what they are about: scope, leader, subject, duels, failures, bars, controls, judge, ...

    def __str__(self) -> str:
        return " ".join(part for part in self.parts.values() if part)


def of(data: Results, hit: pd.DataFrame, found: Comparison, subject: str | None = None) -> Verdict:
    """The verdict on results that were read, with their targets and what follows from them.

    ``subject``: a solver as it is called in the results; the one that a file of the user's defines, else BOME.
    ``ValueError`` where there is no such solver.
    """
    problems = {run: (record.header or {})["problem"] for run, record in data.records.items()}
    one = subject_of(data.runs, subject)
    references = against_references(data.runs, data.stored.lasts(), problems)
    return paragraph(data.runs, hit, found, references, one, idle(data.runs, data.stored.firsts()))


def subject_of(runs: pd.DataFrame, asked: str | None = None) -> str:
    """The solver that a verdict speaks about; '' where there is none to speak about."""
    known = sorted(runs["solver"].unique())
    if asked is not None:
        if asked not in known:
            raise ValueError(f"there is no solver {asked!r} in these results; they have {', '.join(known)}")
        return asked
    own = sorted(runs.loc[runs["asked_solver"].str.contains(".py", regex=False), "solver"])
    return str(own[0]) if own else SUBJECT if SUBJECT in known else ""


def paragraph(
    runs: pd.DataFrame,
    hit: pd.DataFrame,
    found: Comparison,
    references: pd.DataFrame,
    subject: str = SUBJECT,
    met: str = "",
) -> Verdict:
    """The verdict on a set of results. ``references``: see ``against_references``; ``met``: see ``caveats.idle``."""
    hanging = stability(runs, hit, found)
    return Verdict(
        subject,
        {
            "scope": _scope(runs, hit),
            "leader": _leader(found, hit),
            "hanging": _hanging(found, hanging),
            "subject": _subject(runs, found, subject),
            "duels": _duels(found, hit, subject),
            "families": _families(found, subject),
            "failures": failures(runs),
            "idle": met,
            "bars": useful(references),
            "controls": controls(runs, found),
            "judge": judge(hit, hanging),
            "tuning": tuning(runs),
        },
    )


def _scope(runs: pd.DataFrame, hit: pd.DataFrame) -> str:
    problems = f"{count(runs['problem'].nunique(), 'problem')} of {count(runs['family'].nunique(), 'family')}"
    text = f"{problems}, {count(runs['solver'].nunique(), 'solver')}, {count(len(runs), 'run')}."
    silent = sorted(set(runs.loc[~not_run(runs), "problem"]) - set(hit["problem"]))
    if silent and len(hit):
        text += (
            f" Nothing is decided on {some(silent)}: no best value is known there, and no bar or target left to reach."
        )
    return text


def _leader(found: Comparison, hit: pd.DataFrame) -> str:
    if not len(hit):
        return "No problem here has targets: it needs a known or kept best value, or figures with a bar or target."
    if not found.leaders["share"].max() > 0:
        return "No solver held any target."
    if "calls" not in found.standings:
        return "There are no costs in calls to compare solvers by."
    calls = found.standings["calls"]
    if len(calls.lead) < 2:
        who = both(calls.among) if calls.among else "anybody"
        return f"There is nobody to compare {who} with: no other solver took part in half of what weighs."
    parts = [_won(found, calls) if calls.winner else _open(calls, found.fields["calls"].unit)]
    others = {axis: found.standings[axis] for axis in ("grads", "seconds") if axis in found.standings}
    for axis, other in others.items():
        if other.winner == calls.winner and (calls.winner or set(other.among) == set(calls.among)):
            parts.append(f"The same by {AXES[axis]}.")
        else:
            whom = f"{other.winner} wins" if other.winner else f"no winner among {some(other.among, 'solver')}"
            parts.append(f"By {AXES[axis]}: {whom}.")
    return " ".join(parts)


def _won(found: Comparison, calls: Standing) -> str:
    field, winner = found.fields["calls"], calls.winner
    rivals = [s for s in calls.lead if s != winner]
    ratio, second = min((field.ratio(winner, s), s) for s in rivals)
    return (
        f"The winner is {winner}: {second}, the next, pays {times(*ratio)} its {field.unit} for the same targets, and "
        f"{winner} keeps the lead in {calls.lead[winner]:.0%} of the resamples of families, problems and instances."
    )


def _open(calls: Standing, unit: str) -> str:
    text = f"No winner among {some(calls.among, 'solver')}" if len(calls.among) > 1 else "No winner"
    if calls.instances < LEAST:
        return f"{text}: {count(calls.instances, 'instance')} cannot tell, it takes {LEAST}."
    best = max(calls.lead.values())
    return (
        f"{text}: nobody is cheaper than all others, in {unit} and by more than a tenth, in {SURE:.0%} of the "
        f"resamples of families, problems and instances (at most {best:.0%})."
    )


def _hanging(found: Comparison, hanging: Hanging) -> str:
    if "calls" not in found.standings or not hanging.tried:
        return ""
    mine = found.standings["calls"].winner
    others = [(words, name) for words, name in hanging.otherwise if name]
    if others:
        return "It hangs on what is weighed: " + "; ".join(f"{words}, {name} wins" for words, name in others) + "."
    if mine and hanging.otherwise:
        ways = either([words for words, _ in hanging.otherwise])
        return f"There is no winner {ways}; nobody else wins however it is weighed."
    return f"The same in all {hanging.tried} other ways of weighing that were tried." if mine else ""


def _subject(runs: pd.DataFrame, found: Comparison, one: str) -> str:
    table = found.leaders.dropna(subset=["share"]).reset_index(drop=True)
    if one not in set(table["solver"]) or len(table) < 2:
        return ""
    place = int(table.index[table["solver"] == one][0])
    row = table.loc[place]
    text = f"{title(one)} held {row['share']:.0%} of its targets"
    if not np.isnan(row["low"]):
        text += f" ({row['low']:.0%} to {row['high']:.0%})"
    if not np.isnan(row["cost"]):
        text += f", rank {place + 1} of {len(table)} by cost"
    field = found.fields.get("calls")
    if field is not None and one in field.solvers and len(field.solvers) > 1:
        methods = set(runs.loc[runs["kind"] != CONTROL, "solver"])
        ratio = field.against_field(one, methods)
        if np.isfinite(ratio[0]):
            text += f"; the other methods together pay {times(*ratio)} its {field.unit}"
    return text + "."


def _duels(found: Comparison, hit: pd.DataFrame, one: str) -> str:
    """Whom the subject beats, by whom it is beaten, and with whom nothing is decided."""
    table = duels(found, hit, one)
    if not len(table):
        return ""
    sure = table["low"].notna()
    if not sure.any():
        return "There are too few instances for intervals of single duels."
    won, lost = table[sure & (table["low"] > 1)], table[sure & (table["high"] < 1)]
    parts = []
    if len(won):
        parts.append(f"cheaper than {some([_by(row) for row in won.iloc[::-1].to_dict('records')], 'rival')}")
    if len(lost):
        parts.append(f"dearer than {some([_by(row) for row in lost.to_dict('records')], 'rival')}")
    rest = table[~table["solver"].isin([*won["solver"], *lost["solver"]])]
    if len(rest):
        parts.append(f"undecided against {some(rest['solver'].tolist(), 'rival')}")
    return f"In {found.fields['calls'].unit}, on these problems, {title(one)} is {'; '.join(parts)}."


def _by(row: Mapping[Hashable, Any]) -> str:
    ratio, low, high = row["ratio"], row["low"], row["high"]
    if ratio < 1:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    return f"{row['solver']} ({plain(ratio)} times, {plain(low)} to {plain(high)})"


def _families(found: Comparison, one: str) -> str:
    """In which families the subject is the cheapest, and in which it pays most beside the best."""
    field = found.fields.get("calls")
    if field is None or one not in field.solvers or len(field.solvers) < 2 or field.of.table["family"].nunique() < 2:
        return ""
    over = pd.DataFrame({s: families(field, field.over(one, s)) for s in field.solvers if s != one})
    first = over.index[(over > np.log(MARGIN)).all(axis=1) & over.notna().any(axis=1)].tolist()
    worst, against = over.min(axis=1).dropna(), over.idxmin(axis=1)
    behind = worst[worst < -np.log(MARGIN)].sort_values()
    parts = []
    if first:
        parts.append(f"It leads on {both(first)}")
    if len(behind):
        where = count(len(behind), "family") if len(behind) > 3 else both(list(behind.index))
        name = behind.index[0]
        parts.append(
            f"{'i' if first else 'I'}t is behind somebody on {where}, most on {name}, where {against[name]} pays "
            f"1/{plain(float(np.exp(-behind.iloc[0])))} of its {field.unit}"
        )
    return "; ".join(parts) + "." if parts else ""
