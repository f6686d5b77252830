"""Figures over commits, from all that is kept: asv's result files, pytest-benchmark's JSON, a gate's baseline as git
knows it, folders of runs.

A table with a row for each figure of a commit: solver, problem, figure, unit, commit, when (seconds since 1970), value,
low and high (its interval, or the value), machine ('' where the figure is the same on every one), source.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from . import files, frame

COLUMNS = ["solver", "problem", "figure", "unit", "commit", "when", "value", "low", "high", "machine", "source"]
ASV_VERSION = 2  # of asv's result files
GATE_SCHEMA = 2  # of a gate's baseline
EXACT = ("calls", "bytes")  # units that are the same on every machine


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """The figures in files and folders, in the order of their commits' times. ``ValueError`` with a sentence on what
    cannot be read."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        rows += list(_of(path))
    if not rows:
        where = ", ".join(map(str, paths))
        raise ValueError(f"{where} hold{'s' if len(paths) == 1 else ''} no figure of a commit")
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table[table["value"].notna()].sort_values(["when", "commit"], kind="stable", ignore_index=True)


def _of(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        yield from _one(path, _json(path))
    elif not path.is_dir():
        raise ValueError(
            f"there is no file or folder {path}; --history takes results of asv, pytest-benchmark, gates or runs"
        )
    elif (path / "benchmarks.json").is_file():
        for file in sorted(path.glob("*/*.json")):
            if file.name != "machine.json":
                yield from _asv(file, _json(file), _json(path / "benchmarks.json"))
    elif any(path.rglob("*.jsonl")):
        yield from _runs(path)
    else:
        for file in sorted(path.rglob("*.json")):  # as pytest-benchmark's autosave lays them out
            yield from _one(file, _json(file))


def _one(path: Path, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (_gate if {"schema", "solvers", "versions"} <= set(content) else _benchmarks)(path, content)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(files.content(path)[1])
    except (ValueError, files.Unreadable):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON of asv or pytest-benchmark")
    return found


class Source(NamedTuple):
    """Where figures come from: whose, of which commit, when, on which machine, kept by what."""

    commit: str
    when: float
    machine: str
    source: str

    def row(self, of: tuple[str, str], figure: str, unit: str, *value: float | None) -> dict[str, Any]:
        """A figure of a (solver, problem): its value, and the ends of its interval where there is one."""
        numbers = [math.nan if one is None else float(one) for one in value]
        ends = numbers[1:] if len(numbers) == 3 and not math.isnan(sum(numbers[1:])) else numbers[:1] * 2
        where = "" if unit in EXACT else self.machine
        told = (*of, figure, unit, self.commit, self.when, numbers[0], *ends, where, self.source)
        return dict(zip(COLUMNS, told, strict=True))


def _asv(path: Path, content: dict[str, Any], about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if content.get("version") != ASV_VERSION or "results" not in content:
        raise ValueError(f"{path} has version {content.get('version')!r} of asv's results, this reads {ASV_VERSION}")
    machine = str(content.get("params", {}).get("machine", path.parent.name))
    source = Source(content["commit_hash"], content["date"] / 1000, machine, "asv")
    for name, packed in content["results"].items():
        found = dict(zip(content["result_columns"], packed, strict=False))
        told = about.get(name, {})
        names, unit = told.get("param_names", []), str(told.get("unit", ""))
        cells = list(itertools.product(*(found.get("params") or [])))
        values = found.get("result") or [None] * len(cells)
        for k, (cell, value) in enumerate(zip(cells, values, strict=False)):
            which = dict(zip(names, (text.strip("'\"") for text in cell), strict=False))
            ends = [(found.get(f"stats_ci_99_{end}") or [None] * len(cells))[k] for end in "ab"]
            known = all(_finite(one) for one in ends)
            of = which.get("solver", ""), which.get("problem", "")
            yield source.row(of, name, unit, value, *(ends if known else []))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def machine_of(content: dict[str, Any]) -> str:
    """What a machine is known by in a file of pytest-benchmark: processor, cores, Python. A hosted runner's name is
    none, for another machine answers to it tomorrow."""
    info = content.get("machine_info", {})
    told, cpu = info.get("identity") or {}, info.get("cpu") or {}
    model, cores = told.get("cpu") or cpu.get("brand_raw", ""), told.get("cores") or cpu.get("count", "")
    return ", ".join(str(part) for part in (model, cores, info.get("python_version", "")) if part)


def _benchmarks(path: Path, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not {"benchmarks", "machine_info", "commit_info"} <= set(content):
        raise ValueError(f"{path} is no file of pytest-benchmark; make one with `pytest --benchmark-json {path}`")
    commit = content["commit_info"]
    if not commit.get("id"):
        raise ValueError(f"{path} names no commit: it was made outside of a git repository")
    when = _seconds(commit.get("time") or content["datetime"])
    source = Source(commit["id"], when, machine_of(content), "pytest-benchmark")
    for bench in content["benchmarks"]:
        extra, name = bench.get("extra_info") or {}, re.sub(r"\[.*", "", bench["name"])
        layer = f"{name}, {extra['layer']}" if extra.get("layer") else name
        of, stats = (str(extra.get("solver", "")), str(extra.get("problem", ""))), bench["stats"]
        if not extra.get("layer"):  # a gate's layers are judged by what is in extra_info, not by their seconds
            yield source.row(of, f"{layer}, seconds", "s", stats.get("median"), stats.get("q1"), stats.get("q3"))
        if extra.get("interval"):
            yield source.row(of, f"{layer}, ratio", "ratio", *extra["interval"])
        for figure in EXACT:
            if _finite(extra.get(figure)):
                yield source.row(of, f"{layer}, {figure}", figure, extra[figure])


def _gate(path: Path, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A baseline holds what was accepted with each commit that touched it; those of another schema are left out."""
    if content["schema"] != GATE_SCHEMA:
        raise ValueError(f"{path} has schema {content['schema']!r} of the gate's baseline, this reads {GATE_SCHEMA}")
    commits = _git(path, "log", "--format=%H %ct", "--", path.name).split()
    if not commits:
        raise ValueError(f"{path} is in no commit, and a gate's baseline has the history that git knows of it")
    for commit, when in zip(commits[::2], commits[1::2], strict=True):
        try:
            kept = json.loads(_git(path, "show", f"{commit}:./{path.name}"))
            known = kept["solvers"] if kept["schema"] == GATE_SCHEMA else {}
        except (ValueError, TypeError, KeyError):
            continue  # not there, or no baseline, with that commit
        source = Source(commit, float(when), "", "gate")
        for name, costs in known.items():
            solver, _, problem = name.partition(" on ")
            for figure, unit in (("calls", "calls"), ("passes", "passes"), ("own_bytes", "bytes")):
                value = costs.get(figure)
                total = sum(value.values()) if isinstance(value, dict) else value
                yield source.row((solver, problem), f"gate, {figure.replace('_', ' ')}", unit, total)
            yield source.row((solver, problem), "gate, ratio", "ratio", *costs.get("ratio", [None]))


def _git(path: Path, *words: str) -> str:
    """What git says in the folder of a file."""
    try:
        done = subprocess.run(["git", *words], cwd=path.absolute().parent, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ValueError(f"there is no git here, which knows the history of {path}") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git has no history of {path}: {error.stderr.strip().partition(chr(10))[0]}") from None
    return done.stdout


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _runs(path: Path) -> Iterator[dict[str, Any]]:
    data = frame.load(path)
    for run in data.runs.to_dict("records"):
        header = data.records[run["run"]].header or {}
        environment = header.get("environment") or {}
        commit, steps = str(environment.get("commit") or ""), run["steps"]
        if not commit or environment.get("dirty") or not steps or steps != steps:
            continue  # no commit has made it
        source = Source(commit, _seconds(header["created"].replace("Z", "+00:00")), str(run["machine"]), "runs")
        for figure, unit, value in (
            ("run, calls a step", "calls", run["calls"] / steps), ("run, peak bytes", "bytes", run["peak_bytes"]),
            ("run, CPU seconds a step over its floor", "ratio", run["cpu_seconds"] / run["floor_seconds"]),
        ):  # fmt: skip
            yield source.row((str(run["solver"]), str(run["problem"])), figure, unit, value)
