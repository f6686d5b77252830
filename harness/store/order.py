"""Rows in the order in which a run writes them, or as many of them as are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from .schema import RUNNING

MOST_WEIGHED = 1000  # rows of a damaged file of which the longest chain in order is sought
USUAL = (RUNNING, "done")
AUDITED, FOUND = ("done", "diverged", "timeout"), ("error", "lost")  # statuses that are audited, and what that may find

Rows = list[dict[str, Any]]


def in_order(rows: Rows) -> bool:
    """Whether each row can come after the one before; written for speed, where rows are like most."""
    for before, row in pairwise(rows):
        try:
            rises = (
                row["status"] in USUAL
                and before["status"] == RUNNING
                and row["step"] > before["step"]
                and row["seconds"] >= before["seconds"]
                and row["cpu_seconds"] >= before["cpu_seconds"]
                and row["total_calls"] >= before["total_calls"]
            )
            calls, rows_of_data = row["calls"], row["rows"]
            for kind, n in before["calls"].items():
                if calls[kind] < n:
                    rises = False
            for kind, n in before["rows"].items():
                if rows_of_data[kind] < n:
                    rises = False
        except (KeyError, TypeError):  # something is not said
            rises = False
        if not rises and not follows(row, before):
            return False
    return True


def follows(row: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a row can come after another: steps rise, seconds and counts do not fall, nothing comes after the end.

    The row that says how a run failed may stay at the step of the look before. What an audit found wrong is the last
    word on a run that had ended otherwise.
    """
    if before["status"] in AUDITED and row["status"] in FOUND:
        return bool(row["step"] == before["step"]) and not row.get("metrics")
    if before["status"] != RUNNING or row["step"] < before["step"]:
        return False
    if row["step"] == before["step"] and row["status"] in USUAL:
        return False
    counted = row["status"] in USUAL or bool(
        row["calls"]
    )  # where a run was ended from outside, nobody may have counted
    for name in ("seconds", "cpu_seconds", *(("total_calls",) if counted else ())):
        was = before.get(name)
        if was and (now := row.get(name)) is not None and now < was:
            return False
    return not counted or all(
        row.get(weight, {}).get(kind, 0) >= n
        for weight in ("calls", "rows")
        for kind, n in before.get(weight, {}).items()
    )


def chain(rows: Rows) -> set[int]:
    """The places of the most rows that are in order; of very many, of those that are in order with the first."""
    if len(rows) > MOST_WEIGHED:
        kept = [0]
        for k, row in enumerate(rows):
            if follows(row, rows[kept[-1]]):
                kept.append(k)
        return set(kept)
    best: list[tuple[int, int]] = []  # length of the longest chain that ends here, and the place before
    for k, row in enumerate(rows):
        best.append(max(((best[j][0] + 1, j) for j in range(k) if follows(row, rows[j])), default=(1, -1)))
    found, k = set(), max(range(len(rows)), key=lambda k: (best[k][0], rows[k]["status"] != RUNNING), default=-1)
    while k >= 0:
        found.add(k)
        k = best[k][1]
    return found
