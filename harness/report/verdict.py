"""The verdict: one paragraph, every clause of it backed by rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bilevelbench.stats.compare import duels
from bilevelbench.stats.targets import not_run
from bilevelbench.store.frame import Results
from bilevelbench.store.schema import FAILED

SUBJECT = "bome"
MOST_NAMED = 6


def of(data: Results, hit: pd.DataFrame, table: pd.DataFrame) -> str:
    """The verdict on results that were read, with their targets and their leaders."""
    problems = {run: (record.header or {})["problem"] for run, record in data.records.items()}
    return paragraph(data.runs, hit, table, against_references(data.runs, final(data), problems))


def final(data: Results) -> pd.DataFrame:
    """The last value of each column of the looks, a row for each run."""
    return data.looks.groupby("run", as_index=False, observed=True).last() if len(data.looks) else data.looks


def paragraph(runs: pd.DataFrame, hit: pd.DataFrame, table: pd.DataFrame, references: pd.DataFrame) -> str:
    """The verdict on a set of results. ``references``: see ``against_references``."""
    parts = [_scope(runs), _leader(table), _subject(table), _duel(runs, hit), _failures(runs), _useful(references)]
    if runs["seed"].nunique() < 5:
        parts.append("With fewer than five seeds these are points, not intervals.")
    return " ".join(part for part in parts if part)


def _n(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _scope(runs: pd.DataFrame) -> str:
    return (
        f"{_n(runs['problem'].nunique(), 'problem')}, {_n(runs['solver'].nunique(), 'solver')}, {_n(len(runs), 'run')}."
    )


def _leader(table: pd.DataFrame) -> str:
    ranked = table.dropna(subset=["share"])
    if not len(ranked) or ranked["share"].max() == 0:
        return "No solver reached any target." if len(ranked) else "No problem here has targets."
    best = ranked[ranked["share"] == ranked["share"].max()]["solver"].tolist()
    return f"{_and(best)} reached the most targets, {ranked['share'].max():.0%}."


def _subject(table: pd.DataFrame) -> str:
    ranked = table.dropna(subset=["share"]).reset_index(drop=True)
    if SUBJECT not in set(ranked["solver"]) or len(ranked) < 2:
        return ""
    mine = float(ranked.loc[ranked["solver"] == SUBJECT, "share"].iloc[0])
    rank = int((ranked["share"] > mine).sum()) + 1
    return f"BOME reached {mine:.0%} of its targets, rank {rank} of {len(ranked)}."


def _duel(runs: pd.DataFrame, hit: pd.DataFrame) -> str:
    """BOME against the best method with second derivatives, at the hardest target that either reaches."""
    second = sorted(runs.loc[runs["order"] == 2, "solver"].unique())
    if SUBJECT not in set(runs["solver"]) or not second or not len(hit):
        return ""
    calls, seconds = duels(hit, SUBJECT, second, "calls"), duels(hit, SUBJECT, second, "seconds")
    if not len(calls):
        return ""
    alone = calls.loc[np.isfinite(calls["cost"]) & ~np.isfinite(calls["best"]), "problem"].tolist()
    lost = calls.loc[~np.isfinite(calls["cost"]), "problem"].tolist()
    cheaper, faster = (int((t["cost"] < t["best"]).sum()) for t in (calls, seconds))
    text = (
        f"At the hardest target that BOME or any method with second derivatives reaches, BOME needs fewer oracle calls "
        f"than the best of these on {cheaper} of {_n(len(calls), 'problem')} and less time on {faster}"
    )
    if alone:
        text += f"; it alone gets there on {_some(alone)}"
    if lost:
        text += f"; it does not get there on {_some(lost)}"
    return text + "."


def _failures(runs: pd.DataFrame) -> str:
    refused = (runs["status"] == "unsupported") & (runs["fault"] != "")
    failed = runs[runs["status"].isin(FAILED) | refused]
    if not len(failed):
        return "No run failed."
    excused = not_run(failed)
    parts = []
    if not excused.all():
        own = failed[~excused]
        parts.append(f"{_n(len(own), 'run')} of {len(runs)} failed ({_kinds(own)}); they count as unsolved.")
    if excused.any():
        others = failed[excused]
        counts = "it counts" if len(others) == 1 else "they count"
        parts.append(f"{_n(len(others), 'run')} ended through no solver's fault ({_kinds(others)}); {counts} for none.")
    return " ".join(parts)


def _kinds(runs: pd.DataFrame) -> str:
    return _and([f"{n} {kind}" for kind, n in runs["status"].value_counts().sort_index().items()])


def _useful(references: pd.DataFrame) -> str:
    """Which solvers beat the best line that needs no bilevel method, and on which problems none does."""
    parts, nothing = [], []
    for problem, group in references.groupby("problem", sort=True):
        figure, better, line = (str(group[name].iloc[0]) for name in ("figure", "better", "name"))
        apart = group["value"] - group["line"]
        beat = sorted(group.loc[apart > 0 if better == "higher" else apart < 0, "solver"])
        what = f"“{line}” in {figure} ({better} is better)"
        if beat:
            parts.append(f"On {problem}, {_and(beat)} beat{'s' if len(beat) == 1 else ''} {what}.")
        else:
            nothing.append(f"{what} on {problem}")
    if nothing:
        parts.append(f"No solver beats {_and(nothing)}: nothing is shown there.")
    return " ".join(parts)


def against_references(runs: pd.DataFrame, final: pd.DataFrame, problems: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Each solver's last value against the best of the lines that it must beat, of the same runs: medians over seeds.

    Columns: problem, solver, value, line, name (of the line), figure, better. ``problems``: per run, what its header
    says of the problem; files without ``bar`` take no part. A run that failed through the solver's fault has the worst
    value.
    """
    rows = []
    last = final.set_index("run")
    counted = runs.loc[~not_run(runs), ["run", "problem", "solver", "status"]]
    for run, problem, solver, status in counted.itertuples(index=False):
        bar, lines = problems[run].get("bar"), problems[run].get("references") or {}
        if not bar or bar["figure"] not in last:
            continue
        better = (problems[run].get("better") or {}).get(bar["figure"], "lower")  # phi
        known = {name: lines.get(name, {}).get(bar["figure"]) for name in bar["lines"]}
        given = {name: value for name, value in known.items() if value is not None}
        value = last[bar["figure"]].get(run, np.nan)
        if status in FAILED:
            value = -np.inf if better == "higher" else np.inf
        if not given or np.isnan(value):
            continue
        hardest = (max if better == "higher" else min)(given, key=given.__getitem__)
        rows.append((problem, solver, value, given[hardest], hardest, bar["figure"], better))
    table = pd.DataFrame(rows, columns=["problem", "solver", "value", "line", "name", "figure", "better"])
    for _, group in table.groupby("problem"):
        table.loc[group.index, "name"] = group["name"].mode()[0]  # the hardest line of most seeds
    return table.groupby(["problem", "solver", "name", "figure", "better"], as_index=False)[["value", "line"]].median()


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _some(problems: list[str]) -> str:
    """The problems by name, or how many where a reader would not read them all; the table below shows which."""
    return _and(problems) if len(problems) <= MOST_NAMED else _n(len(problems), "problem")
