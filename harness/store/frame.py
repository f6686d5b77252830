"""Records of a folder as two tables: one row per run, and one per look."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .journal import Record, read
from .prices import price


class Results(NamedTuple):
    """``runs`` has one row per run, ``looks`` one per look (metrics as columns), both with the column ``run``.

    ``troubles`` holds a sentence for each file that is foreign or half-written; what is whole of it is in the tables.
    ``superseded`` counts runs left out because the same experiment was made again with later code. ``notes`` holds a
    sentence for whatever was kept apart because it must not be in one ratio. ``records`` keep their first and last row
    and those with iterates.
    """

    runs: pd.DataFrame
    looks: pd.DataFrame
    records: dict[str, Record]
    troubles: list[str]
    superseded: int
    notes: list[str]


LOOK = ("step", "seconds", "cpu_seconds", "total_calls", "status")
Columns = dict[str, np.ndarray]


def load(folder: Path, only: list[str] | None = None) -> Results:
    """Read the result files of a folder, or those of the given names. ``ValueError`` where there is no run to show."""
    records: list[Record] = []
    columns: dict[Path, Columns] = {}
    named = None if only is None else set(only)
    with _no_collector():
        for path in sorted(folder.glob("*.jsonl")):
            if named is None or path.name in named:
                record = read(path)
                columns[path] = _columns(record)
                record.rows = _kept(record.rows)  # a million rows as dictionaries are gigabytes
                records.append(record)
    troubles = [trouble for record in records for trouble in record.troubles]
    complete = [record for record in records if record.header is not None]
    whole = _latest(complete)
    if not whole:
        raise ValueError(f"{folder} holds no bilevelbench result; make some with `bilevelbench run --out {folder}`")
    runs = pd.DataFrame([_run(digest, record) for digest, record in whole.items()])
    runs, notes = _label(runs)
    runs["floor_seconds"], runs["grads"] = float("nan"), float("nan")
    own = {digest: columns[record.path] for digest, record in whole.items()}
    price(runs, own, whole)
    runs = runs.sort_values(["problem", "solver", "seed", "run"], ignore_index=True)
    looks = _join(own, runs.set_index("run"))
    return Results(runs, looks, whole, troubles, len(complete) - len(whole), notes + _clock(whole))


@contextmanager
def _no_collector() -> Iterator[None]:
    """What is read has no cycles, and to look for them again and again takes a fifth of the time of reading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _columns(record: Record) -> Columns:
    """The looks of a run; the row that only says how a run failed repeats a step and has no metrics."""
    rows = [row for row in record.rows if row["metrics"]]
    metrics = [row["metrics"] for row in rows]
    made: Columns = {name: np.array([row.get(name) for row in rows], float) for name in LOOK if name != "status"}
    made["status"] = np.array([sys.intern(row["status"]) for row in rows], object)
    for weight in ("calls", "rows"):
        counts = [row.get(weight) or {} for row in rows]
        made |= {f"{weight} {kind}": values for kind, values in _arrays(counts, 0, int).items()}
    return made | _arrays(metrics, None, float)


def _arrays(tables: list[dict[str, Any]], absent: Any, dtype: type) -> Columns:
    """An array for each key of any, in the order in which they come; faster where all have all, as is common."""
    names = dict.fromkeys(chain.from_iterable(tables))
    if len(names) > 1 and sum(map(len, tables)) == len(names) * len(tables):
        return dict(zip(names, np.array(list(map(itemgetter(*names), tables)), dtype).T, strict=True))
    return {name: np.array([table.get(name, absent) for table in tables], dtype) for name in names}


def _kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ends = {0, len(rows) - 1}
    return [row for k, row in enumerate(rows) if k in ends or row.get("x")]


def _join(columns: dict[str, Columns], runs: pd.DataFrame) -> pd.DataFrame:
    """All looks in one table, by run in the order of ``runs``, then by step.

    Runs with the same metrics are joined as arrays and names are categories, which is what a million rows need.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    labels = {name: pd.Categorical(runs.reset_index()[name]) for name in ("run", "problem", "solver")}
    places = {str(digest): place for place, digest in enumerate(runs.index)}
    for digest in places:
        own = columns[digest]
        if len(own["step"]):
            groups.setdefault(tuple(name for name in own if " " not in name), []).append(digest)
    tables = []
    for names, digests in groups.items():
        lengths = [len(columns[digest]["step"]) for digest in digests]
        table: dict[str, Any] = {name: np.concatenate([columns[digest][name] for digest in digests]) for name in names}
        own_places = np.repeat([places[digest] for digest in digests], lengths)
        for name, of_runs in labels.items():
            table[name] = of_runs[own_places]
        tables.append(pd.DataFrame({**table, "seed": runs["seed"].to_numpy()[own_places], "place": own_places}))
    first = ["run", *LOOK]
    if not tables:
        return pd.DataFrame(columns=[*first, "problem", "solver", "seed", "grads"])
    looks = pd.concat(tables, ignore_index=True).astype({"status": "category"})
    for name in ("step", "total_calls"):
        looks[name] = looks[name].astype(int)
    order = np.lexsort((looks["step"], looks.pop("place")))  # numbers sort ten times as fast as names
    looks = looks.take(order).reset_index(drop=True)
    return looks.reindex(columns=first + [name for name in looks.columns if name not in first])


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
    threads, environment = key["threads"], header.get("environment", {})
    return {
        "run": digest, "asked_problem": problem.get("given", ""), "asked_solver": solver.get("given", ""),
        "name": solver.get("name") or solver.get("given", "").partition("(")[0],
        "choices": solver.get("choices") or {}, "knobs": solver.get("knobs") or {}, "order": solver.get("order"),
        "seed": key["seed"], "device": key["device"], "dtype": key["dtype"], "threads": threads,
        "engine": key.get("engine", ""), "machine": machine(environment),
        "version": f"version {key.get('problem_version')}", "on": f"{threads} thread{'s' if threads != 1 else ''}",
        "status": record.status, "reason": last.get("reason", ""), "traceback": last.get("traceback", ""),
        "budget": ", ".join(f"{key[unit]} {unit}" for unit in ("steps", "seconds", "calls") if key.get(unit)),
        "ended_by": last.get("ended_by", ""), "steps": last.get("step"), "seconds": last.get("seconds"),
        "cpu_seconds": last.get("cpu_seconds"), "calls": last.get("total_calls"),
        **{name: memory.get(name) for name in BYTES}, "n_x": problem.get("n_x"), "n_y": problem.get("n_y"),
        **{name: first.get(name) for name in ("setup_seconds", "first_seconds", "warmup_seconds", "audit_seconds")},
        **{name: last.get(name) for name in ("judge_seconds", "overhead_seconds")},
        "load": (environment.get("load") or [None])[0],
    }  # fmt: skip


BYTES = ("peak_bytes", "solver_bytes", "problem_bytes", "state_bytes", "process_bytes", "cuda_bytes")


def machine(environment: dict[str, Any]) -> str:
    """What must be equal for seconds to be comparable: processor, cores, GPU."""
    parts = [environment.get("cpu"), f"{environment.get('cores')} cores", environment.get("gpu")]
    return ", ".join(part for part in parts if part)


APART = {
    "device": "", "dtype": "", "budget": "", "engine": "", "on": "",
    "version": "its numbers differ from version to version",
    "machine": "seconds of one machine say nothing about another",
}  # fmt: skip


def _label(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """``problem``: as asked for, with whatever must not be in one ratio where that is mixed: device, dtype, budget,
    engine, threads, version of the problem, machine. ``solver``: name and choices. And what was kept apart, why.

    Step sizes may differ under one label, from problem to problem. Where two specs would share a label within one
    problem, the knobs in which they differ are added.
    """
    runs, notes = runs.copy(), []
    runs["problem"] = runs["asked_problem"]
    for column, why in APART.items():
        mixed = runs.groupby("asked_problem")[column].transform("nunique") > 1
        runs.loc[mixed, "problem"] += ", " + runs.loc[mixed, column]
        if why and mixed.any():
            for problem, group in runs[mixed].groupby("asked_problem"):
                kinds = " and ".join(sorted(group[column].unique()))
                notes.append(f"{problem}: results of {kinds} are kept apart, in no ratio together: {why}.")
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
    return runs, notes


def _clock(records: dict[str, Record]) -> list[str]:
    """A sentence where a process's clock did not pass its check."""
    checks = [(record.header or {}).get("environment", {}).get("clock") or {} for record in records.values()]
    wrong = [check for check in checks if check.get("ok") is False]
    if not wrong:
        return []
    return [
        f"The check of the clock failed for {len(wrong)} of {len(checks)} runs (it read {wrong[0]}): "
        "do not trust their seconds."
    ]


def _bracket(name: str, choices: dict[str, Any]) -> str:
    return f"{name}[{','.join(f'{k}={v}' for k, v in sorted(choices.items()))}]" if choices else name
