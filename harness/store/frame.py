"""Records of a folder as two tables: one row per run, and one per look."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from . import files, machines
from .journal import Record, read, shown
from .labels import growing, label
from .prices import price
from .references import Known
from .summary import machine, row
from .text import apart, clean, tidy


class Results(NamedTuple):
    """``runs`` has one row per run, ``looks`` one per look (metrics as columns), both with the column ``run``.

    ``looks.unjudged`` says why figures are missing that could not be judged, and is '' where none is.

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


TAKEN = {
    "run", "problem", "solver", "seed", "place", "grads", "step", "seconds", "cpu_seconds", "total_calls", "total_rows",
    "passes", "status", "unjudged",
}  # fmt: skip
LOOK = ("step", "seconds", "cpu_seconds", "total_calls", "status")
Columns = dict[str, np.ndarray]


def load(folders: Path | Sequence[Path], only: Collection[str] | None = None) -> Results:
    """Read the runs of folders and of their sub-folders, or those with the given stems (see ``RunKey.stem``).

    ``ValueError`` where there is no run to show.
    """
    places = [folders] if isinstance(folders, Path) else list(folders)
    records: list[Record] = []
    columns: dict[Path, Columns] = {}
    with _no_collector():
        for path in dict.fromkeys(path for folder in places for path in files.records(folder)):
            if only is None or files.stem_of(path.name) in only:
                record = read(path)
                if record.header is None and not os.path.lexists(path):  # its run has ended while the others were read
                    continue
                columns[path] = _columns(record)
                record.rows = _kept(record.rows)  # a million rows as dictionaries are gigabytes
                records.append(record)
    troubles = [trouble for record in records for trouble in record.troubles]
    complete = [record for record in records if record.header is not None]
    whole = _latest(complete)
    if not whole:
        where = " and ".join(map(shown, places))
        said = f"{where} hold{'s' if len(places) == 1 else ''} no bilevelbench result"
        raise ValueError(f"{said}: {troubles[0]}" if troubles else f"{said}; make some with `bilevelbench run`")
    runs, notes = label(pd.DataFrame([row(name, record) for name, record in whole.items()]))
    runs["machine"] = runs["run"].map(machines.kinds(whole))
    known, faulty = Known.below(places)
    runs["reference"], runs["reference_how"] = zip(*map(known.of, map(_header, whole.values())), strict=True)
    for record in whole.values():
        record.header = tidy(record.header)
    runs["floor_seconds"], runs["grads"] = float("nan"), float("nan")
    own = {name: columns[record.path] for name, record in whole.items()}
    price(runs, own, whole)
    notes += machines.one_clock(runs, own, whole)
    runs = runs.sort_values(["problem", "solver", "seed", "run"], ignore_index=True)
    looks = _join(own, runs.set_index("run"))
    return Results(
        runs, looks, whole, troubles + faulty, len(complete) - len(whole), notes + growing(runs) + _clock(whole)
    )


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
    made["passes"] = np.array([_passes(row) for row in rows], float)
    made["total_rows"] = np.array([sum((row.get("rows") or {}).values()) for row in rows], float)
    made["unjudged"] = np.array([sys.intern(clean(row.get("unjudged", ""))) for row in rows], object)
    for weight in ("calls", "rows", "kept"):
        counts = [row.get(weight) or {} for row in rows]
        made |= {f"{weight}\0{kind}": values for kind, values in _arrays(counts, 0, int).items()}
    values = _arrays(metrics, None, float)
    names = apart({name: f"{name} (metric)" if name in TAKEN else name for name in values})
    return made | {names[name]: column for name, column in values.items()}


def _passes(row: dict[str, Any]) -> float:
    """All passes so far; NaN in older files."""
    known: dict[str, float] = row.get("passes") or {}
    return float(sum(known.values())) if known or not row.get("total_calls") else float("nan")


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
            groups.setdefault(tuple(name for name in own if "\0" not in name), []).append(digest)
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
        return pd.DataFrame(columns=[*first, "unjudged", "problem", "solver", "seed", "grads"])
    looks = pd.concat(tables, ignore_index=True).astype({"status": "category", "unjudged": "category"})
    for name in ("step", "total_calls"):
        looks[name] = looks[name].astype(int)
    order = np.lexsort((looks["step"], looks.pop("place")))  # numbers sort ten times as fast as names
    looks = looks.take(order).reset_index(drop=True)
    return looks.reindex(columns=first + [name for name in looks.columns if name not in first])


def _latest(records: list[Record]) -> dict[str, Record]:
    """Of each experiment on each machine the record made last, by its digest: results of older code do not stand beside
    those of newer, nor what was cut off or damaged beside what is whole."""
    latest: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda r: (not r.troubles, _header(r).get("created", ""))):
        key = {name: value for name, value in _header(record)["key"].items() if name != "code"}
        latest[json.dumps(key, sort_keys=True), machine(_header(record).get("environment", {}))] = record
    named: dict[str, Record] = {}
    for record in latest.values():
        digest = name = clean(_header(record)["digest"])
        while name in named:  # of another machine, or somebody has copied a line
            name = f"{digest}-{len(named)}"
        named[name] = record
    return named


def _header(record: Record) -> dict[str, Any]:
    return record.header or {}


def _clock(records: dict[str, Record]) -> list[str]:
    """A sentence where a process's clock did not pass its check."""
    checks = [_header(record).get("environment", {}).get("clock") or {} for record in records.values()]
    wrong = [check for check in checks if check.get("ok") is False]
    if not wrong:
        return []
    return [
        f"The check of the clock failed for {len(wrong)} of {len(checks)} runs (it read {wrong[0]}): "
        "do not trust their seconds."
    ]
