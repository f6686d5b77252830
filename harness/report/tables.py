"""Tables of the page as lists of plain values; the template only lays them out."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bilevelbench.store.frame import Results

from .style import MOST_COLOURED, Palette

CLASS = {0: "no derivatives", 1: "first order", 2: "second order"}


LOWER = ("phi", "phi_gap", "grad_phi", "gap", "stationarity", "violation")  # the judge's; f alone tells nothing


RUN = (  # columns of runs that are written beside the page
    "run", "problem", "family", "solver", "kind", "order", "tuned", "seed", "status", "fault", "reason", "ended_by",
    "attempts", "steps", "calls", "rows", "grads", "seconds", "cpu_seconds", "floor_seconds", "peak_bytes", "machine",
    "load", "reference",
)  # fmt: skip


def first(order: list[str], subject: str) -> list[str]:
    """The solvers that are coloured where there are many: those that rank first, and the one that is spoken about."""
    return list(dict.fromkeys([*order[: MOST_COLOURED - 1], *([subject] if subject in order else []), *order]))


def unsupported(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What cannot be run, a row for each solver, problem and reason; ``seeds`` says how many."""
    groups = runs.groupby(["solver", "problem", "reason"], sort=True)["seed"].nunique()
    return groups.rename("seeds").reset_index().to_dict("records")  # type: ignore[return-value]


def arrow(metric: str, better: dict[str, str]) -> str:
    """Which way is better, where there is one: an arrow down, up or nothing. ``better``: the problem's own figures."""
    way = "lower" if metric in LOWER else better.get(metric)
    return {"lower": "\u00a0↓", "higher": "\u00a0↑", None: ""}[way]  # on one line with the name


def number(value: Any, digits: int = 3) -> str:
    """A number for a table; an em dash where there is none, the infinity sign for what was never reached."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "—"
    if isinstance(value, float) and math.isinf(value):
        return "∞"
    return f"{value:.{digits}g}"


def size(value: float | None) -> str:
    """Bytes with a binary prefix."""
    if value is None or math.isnan(value):
        return "—"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    return ""


def leaders(table: pd.DataFrame, palette: Palette) -> list[dict[str, str]]:
    """The leader table, formatted."""
    rows = []
    for row in table.to_dict("records"):
        share = "—" if math.isnan(row["share"]) else f"{row['share']:.0%}"
        if not math.isnan(row["low"]):
            share += f" ({row['low']:.0%}–{row['high']:.0%})"
        rows.append(
            {
                "solver": row["solver"], "colour": palette.colour(row["solver"]), "class": CLASS.get(row["order"], "—"),
                "share": share, "cost": number(row["cost"], 3),
                "lead": "—" if math.isnan(row["lead"]) else f"{row['lead']:.0%}",
                "taken": "" if math.isnan(row["taken"]) or row["taken"] > 0.995 else f"{row['taken']:.0%}",
                "passed": str(row["passed"]), "unjudged": str(row["unjudged"]), "calls": number(row["calls_ratio"], 2),
                "passes": number(row["passes_ratio"], 2), "seconds": number(row["seconds_ratio"], 2),
                "grads": number(row["grads_ratio"], 2), "floor": number(row["over_floor"], 3),
                "memory": size(row["peak_bytes"]),
                "bytes": "" if pd.isna(row["peak_bytes"]) else f"{row['peak_bytes']:.0f}",
                "vectors": number(row["vectors"], 2),
                "failed": f"{row['failed']} of {row['runs']}", "unsupported": str(row["unsupported"]),
                "excused": str(row["excused"]),
            }
        )  # fmt: skip
    return rows


def duels(table: pd.DataFrame, palette: Palette) -> list[dict[str, str]]:
    """The duels of one solver, formatted."""

    def spread(row: Mapping[Hashable, Any]) -> str:
        sure = "" if math.isnan(row["low"]) else f" ({number(row['low'], 2)}–{number(row['high'], 2)})"
        return number(row["ratio"], 3) + sure

    return [
        {
            "solver": row["solver"], "colour": palette.colour(row["solver"]), "ratio": spread(row),
            "surely": f"{row['surely']:.0%}", "families": f"{row['wins']} : {row['ties']} : {row['losses']}",
            "only_one": f"{row['only_one']:.0%}", "only_other": f"{row['only_other']:.0%}",
        }
        for row in table.to_dict("records")
    ]  # fmt: skip


def reached(table: pd.DataFrame, order: list[str], palette: Palette) -> dict[str, Any]:
    """Problems x solvers, share of targets reached; the shade is the share. Many or long names stand upright."""
    solvers = [solver for solver in order if solver in table]
    rows = [
        {
            "problem": problem,
            "cells": [
                {"solver": s, "text": "n/a" if pd.isna(table.loc[problem, s]) else f"{table.loc[problem, s]:.0%}",
                 "shade": 0 if pd.isna(table.loc[problem, s]) else round(float(table.loc[problem, s]), 2)}
                for s in solvers
            ],
        }
        for problem in table.index
    ]  # fmt: skip
    names = [{"label": solver, "name": palette.name(solver)} for solver in solvers]
    upright = len(solvers) > 12 or any(len(name["name"]) > 16 for name in names)
    return {"solvers": names, "rows": rows, "upright": upright, "width": 12 + 2.6 * len(solvers)}


def memory(runs: pd.DataFrame) -> dict[str, Any]:
    """Bytes by problem and solver, the largest over seeds; columns that no run has are left out."""
    heads = {
        "peak_bytes": "peak", "solver_bytes": "the solver's own", "problem_bytes": "one answer of the problem",
        "state_bytes": "state", "growth_bytes": "growth a step", "cuda_bytes": "allocator", "process_bytes": "process",
    }  # fmt: skip
    shown = {name: head for name, head in heads.items() if name in runs and runs[name].notna().any()}
    largest = runs.groupby(["problem", "solver"], sort=True)[list(shown)].max().dropna(how="all")
    rows = [
        {"problem": problem, "solver": solver, "values": [size(float(row[name])) for name in shown]}
        for (problem, solver), row in zip(largest.index, largest.astype(float).to_dict("records"), strict=True)
    ]
    return {"heads": list(shown.values()), "rows": rows}


def final(runs: pd.DataFrame, looks: pd.DataFrame, metrics: list[str], palette: Palette) -> dict[str, Any]:
    """What every solver of a problem ends with: medians over seeds of each metric at the last good look."""
    rows = []
    for solver, group in runs.groupby("solver", sort=True):
        last = looks[looks["solver"] == solver]
        statuses = group["status"].value_counts().sort_index()
        rows.append(
            {
                "solver": solver, "colour": palette.colour(str(solver)), "asked": group["asked_solver"].iloc[0],
                "status": ", ".join(f"{n} {kind}" if n < len(group) else str(kind) for kind, n in statuses.items()),
                "steps": number(group["steps"].median(), 6), "calls": number(group["calls"].median(), 6),
                "grads": number(group["grads"].median(), 4),
                "seconds": number(group["seconds"].median(), 3),
                "values": [number(_median(last[m]) if m in last else None, 4) for m in metrics],
            }
        )  # fmt: skip
    return {"metrics": metrics, "rows": rows}


def _median(values: pd.Series) -> float:
    values = values.dropna()
    return float(np.median(values)) if len(values) else float("nan")


def provenance(data: Results) -> dict[str, Any]:
    """What was run, on what, with what: distinct values over all headers."""
    headers = [record.header or {} for record in data.records.values()]
    keys = [header["key"] for header in headers]

    def distinct(values: list[Any]) -> str:
        return ", ".join(sorted({str(value) for value in values if value not in (None, "")})) or "—"

    environment = {
        name: distinct([header.get("environment", {}).get(name) for header in headers])
        for name in (
            "bilevelbench",
            "commit",
            "python",
            "torch",
            "numpy",
            "scipy",
            "system",
            "cpu",
            "cores",
            "gpu",
            "cuda",
            "driver",
            "blas",
            "lock",
        )
    }
    loads = [(load, _cores(header)) for header, moment in _moments(data) if (load := _load(moment)) is not None]
    facts = {
        "command": distinct([header.get("command") for header in headers]),
        "suite": distinct([header.get("suite") for header in headers]),
        "made": " to ".join(sorted({min(c), max(c)}))
        if (c := [h["created"] for h in headers if h.get("created")])
        else "—",
        "seeds": distinct([key["seed"] for key in keys]),
        "device, dtype, threads": distinct([f"{key['device']}, {key['dtype']}, {key['threads']}" for key in keys]),
        **{name: value for name, value in environment.items() if value != "—"},
    }
    if any(header.get("environment", {}).get("dirty") for header in headers):
        facts["commit"] += " with uncommitted changes"
    if loads:
        cores = distinct([cores for _, cores in loads])
        facts["load"] = f"{min(loads)[0]:g} to {max(loads)[0]:g} on {cores} cores"
    for name in ("setup_seconds", "first_seconds", "warmup_seconds", "audit_seconds", "judge_seconds"):
        values = data.runs[name].dropna()
        if len(values):
            facts[name.replace("_", " ")] = f"median {values.median():.2g}, at most {values.max():.2g} (in no curve)"
    return {"facts": facts, "busy": any(load > cores for load, cores in loads)}


def _moments(data: Results) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each header with what the machine was like before its run, and after."""
    for record in data.records.values():
        header = record.header or {}
        yield header, header.get("environment", {})
        yield header, record.end.get("after") or {}


def _load(moment: dict[str, Any]) -> float | None:
    load = moment.get("load")
    return load[0] if isinstance(load, list) and load and isinstance(load[0], int | float) else None


def _cores(header: dict[str, Any]) -> int:
    return header.get("environment", {}).get("cores") or 1
