"""What a verdict has to be read with: failures, what could not be judged, how knobs were chosen."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bilevelbench.stats.compare import Hanging
from bilevelbench.stats.targets import not_run
from bilevelbench.store.schema import FAILED

from .words import both, count, some


def failures(runs: pd.DataFrame) -> str:
    """How many runs failed, how, and whose fault it was."""
    refused = (runs["status"] == "unsupported") & (runs["fault"] != "")
    failed = runs[runs["status"].isin(FAILED) | refused]
    if not len(failed):
        return "No run failed."
    excused = not_run(failed)
    parts = []
    if not excused.all():
        own = failed[~excused]
        parts.append(f"{count(len(own), 'run')} of {len(runs)} failed ({_kinds(own)}); they count as unsolved.")
    if excused.any():
        others = failed[excused]
        counts = "it counts" if len(others) == 1 else "they count"
        parts.append(
            f"{count(len(others), 'run')} ended through no solver's fault ({_kinds(others)}); {counts} for none."
        )
    return " ".join(parts)


def _kinds(runs: pd.DataFrame) -> str:
    return both([f"{n} {kind}" for kind, n in runs["status"].value_counts().sort_index().items()])


def judge(hit: pd.DataFrame, hanging: Hanging) -> str:
    """What hangs on looks that could not be judged."""
    blind = int(hit["unjudged"].sum()) if len(hit) else 0
    if not blind:
        return ""
    said = [name or "nobody" for words, name in hanging.otherwise if words.startswith("with all that could not")]
    effect = f"were they held, {said[0]} would win" if said else "were they all held, the winner would be the same"
    hang = "hangs" if blind == 1 else "hang"
    what = f"{count(blind, 'target')} of {len(hit)} {hang} on looks that could not be judged and"
    return f"{what} {'counts' if blind == 1 else 'count'} as not held; {effect}."


def idle(runs: pd.DataFrame, starts: pd.DataFrame) -> str:
    """Which targets that problems set are met by their start, so that there is nothing to reach: most often one that
    was set in the wrong direction. ``starts``: the first figures of each run."""
    first, found = starts.set_index("run"), {}
    for run, problem, aims in zip(runs["run"], runs["problem"], runs["aims"], strict=True):
        for figure, (goal, better, kind) in aims.items():
            start = first[figure].get(run) if figure in first else None
            met = start is not None and (start >= goal if better == "higher" else start <= goal)
            if kind == "target" and met:
                found[problem, figure] = f"the target {figure} = {goal:.3g} of {problem} ({better} is better)"
    if not found:
        return ""
    what, verb = some(sorted(found.values()), "target"), "is" if len(found) == 1 else "are"
    return (
        f"{what[:1].upper()}{what[1:]} {verb} met by the start already, and so decide{'s' * (len(found) == 1)} nothing."
    )


def tuning(runs: pd.DataFrame) -> str:
    """Where what was tuned meets what was not, and what was chosen at the end of what was tried."""
    if "tuned" not in runs or not runs["tuned"].isin([True, "edge"]).any():
        return ""
    parts = []
    bare = sorted(runs.loc[runs["tuned"].eq(False), "solver"].unique())
    if bare:
        verb = "was" if len(bare) == 1 else "were"
        parts.append(f"{some(bare, 'solver')} {verb} not tuned here, the others were (`run --tune` tunes alike).")
    edge = runs.loc[runs["tuned"].eq("edge"), ["problem", "solver"]].drop_duplicates()
    if len(edge):
        lie = "lies" if len(edge) == 1 else "lie"
        parts.append(f"{count(len(edge), 'choice')} of tuning {lie} at the edge of what was tried.")
    return " ".join(parts)


def doubts(
    parts: Mapping[str, str], runs: pd.DataFrame, busy: bool, superseded: int
) -> list[tuple[str, str]]:  # fmt: skip
    """What makes a verdict uncertain, to stand beside it: each sentence with the part of the page behind it.

    ``parts``: of the verdict; ``busy``: whether the machine was.
    """
    single = runs[runs["seeded"].astype(bool)].groupby("problem")["seed"].nunique().lt(2).sum()
    said = [
        ("The machine was busy: its load exceeded its cores. Compare calls rather than seconds." if busy else "",
         "provenance"),
        (parts.get("hanging", ""), "leaders"),
        (parts.get("failures", ""), "failures"),
        (parts.get("idle", ""), "targets"),
        (parts.get("judge", ""), "targets"),
        (parts.get("tuning", ""), "provenance"),
        (f"{count(int(single), 'problem')} of {runs['problem'].nunique()} {'was' if single == 1 else 'were'} seen with "
         "a single seed." if single else "", "targets"),
        (f"{count(superseded, 'run')} of earlier code left out: the same experiments were made again later."
         if superseded else "", "provenance"),
    ]  # fmt: skip
    return [(sentence, place) for sentence, place in said if sentence]
