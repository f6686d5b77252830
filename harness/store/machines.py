"""Whose seconds may stand beside whose. Counts of all machines are pooled; seconds are those of one kind of machine.

Two machines are of one kind where processor, cores, GPU and its driver, torch and BLAS are the same, and known work
takes as long on both, to 3 %. Where runs of a problem come from several kinds its seconds are those of the kind with
the most runs: the others' are left out of every ratio, and a sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .journal import Record
from .summary import machine

CLOSE = 0.03  # relative: what known work may take more on one machine than on another of its kind
NAMED = ("torch", "blas", "driver")


def kinds(records: Mapping[str, Record]) -> dict[str, str]:
    """The kind of machine of each run.

    A record that does not say on which host it was made, as older ones do not, is of the first kind of its description.
    """
    said = {name: _environment(record) for name, record in records.items()}
    alike: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for found in said.values():
        hosts = alike.setdefault(_described(found), {})
        hosts.setdefault(str(found.get("host") or ""), []).extend(_work(found))
    names: dict[tuple[tuple[str, ...], str], str] = {}
    parts: dict[str, int] = {}
    for described, hosts in sorted(alike.items()):
        for members in _paces({host: float(np.median(work)) for host, work in hosts.items() if work}, hosts):
            parts[described[0]] = place = parts.get(described[0], 0) + 1
            name = described[0] if place == 1 else f"{described[0]} ({place})"
            names.update({(described, host): name for host in members})
    return {name: names[_described(found), str(found.get("host") or "")] for name, found in said.items()}


def one_clock(runs: pd.DataFrame, records: Mapping[str, Record]) -> tuple[list[str], set[str]]:
    """Leave out of ``runs`` the seconds that must be in no ratio; a sentence for each reason, and which runs these are.

    ``runs`` has the column machine, its kind. Those of runs that did not hold their cores go, too.
    """
    notes = []
    loose = runs["run"].map(lambda run: _environment(records[run]).get("held") == [])
    if loose.any():
        notes.append(
            f"{loose.sum()} of {len(runs)} runs shared their cores with others: their seconds are in no ratio."
        )
    drop = loose.copy()
    for problem, group in runs.groupby("problem", sort=True):
        count = group["machine"].value_counts()
        if len(count) > 1:
            main = min(count.index, key=lambda kind: (-count[kind], kind))
            drop |= (runs["problem"] == problem) & (runs["machine"] != main)
            others = " and ".join(sorted(kind for kind in count.index if kind != main))
            notes.append(
                f"{problem}: counts of {main} and {others} stand together, seconds are those of {main} alone: "
                "seconds of one kind of machine say nothing about another."
            )
    runs.loc[drop, ["seconds", "cpu_seconds", "floor_seconds"]] = np.nan
    return notes, set(runs.loc[drop, "run"])


def _environment(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = (record.header or {}).get("environment") or {}
    return found


def _described(environment: dict[str, Any]) -> tuple[str, ...]:
    return machine(environment), *(str(environment.get(name) or "") for name in NAMED)


def _work(environment: dict[str, Any]) -> list[float]:
    work = environment.get("work_seconds")
    return [float(work)] if isinstance(work, int | float) and work > 0 else []


def _paces(pace: dict[str, float], hosts: Mapping[str, Any]) -> list[list[str]]:
    """The hosts of one description by how fast they are, those that say nothing with the first."""
    groups: list[list[str]] = []
    for host in sorted(pace, key=lambda host: (pace[host], host)):
        if groups and pace[host] <= (1 + CLOSE) * pace[groups[-1][0]]:
            groups[-1].append(host)
        else:
            groups.append([host])
    silent = [host for host in sorted(hosts) if host not in pace]
    return [[*silent, *groups[0]], *groups[1:]] if groups else [silent]
