"""The looks of one run as numbers: an array with a row for each figure, out of its rows or straight out of its lines.

Rows as dictionaries take four times as long. So lines that are like those of most runs are decoded into objects of
exactly the figures that these have; whatever else a line may be, the reader of ``journal`` and ``shapes`` decides.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from .journal import Record, read, whole
from .schema import RUNNING, Count
from .shapes import ROW, ROW_FIELDS, ROW_NEEDS
from .text import apart, clean

TAKEN = {
    "run", "problem", "solver", "seed", "place", "grads", "step", "seconds", "cpu_seconds", "total_calls", "total_rows",
    "passes", "status", "unjudged",
}  # fmt: skip
NUMBERS = ("step", "seconds", "cpu_seconds", "total_calls")
WEIGHTS = ("calls", "rows", "kept")  # whole numbers by kind of call
FEWEST = 4  # rows from which on it is worth while
FIRST = (2, 12)  # rows that say in which order kinds of calls come; the second where the first do not
SAID = attrgetter("status", "x", "unjudged")
Row = dict[str, Any]
Keys = tuple[str, ...]


class Block(NamedTuple):
    """``values``, shape (names, looks): a row for each of ``names``, NaN where a look has none.

    Counts by kind are named ``calls\\0dg_y``, with rows and kept likewise. ``ended``: the status of the last look, for
    those before are running. ``unjudged``: a text for each look; None where there is none.
    """

    names: Keys
    values: np.ndarray
    ended: str
    unjudged: list[str] | None


def of_rows(rows: list[Row]) -> Block:
    """The looks among rows; the row that only says how a run failed repeats a step and has no metrics."""
    looks = [row for row in rows if row["metrics"]]
    figures: list[list[Any]] = [[row.get(name) for row in looks] for name in NUMBERS]
    figures += [[passes(row) for row in looks], [sum((row.get("rows") or {}).values()) for row in looks]]
    names: list[str] = [*NUMBERS, "passes", "total_rows"]
    for weight in WEIGHTS:
        counts = [row.get(weight) or {} for row in looks]
        for kind in _union(counts):
            names.append(f"{weight}\0{kind}")
            figures.append([count.get(kind, 0) for count in counts])
    metrics = [row["metrics"] for row in looks]
    known = _union(metrics)
    figures += [[values.get(name) for values in metrics] for name in known]
    values = np.array(figures, float).reshape(len(figures), len(looks))
    unjudged = [sys.intern(clean(row.get("unjudged", ""))) for row in looks]
    ended = sys.intern(looks[-1]["status"]) if looks else RUNNING
    return Block((*names, *_shown(known)), values, ended, unjudged if any(unjudged) else None)


def passes(row: Row) -> float:
    """All passes so far; NaN in older files."""
    known: dict[str, float] = row.get("passes") or {}
    return float(sum(known.values())) if known or not row.get("total_calls") else float("nan")


def kept(rows: list[Row]) -> list[Row]:
    """The ends, and rows with iterates: a million rows as dictionaries are gigabytes."""
    ends = {0, len(rows) - 1}
    return [row for k, row in enumerate(rows) if k in ends or row.get("x")]


def read_block(path: Path) -> tuple[Record, Block]:
    """A record that keeps the ends of its rows and those with iterates, and its looks."""
    found: list[tuple[Block, list[Row]]] = []

    def rows(lines: bytes) -> list[Row] | None:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if plain := usual(lines):
                found.append(plain)
                return plain[1]
        return whole(lines)

    record = read(path, rows)
    if found and record.rows is found[0][1]:
        return record, found[0][0]
    block = of_rows(record.rows)
    record.rows = kept(record.rows)
    return record, block


def usual(lines: bytes) -> tuple[Block, list[Row]] | None:
    """The looks and the ends of a run that was made to its end as most are; None for any other, or an error."""
    if lines.count(b"\n") < FEWEST:
        return None
    final = lines.rfind(b"\n", 0, -1) + 1
    for first in FIRST:
        *begin, _ = lines[:final].split(b"\n", first)
        ends = [ROW.decode(line) for line in (*begin, lines[final:])]
        tables = [_keys(table, ends) for table in (*WEIGHTS, "passes", "metrics")]
        if None not in tables:
            break
    shape = None if None in tables or ends[0].get("x") else _shape(tuple(keys or () for keys in tables))
    if shape is None:
        return None
    rows = shape.decode(lines)
    statuses, iterates, unjudged = zip(*map(SAID, rows), strict=True)
    if {*statuses[:-1]} != {RUNNING} or any(iterates):  # where the last one has figures it may be any
        return None
    values = shape.values(rows)
    if values is None:
        return None
    texts = [sys.intern(clean(text or "")) for text in unjudged] if any(unjudged) else None
    return Block(shape.names, values, sys.intern(statuses[-1]), texts), [ends[0], ends[-1]]


class Shape(NamedTuple):
    """How lines of one shape become numbers: their decoder, where their figures are, and what these are called.

    ``rising``: how many of the figures must not fall. ``groups``: where rows, passes and metrics are among them.
    """

    decode: Callable[[bytes], list[Any]]
    figures: Callable[[Any], tuple[Any, ...]]
    rising: int
    groups: tuple[slice, slice, slice]
    names: Keys
    order: np.ndarray

    def values(self, rows: list[Any]) -> np.ndarray | None:
        """The values of a block; None where rows are out of order, or lack what rows of this shape have."""
        found = np.array(list(map(self.figures, rows)), float).T
        change = np.diff(found[: self.rising])
        if (change < 0).any() or (change[0] <= 0).any():
            return None
        of_data, passes, metrics = (found[group] for group in self.groups)
        total, silent = passes.sum(axis=0), np.isnan(metrics).all(axis=0)
        unknown = (total == 0) & (found[NUMBERS.index("total_calls")] > 0)
        if silent.any() or (len(passes) and unknown.any()):
            return None
        total[unknown] = np.nan
        sums = np.array([total, of_data.sum(axis=0)])
        return np.concatenate([found[: len(NUMBERS)], sums, found[self.order]])


@lru_cache(256)
def _shape(tables: tuple[Keys, ...]) -> Shape | None:
    """The shape of rows with these kinds of calls, rows, kept and passes and these metrics; None where there is none,
    as of a name that has a quotation mark in it."""
    types = dict(ROW_FIELDS)
    for name, keys in zip((*WEIGHTS, "passes", "metrics"), tables, strict=True):
        kind, absent = (float | None, None) if name == "metrics" else (Count, 0)
        own = [(f"f{k}", kind, absent) for k in range(len(keys))]
        spelled = {f"f{k}": key for k, key in enumerate(keys)}
        try:
            types[name] = msgspec.defstruct(name, own, rename=spelled, forbid_unknown_fields=True, gc=False)
        except (ValueError, TypeError):
            return None
    fields: list[Any] = []
    for name, kind in types.items():
        if name in (*ROW_NEEDS, "kind"):
            fields.append((name, kind))
        else:
            absent = msgspec.field(default_factory=kind) if name in (*WEIGHTS, "passes") else None
            fields.append((name, kind, absent))
    decoder = msgspec.json.Decoder(msgspec.defstruct("Row", fields, kw_only=True, gc=False))
    places, paths = dict[str, slice](), list(NUMBERS)
    for name, keys in sorted(zip((*WEIGHTS, "passes", "metrics"), tables, strict=True), key=lambda t: t[0] == "kept"):
        places[name] = slice(len(paths), len(paths) + len(keys))  # calls and rows first: these must not fall
        paths += [f"{name}.f{k}" for k in range(len(keys))]
    order = [np.r_[places[name]] for name in (*WEIGHTS, "metrics")]
    shown = [f"{weight}\0{kind}" for weight, kinds in zip(WEIGHTS, tables, strict=False) for kind in kinds]
    return Shape(
        decoder.decode_lines, attrgetter(*paths), places["rows"].stop,
        (places["rows"], places["passes"], places["metrics"]),
        (*NUMBERS, "passes", "total_rows", *shown, *_shown(list(tables[-1]))), np.concatenate(order).astype(int),
    )  # fmt: skip


def _keys(table: str, ends: list[Row]) -> Keys | None:
    """The kinds of a table in the order in which they come, of the first rows and the last. None where it cannot be
    told, for several of them came in between."""
    *first, last = ({} if row.get(table) is None else row[table] for row in ends)
    known = dict.fromkeys(_union(first))
    later = [key for key in last if key not in known]
    return None if len(later) > 1 else (*known, *later)


def _union(tables: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))


def _shown(metrics: list[str]) -> list[str]:
    """Metrics as columns are called."""
    names = apart({name: f"{name} (metric)" if name in TAKEN else name for name in metrics})
    return [names[name] for name in metrics]
