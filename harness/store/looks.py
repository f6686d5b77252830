"""The looks of all runs, as a table of one problem at a time: what is not asked for lies in a file.

Ten million looks are more than most memories hold beside what is made of them, and nothing looks at two problems at
once. As tables they are labelled: what runs are called is known when the last one has been read.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from .blocks import NUMBERS, WEIGHTS, Block
from .prices import Priced, floor
from .schema import RUNNING

LOOK = ("step", "seconds", "cpu_seconds", "total_calls", "status")
FIRST = ("run", *LOOK)  # columns
LAST = ("grads", "problem", "solver", "seed")
IN_MEMORY = 32 * 2**20  # bytes of numbers that no file is made for
SECONDS = ("seconds", "cpu_seconds")


class Stored(NamedTuple):
    """A block without its values, which are at ``at`` in the file."""

    at: int
    length: int
    names: tuple[str, ...]
    ended: str
    unjudged: list[str] | None


class Spool:
    """Values of blocks in the order in which they come: in memory while they are few, then in a file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # it lives as long as the looks
        self._size = 0

    def add(self, block: Block) -> Stored:
        """Keep the values of a block."""
        at, data = self._size, block.values.tobytes()
        self._file.write(data)
        self._size += len(data)
        return Stored(at, block.values.shape[1], block.names, block.ended, block.unjudged)

    def values(self, stored: Stored) -> np.ndarray:
        """The values of a block, shape (names, looks)."""
        self._file.seek(stored.at)
        data = self._file.read(8 * len(stored.names) * stored.length)
        return np.frombuffer(data).reshape(len(stored.names), stored.length)


class Looks:
    """The looks of runs.

    ``runs``: has run, problem, solver and seed, in the order that the tables follow; ``stored``: by run. ``priced``:
    what a gradient equivalent is, by problem. ``silent``: runs whose seconds are in no ratio.
    """

    def __init__(
        self, spool: Spool, stored: dict[str, Stored], runs: pd.DataFrame, priced: dict[str, Priced], silent: set[str]
    ) -> None:
        self._spool, self._stored, self._priced, self._silent = spool, stored, priced, silent
        self._runs = runs[["run", "problem", "solver", "seed"]].reset_index(drop=True)
        self._run = self._runs["run"].tolist()
        self._names = {name: pd.Categorical(self._runs[name]) for name in ("run", "problem", "solver")}
        places = self._runs.groupby("problem", sort=False).indices
        self._places = {str(problem): np.asarray(own) for problem, own in places.items()}
        own = [stored[run] for run in self._run if stored[run].length]
        self.columns = _columns(dict.fromkeys(one.names for one in own))
        statuses = {one.ended for one in own} | {RUNNING for one in own if one.length > 1}
        texts = {text for one in own for text in (one.unjudged or [""])}
        self._statuses, self._texts = sorted(statuses), sorted(texts)
        self._last: tuple[str, pd.DataFrame] | None = None
        self._ends: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = {}

    @property
    def problems(self) -> list[str]:
        """The problems in the order of the runs."""
        return list(self._places)

    def __len__(self) -> int:
        return sum(map(self.length, self.problems))

    def length(self, problem: str) -> int:
        """How many looks there are at runs of a problem."""
        return sum(self._stored[self._run[place]].length for place in self._places[problem])

    def of(self, problem: str) -> pd.DataFrame:
        """The looks at the runs of a problem, by run in the order of the runs, then by step."""
        if self._last is None or self._last[0] != problem:
            table = self._table(problem, self._places[problem])
            self._last = problem, table
            if problem not in self._ends:
                by_run = table.groupby("run", observed=True)
                self._ends[problem] = (by_run.first(), by_run.last()) if len(table) else (table, table)
        return self._last[1]

    def __iter__(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each problem with its looks."""
        for problem in self.problems:
            yield problem, self.of(problem)

    @cached_property
    def whole(self) -> pd.DataFrame:
        """All looks in one table."""
        return self._together([table for _, table in self])

    def firsts(self) -> pd.DataFrame:
        """The first value of each column, by run."""
        return self._ended(0)

    def lasts(self) -> pd.DataFrame:
        """The last value of each column, by run."""
        return self._ended(1)

    def only(self, runs: pd.DataFrame) -> Looks:
        """The looks of some of the runs."""
        return Looks(self._spool, self._stored, runs, self._priced, self._silent)

    def _ended(self, which: int) -> pd.DataFrame:
        for problem in self.problems:
            if problem not in self._ends:
                self.of(problem)
        tables = [ends[which].reset_index() for ends in self._ends.values() if len(ends[which])]
        return self._together(tables).sort_values("run", ignore_index=True)

    def _together(self, tables: list[pd.DataFrame]) -> pd.DataFrame:
        some = [table for table in tables if len(table)]
        if not some:
            return pd.DataFrame(columns=self.columns)
        return pd.concat(some, ignore_index=True).reindex(columns=self.columns)

    def _table(self, problem: str, places: np.ndarray) -> pd.DataFrame:
        """Runs with the same figures are joined as arrays, and names are categories: a million looks need that."""
        groups: dict[tuple[str, ...], list[int]] = {}
        for place in places:
            one = self._stored[self._run[place]]
            if one.length:
                groups.setdefault(one.names, []).append(place)
        tables = [self._group(problem, names, np.array(own)) for names, own in groups.items()]
        if not tables:
            return pd.DataFrame(columns=self.columns)
        looks = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
        if len(tables) > 1:  # numbers sort ten times as fast as names
            looks = looks.take(np.lexsort((looks["step"], looks["place"]))).reset_index(drop=True)
        return looks[[name for name in self.columns if name in looks]]

    def _group(self, problem: str, names: tuple[str, ...], places: np.ndarray) -> pd.DataFrame:
        runs = [self._run[place] for place in places]
        own = [self._stored[run] for run in runs]
        values = dict(zip(names, np.concatenate([self._spool.values(one) for one in own], axis=1), strict=True))
        lengths = np.array([one.length for one in own])
        spread, ends = places.repeat(lengths), lengths.cumsum() - 1
        silent = np.array([run in self._silent for run in runs]).repeat(lengths)
        running = self._statuses.index(RUNNING) if RUNNING in self._statuses else 0
        statuses: npt.NDArray[np.int64] = np.full(len(spread), running, np.int64)
        statuses[ends] = [self._statuses.index(one.ended) for one in own]
        table: dict[str, Any] = {name: column for name, column in values.items() if "\0" not in name}
        for name in SECONDS:
            table[name] = np.where(silent, np.nan, table[name])
        for name in ("step", "total_calls"):
            table[name] = table[name].astype(int)
        table["status"] = pd.Categorical.from_codes(statuses, pd.Index(self._statuses))
        table["unjudged"] = pd.Categorical.from_codes(self._reasons(own), pd.Index(self._texts))
        prices, unit = self._priced[problem]
        table["grads"] = np.zeros(len(spread)) + floor(prices, *(_by_kind(values, w) for w in WEIGHTS)) / unit
        table |= {name: labels[spread] for name, labels in self._names.items()}
        return pd.DataFrame(table | {"seed": self._runs["seed"].to_numpy()[spread], "place": spread})

    def _reasons(self, own: Sequence[Stored]) -> npt.NDArray[np.int64]:
        codes = {text: code for code, text in enumerate(self._texts)}
        texts = itertools.chain.from_iterable(one.unjudged or [""] * one.length for one in own)
        return np.array([codes[text] for text in texts], np.int64)


def _by_kind(values: dict[str, np.ndarray], weight: str) -> dict[str, np.ndarray]:
    weight += "\0"
    return {name.removeprefix(weight): column for name, column in values.items() if name.startswith(weight)}


def _columns(shapes: dict[tuple[str, ...], None]) -> list[str]:
    """The columns of a table of all looks: those of every run, then metrics as they come."""
    found = dict.fromkeys([*FIRST, *(() if shapes else ("unjudged",))])
    for names in shapes:
        shown = [name for name in names if "\0" not in name and name not in NUMBERS]
        found |= dict.fromkeys([*shown[:2], "unjudged", *shown[2:], *LAST])
    found |= dict.fromkeys(["problem", "solver", "seed", "grads"])
    return list(found)
