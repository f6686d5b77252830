"""The point that a run was told to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bilevelbench.core.errors import RequestError
from bilevelbench.store import files, points

from . import arguments

if TYPE_CHECKING:
    from bilevelbench.store.journal import Record


def point(records: Mapping[str, Record], run: str) -> dict[str, Any]:
    """Its arrays by name; ``RequestError`` where there are none, or they are of an earlier run of the same."""
    if run not in records:
        raise arguments.unknown("run", run, sorted(records))
    record = records[run]
    if record.status != "done":
        raise RequestError(f"run {run} ended as {record.status}; runs that are done keep a point")
    try:
        arrays, told = points.read(points.beside(record.path))
    except files.Unreadable as error:
        raise RequestError(f"run {run} kept no point (its file {error}); run it with keep='x,y'") from None
    if told.get("created") != (record.header or {}).get("created"):
        raise RequestError(f"the point beside run {run} is of another run of it; run it again with keep='x,y'")
    return arrays
