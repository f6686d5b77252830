"""What one process makes: a run, or those of several seeds; and the last row that a process could not write itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bilevelbench.store.claims import Claim
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import Row, RunKey

from . import supervise
from .job import Job
from .supervise import Watch


@dataclass
class Pass:
    """What one process makes: a run, or the runs of several seeds together."""

    jobs: list[Job]
    claims: list[Claim] = field(default_factory=list)
    parts: list[Job] = field(default_factory=list)  # the jobs with the private files that are being written
    audited: int = 0  # whose states are kept, of the jobs
    states: Path = Path()  # the folder of the states from which a window of it can be made again
    tries: int = 1
    cores: list[int] = field(default_factory=list)  # that it holds while it is timed
    auditing: tuple[int, int] | None = None  # the window
    manifest: dict[str, str] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0  # seconds of the process that made it, judging and guards included
    full: str | None = None  # what could not be written for want of room
    watch: Watch | None = None

    @property
    def together(self) -> tuple[Any, ...]:
        """What prices depend on: a seed changes the data and not what an answer takes."""
        key = self.jobs[0].key
        return key.problem, key.problem_version, key.device, key.dtype, key.engine, key.threads


def together(jobs: list[Job]) -> list[list[Job]]:
    """The jobs that are made in one pass: those whose seeds are batched and that differ in nothing else."""
    passes: dict[RunKey, list[Job]] = {}
    for job in jobs:
        passes.setdefault(replace(job.key, seed=0) if job.key.engine == "batched" else job.key, []).append(job)
    return list(passes.values())


def finish(job: Job, end: supervise.End | None) -> None:
    """The last row of a run whose process could not write it."""
    record = read(job.path)
    if record.ended:
        return
    end = end or supervise.End("error", "the process left no last row", "harness")
    with Journal(job.path) as journal:
        journal.append(last_row(record.rows[-1] if record.rows else {}, end))


def last_row(row: dict[str, Any], end: supervise.End) -> Row:
    """A last row at the last good look."""
    kept = {
        name: row[name]
        for name in ("seconds", "cpu_seconds", "calls", "total_calls", "rows", "passes", "kept")
        if name in row
    }
    return Row(row.get("step", 0), **kept, status=end.status, reason=end.reason, fault=end.fault)
