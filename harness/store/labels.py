"""What runs are called in a report, and which of them must not stand in one ratio."""

from __future__ import annotations

import zlib
from itertools import combinations
from typing import Any

import pandas as pd

from .sights import sights
from .text import apart

APART = {
    "device": "", "dtype": "", "budget": "", "engine": "", "on": "",
    "version": "its numbers differ from version to version",
}  # fmt: skip
LONG = 28  # characters of a name in a figure
MOST_TRIED = 20  # knobs of which two or three are sought that tell settings apart
GROWING = 8.0  # bytes a step: a number kept at every step


def label(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """``problem``: as asked for, with whatever must not be in one ratio where that is mixed: device, dtype, budget,
    engine, threads, version of the problem, what was seen of it. ``solver``: name and choices. And what was
    kept apart, why.

    Step sizes may differ under one label, from problem to problem. Where two specs would share a label within one
    problem, the knobs in which they differ are added. ``short`` is the solver's name for figures.
    """
    runs = runs.copy()
    names = _shown(runs["asked_problem"])
    runs["problem"] = names
    notes = []
    for column, why in APART.items():
        mixed = runs.groupby("asked_problem")[column].transform("nunique") > 1
        runs.loc[mixed, "problem"] += ", " + runs.loc[mixed, column]
        if why and mixed.any():
            for problem, group in runs[mixed].groupby(names[mixed]):
                kinds = " and ".join(sorted(group[column].unique()))
                notes.append(f"{problem}: results of {kinds} are kept apart, in no ratio together: {why}.")
    for _, group in runs.groupby("asked_problem"):
        seen, what = sights(group)
        if what:
            runs.loc[group.index, "problem"] += [f", data {sight}" for sight in seen]
            notes.append(
                f"{names[group.index[0]]}: not all runs saw the same problem ({what}); "
                "they are kept apart, in no ratio together."
            )
    runs["problem"] = _shown(runs["problem"])
    full = pd.Series(
        [bracket(n, c) for n, c in zip(runs["name"], runs["choices"], strict=True)], runs.index, dtype=object
    )
    short = full.copy()
    alike = [runs["problem"], full]
    several = runs.groupby(alike)["spec"].transform("nunique") > 1
    for _, group in runs[several].groupby([keys[several] for keys in alike]):
        for index, whole, brief in zip(group.index, *_told_apart(group), strict=True):
            full[index], short[index] = whole, brief
    runs["solver"] = _shown(full)
    runs["short"] = runs["solver"].map(apart(dict(zip(runs["solver"], short, strict=True)), LONG))
    return runs, notes


def _shown(texts: pd.Series) -> pd.Series:
    return texts.map(apart({text: text for text in texts.unique()}))


def bracket(name: str, choices: dict[str, Any], more: str = "") -> str:
    """A name with choices: ``bome[lr=0.1]``."""
    inner = [f"{knob}={_value(value)}" for knob, value in sorted(choices.items())] + ([more] if more else [])
    return f"{name}[{','.join(inner)}]" if inner else name


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _told_apart(group: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Names, whole and short, of runs of several specs that share one: with all knobs in which they differ, and with as
    few of them as tell them apart. Where no knob does, with the file, or with digits that stand for the spec."""
    specs: dict[str, dict[str, Any]] = {row["spec"]: row for row in group.to_dict("records")}  # type: ignore[misc]
    knobs = {spec: _known(row["knobs"]) for spec, row in specs.items()}
    every = sorted({knob for settings in knobs.values() for knob in settings})
    differing = [k for k in every if len({settings.get(k) for settings in knobs.values()}) > 1]
    few = next(
        (
            list(some)
            for n in range(1, 4)
            for some in combinations(differing[:MOST_TRIED], n)
            if len({tuple(settings.get(k) for k in some) for settings in knobs.values()}) == len(specs)
        ),
        differing,
    )
    heads = {spec: spec.partition("(")[0] for spec in specs}
    marks = heads if len(set(heads.values())) == len(specs) else {spec: f"#{_digits(spec)}" for spec in specs}
    whole = {spec: _with(row, differing) for spec, row in specs.items()}
    if len(set(whole.values())) < len(specs):  # no knob tells them apart, or not in so few digits
        whole = brief = {spec: _with(row, differing, marks[spec]) for spec, row in specs.items()}
    else:
        brief = {spec: f"{_with(row, few)[:-1]},…]" for spec, row in specs.items()}
    short = {
        spec: brief[spec] if len(text) > LONG and len(few) < len(differing) else text for spec, text in whole.items()
    }
    return [whole[spec] for spec in group["spec"]], [short[spec] for spec in group["spec"]]


def _with(run: dict[str, Any], chosen: list[str], mark: str = "") -> str:
    return bracket(run["name"], run["choices"] | {knob: run["knobs"].get(knob) for knob in chosen}, mark)


def _known(settings: dict[str, Any]) -> dict[str, str]:
    return {knob: repr(settings[knob]) for knob in sorted(settings)}


def _digits(text: str) -> str:
    return f"{zlib.crc32(text.encode(errors='backslashreplace')):08x}"


def growing(runs: pd.DataFrame) -> list[str]:
    """A sentence for each solver that holds more with every step."""
    notes = []
    for solver, own in runs[runs["growth_bytes"].astype(float) >= GROWING].groupby("solver"):
        most = max(own.to_dict("records"), key=lambda run: float(run["growth_bytes"]))
        others = own["problem"].nunique() - 1
        notes.append(
            f"{solver} grows: on {most['problem']} it holds {most['growth_bytes']:.3g} bytes more with every step"
            f"{f', and it grows on {others} more' if others else ''}. Its peak says how long it was measured."
        )
    return notes
