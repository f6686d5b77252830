"""The verdict: one paragraph, every clause of it backed by rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bilevelbench.stats.compare import FAILED, duels

SUBJECT = "bome"
NEEDED = "validation only"  # the reference line that a learning method must beat


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
        text += f"; it alone gets there on {_and(alone)}"
    if lost:
        text += f"; it does not get there on {_and(lost)}"
    return text + "."


def _failures(runs: pd.DataFrame) -> str:
    failed = runs[runs["status"].isin(FAILED)]
    if not len(failed):
        return "No run failed."
    kinds = failed["status"].value_counts().sort_index()
    which = _and([f"{n} {kind}" for kind, n in kinds.items()])
    return f"{_n(len(failed), 'run')} of {len(runs)} failed ({which}); they count as unsolved."


def _useful(references: pd.DataFrame) -> str:
    if not len(references):
        return ""
    parts = []
    for problem, group in references.groupby("problem", sort=True):
        better = sorted(group.loc[group["value"] > group["line"], "solver"])
        if better:
            parts.append(f"On {problem}, {_and(better)} beat training on the validation set alone.")
        else:
            parts.append(f"On {problem} no solver beats training on the validation set alone: nothing is shown there.")
    return " ".join(parts)


def against_references(runs: pd.DataFrame, final: pd.DataFrame, lines: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Median final accuracy of each solver against "validation only" of the same runs.

    Columns: problem, solver, value, line. ``lines``: per run, the reference lines of its header.
    """
    rows = []
    if "accuracy" in final:
        known = final.loc[final["accuracy"].notna(), ["run", "problem", "solver", "accuracy"]]
        for run, problem, solver, accuracy in known.itertuples(index=False):
            line = lines.get(run, {}).get(NEEDED, {}).get("accuracy")
            if line is not None:
                rows.append((problem, solver, accuracy, line))
    table = pd.DataFrame(rows, columns=["problem", "solver", "value", "line"])
    return table.groupby(["problem", "solver"], as_index=False).median()


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
