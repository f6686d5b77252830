"""What a claim's figure is, of one run: a number read off its looks."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

from bilevelbench.store.frame import Results

from .papers import Cell

PER_STEP = "seconds per step"


def figure(data: Results, run: Any, cell: Cell) -> float | None:
    """One run's figure; None where it has not got it."""
    if cell.figure == PER_STEP:
        return float(run.cpu_seconds / run.steps) if run.steps and pd.notna(run.cpu_seconds) else None
    looks = data.looks[data.looks["run"] == run.run]
    if isinstance(cell.figure, str):
        return _read(_column(data, run, looks, cell.figure), looks, cell.at)
    assert isinstance(cell.published, tuple)
    apart = []
    for name, value in zip(cell.figure, cell.published, strict=True):
        found = _read(_column(data, run, looks, name), looks, cell.at)
        if found is None:
            return None
        apart.append(abs(found - value))
    return max(apart)


def _column(data: Results, run: Any, looks: pd.DataFrame, name: str) -> pd.Series:
    """A figure by step."""
    if coordinate := re.fullmatch(r"([xy])\[(\d+)\]", name):
        rows = [row for row in data.records[run.run].rows if row.get(coordinate[1])]
        place = int(coordinate[2])
        return pd.Series({row["step"]: row[coordinate[1]][place] for row in rows}, dtype=float)
    if name not in looks:
        return pd.Series(dtype=float)
    return looks.set_index("step")[name].astype(float).dropna()


def _read(column: pd.Series, looks: pd.DataFrame, at: str | int) -> float | None:
    """A curve as one number, see ``Cell``."""
    if not len(column):
        return None
    if isinstance(at, int):
        return float(column[at]) if at in column.index else None
    way, _, name = at.partition(" ")
    if name:
        by = looks.set_index("step")[name].astype(float).reindex(column.index) if name in looks else column * math.nan
        by = by.dropna()
        return float(column[by.index[int(by.argmin() if way == "least" else by.argmax())]]) if len(by) else None
    if way == "swing":
        late = column[column.index >= column.index.max() / 2]
        return float(late.max() - late.min())
    return float({"end": column.iloc[-1], "least": column.min(), "most": column.max()}[way])
