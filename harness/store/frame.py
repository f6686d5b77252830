"""Records of a folder as two tables: one row per run, and one per look."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from .journal import Record, read_folder


class Results(NamedTuple):
    """``runs`` has one row per run, ``looks`` one per look (metrics as columns), both with the column ``run``.

    ``troubles`` holds a sentence for each file that is foreign or half-written; what is whole of it is in the tables.
    ``superseded`` counts runs left out because the same experiment was made again with later code.
    """

    runs: pd.DataFrame
    looks: pd.DataFrame
    records: dict[str, Record]
    troubles: list[str]
    superseded: int


LOOK = ("step", "seconds", "cpu_seconds", "total_calls", "status")


def load(folder: Path, only: list[str] | None = None) -> Results:
    """Read the result files of a folder, or those of the given names. ``ValueError`` where there is no run to show."""
    records = [record for record in read_folder(folder) if only is None or record.path.name in only]
    troubles = [record.trouble for record in records if record.trouble]
    complete = [record for record in records if record.header is not None]
    whole = _latest(complete)
    if not whole:
        raise ValueError(f"{folder} holds no bilevelbench result; make some with `bilevelbench run --out {folder}`")
    runs = pd.DataFrame([_run(digest, record) for digest, record in whole.items()])
    runs = _label(runs).sort_values(["problem", "solver", "seed", "run"], ignore_index=True)
    looks = pd.DataFrame([look for digest, record in whole.items() for look in _looks(digest, record)])
    columns = ["run", *LOOK]
    looks = looks.reindex(columns=columns + [c for c in looks.columns if c not in columns])
    looks = looks.merge(runs[["run", "problem", "solver", "seed"]], on="run")
    looks = looks.sort_values(["problem", "solver", "seed", "run", "step"], ignore_index=True)
    return Results(runs, looks, whole, troubles, len(complete) - len(whole))


def _latest(records: list[Record]) -> dict[str, Record]:
    """By digest, of each experiment the record made last: results of older code do not stand beside those of newer."""
    latest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: str((record.header or {}).get("created", ""))):
        key = {name: value for name, value in (record.header or {})["key"].items() if name != "code"}
        latest[json.dumps(key, sort_keys=True)] = record
    return {str((record.header or {})["digest"]): record for record in latest.values()}


def _run(digest: str, record: Record) -> dict[str, Any]:
    header = record.header or {}
    key, problem, solver = header["key"], header["problem"], header["solver"]
    first, last = (record.rows[0], record.rows[-1]) if record.rows else ({}, {})
    memory = first.get("memory") or {}
    return {
        "run": digest, "asked_problem": problem.get("given", ""), "asked_solver": solver.get("given", ""),
        "name": solver.get("name") or solver.get("given", "").partition("(")[0],
        "choices": solver.get("choices") or {}, "knobs": solver.get("knobs") or {}, "order": solver.get("order"),
        "seed": key["seed"], "device": key["device"], "dtype": key["dtype"], "threads": key["threads"],
        "status": record.status, "reason": last.get("reason", ""), "traceback": last.get("traceback", ""),
        "budget": ", ".join(f"{key[unit]} {unit}" for unit in ("steps", "seconds", "calls") if key.get(unit)),
        "ended_by": last.get("ended_by", ""), "steps": last.get("step"), "seconds": last.get("seconds"),
        "calls": last.get("total_calls"), "peak_bytes": memory.get("peak_bytes"),
        "state_bytes": memory.get("state_bytes"), "n_x": problem.get("n_x"), "n_y": problem.get("n_y"),
        "setup_seconds": first.get("setup_seconds"), "warmup_seconds": first.get("warmup_seconds"),
        "load": (header.get("environment", {}).get("load") or [None])[0],
    }  # fmt: skip


def _looks(digest: str, record: Record) -> list[dict[str, Any]]:
    """The looks of a run; the row that only says how a run failed repeats a step and has no metrics."""
    return [{"run": digest} | {k: row.get(k) for k in LOOK} | row["metrics"] for row in record.rows if row["metrics"]]


def _label(runs: pd.DataFrame) -> pd.DataFrame:
    """``problem``: as asked for, with device, dtype, budget where these are mixed. ``solver``: name and choices.

    Step sizes may differ under one label, from problem to problem. Where two specs would share a label within one
    problem, the knobs in which they differ are added.
    """
    runs = runs.copy()
    runs["problem"] = runs["asked_problem"]
    for column in ("device", "dtype", "budget"):
        mixed = runs.groupby("asked_problem")[column].transform("nunique") > 1
        runs.loc[mixed, "problem"] += ", " + runs.loc[mixed, column]
    runs["solver"] = [_bracket(name, choices) for name, choices in zip(runs["name"], runs["choices"], strict=True)]
    for _, group in runs.groupby(["problem", "solver"]):
        if group["asked_solver"].nunique() > 1:
            differing = sorted(
                {
                    k
                    for knobs in group["knobs"]
                    for k in knobs
                    if len({repr(other.get(k)) for other in group["knobs"]}) > 1
                }
            )
            for index, knobs in zip(group.index, group["knobs"], strict=True):
                extra = {k: knobs.get(k) for k in differing}
                runs.loc[index, "solver"] = _bracket(runs.loc[index, "name"], {**runs.loc[index, "choices"], **extra})
    return runs


def _bracket(name: str, choices: dict[str, Any]) -> str:
    return f"{name}[{','.join(f'{k}={v}' for k, v in sorted(choices.items()))}]" if choices else name
