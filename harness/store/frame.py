"""Records of a folder as two tables: one row per run, and one per look."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pandas as pd

from . import files, machines
from .blocks import read_block
from .journal import Record, shown
from .labels import growing, label
from .looks import Looks, Spool, Stored
from .prices import price
from .references import Known
from .summary import machine, row
from .text import clean, tidy

SHARED = ("problem", "solver", "prices")  # of a header: what many runs say alike


class Results(NamedTuple):
    """``runs`` has one row per run, ``looks`` one per look (metrics as columns), both with the column ``run``.

    ``looks.unjudged`` says why figures are missing that could not be judged, and is '' where none is. ``stored`` gives
    the looks of one problem at a time, which is what a report of ten million needs.

    ``troubles`` holds a sentence for each file that is foreign or half-written; what is whole of it is in the tables.
    ``superseded`` counts runs left out because the same experiment was made again with later code. ``notes`` holds a
    sentence for whatever was kept apart because it must not be in one ratio. ``records`` keep their first and last row
    and those with iterates.
    """

    runs: pd.DataFrame
    stored: Looks
    records: dict[str, Record]
    troubles: list[str]
    superseded: int
    notes: list[str]

    @property
    def looks(self) -> pd.DataFrame:
        """All looks in one table."""
        return self.stored.whole


def load(folders: Path | Sequence[Path], only: Collection[str] | None = None) -> Results:
    """Read the runs of folders and of their sub-folders, or those with the given stems (see ``RunKey.stem``).

    ``ValueError`` where there is no run to show.
    """
    places = [folders] if isinstance(folders, Path) else list(folders)
    records, alike = list[Record](), dict[bytes, Any]()
    spool, stored = Spool(), dict[Path, Stored]()
    with _no_collector():
        for path in dict.fromkeys(path for folder in places for path in files.records(folder)):
            if only is None or files.stem_of(path.name) in only:
                record, block = read_block(path)
                if record.header is None and not os.path.lexists(path):  # its run has ended while the others were read
                    continue
                stored[path] = spool.add(block)
                records.append(_shared(record, alike))
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
    _tidy(whole.values())
    runs["floor_seconds"], runs["grads"] = float("nan"), float("nan")
    priced = price(runs, whole)
    apart, silent = machines.one_clock(runs, whole)
    runs = runs.sort_values(["problem", "solver", "seed", "run"], ignore_index=True)
    looks = Looks(spool, {name: stored[record.path] for name, record in whole.items()}, runs, priced, silent)
    notes += [*apart, *growing(runs), *_clock(whole)]
    return Results(runs, looks, whole, troubles + faulty, len(complete) - len(whole), notes)


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


def _shared(record: Record, alike: dict[bytes, Any]) -> Record:
    """The record, in which what it says as others did stands for what they said: a problem, a solver, the files that a
    run has read. Of a hundred thousand runs these would be gigabytes."""
    for table, names in ((record.header or {}, SHARED), (record.end, ("manifest", "memory"))):
        for name in names:
            if table.get(name):
                table[name] = alike.setdefault(msgspec.json.encode(table[name]), table[name])
    return record


def _tidy(records: Iterable[Record]) -> None:
    """Have all texts of headers cleaned; what several share is cleaned once, and stays shared."""
    done: dict[int, tuple[Any, Any]] = {}  # with what it is of, so that no other takes its number
    for record in records:
        header = _header(record)
        for name in SHARED:
            if id(part := header.get(name)) not in done:
                done[id(part)] = part, tidy(part)
        record.header = {
            clean(name): done[id(part)][1] if name in SHARED else tidy(part) for name, part in header.items()
        }


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
