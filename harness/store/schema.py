"""The record of a run. One file per run: a header, then one row per look, then how it was made.

A file whose last row has no final status is a run that was cut off.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from typing import Annotated, Any

from msgspec import Meta

SCHEMA = 2
KNOWN_SCHEMAS = (1, 2)  # that are read

RUNNING = "running"
FINAL = ("done", "diverged", "error", "timeout", "oom", "unsupported", "lost")
CUT = "cut off"  # what a reader calls a run without a final status; never written
GOOD = ("done", "unsupported")  # statuses of runs that ended well
FINDINGS = (*GOOD, "diverged")  # that leave the exit code at 0: what was asked has been answered
FAILED = (*(status for status in FINAL if status not in GOOD), CUT)
FAULTS = ("solver", "problem", "machine", "harness")  # whose a status other than done is

READABLE = 80  # characters of a file's name that say what is in it

# What a reader holds the numbers to. Whole numbers stay exact as floats.
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]


@dataclass(frozen=True)
class RunKey:
    """What makes an experiment. Equal keys are the same experiment; the digest names the file.

    problem, solver: specs with every knob spelled out. code: digest of the source that the run executes.
    steps, seconds, calls, rows: the budget, each None where not limited. A key without a limit of rows is written
    without it, as keys were before there was one, and so is one whose ``judge`` is "", where Phi is judged.
    """

    problem: str
    problem_version: int
    solver: str
    seed: int
    device: str
    dtype: str
    engine: str
    threads: int
    steps: int | None
    seconds: float | None
    calls: int | None
    iterates: bool
    code: str
    rows: int | None = None
    judge: str = ""

    def as_json(self) -> dict[str, Any]:
        """The key as a dictionary."""
        unless = ("rows", "judge")
        return {k: value for k, value in vars(self).items() if k in KEY and (k not in unless or value)}

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits, the same on every machine: of the key as JSON, its names in order."""
        before, after = _around_the_seed(*_OTHERS(self))
        return hashlib.sha256(f"{before}{json.dumps(self.seed)}{after}".encode()).hexdigest()[:16]

    @cached_property
    def stem(self) -> str:
        """problem-solver-s{seed}-digest, readable in a directory listing; the digest tells runs apart."""
        return f"{_readable(self.problem, self.solver)}-s{self.seed}-{self.digest}"


@cache
def _readable(*specs: str) -> str:
    names = (re.sub(r".*[/\\]", "", spec.split("(")[0]).replace(".py:", "-") for spec in specs)
    return re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join(names)).lstrip(".")[:READABLE]


KEY = tuple(RunKey.__dataclass_fields__)  # an object holds its digest besides, once it was asked for
_OTHERS = attrgetter(*(name for name in KEY if name != "seed"))


@lru_cache(1024, typed=True)  # 1 and 1.0 are spelled differently
def _around_the_seed(*others: Any) -> tuple[str, str]:
    """The JSON of a key before and after its seed: of many thousand seeds it is spelled once."""
    named = dict(zip((name for name in KEY if name != "seed"), others, strict=True))
    before, seed, after = json.dumps(RunKey(seed=0, **named).as_json(), sort_keys=True).partition('"seed": ')
    return before + seed, after.removeprefix("0")


@dataclass
class Header:
    """The first line of a run's file.

    problem: name, family, given (as asked for), n_x, n_y, n_f, n_g, flags, phi_star, phi_star_source, references,
        better, target, bar, selection and constraints (family and these five absent from older files), seeded,
        data_bytes, picture, guards (what they found, by name), digest: what the run saw, ``drawn`` and ``computed`` as
        hexadecimal digits and ``numbers`` of the start.
        solver: name, given, knobs, choices (non-numeric knobs that differ from the defaults), order and family as
        declared (the family absent from older files),
        by_hand: seconds of a step of the loop that was written by hand, where there is one, tuned: whether its knobs
        were tuned on this problem (true, false, "edge": at the end of what was tried; absent from older files),
        repository (commit and dirty, of the solver's own file). environment: versions, commit, machine, place, load,
        and a check of the clock. prices: seconds by kind of oracle answer, of a call and of each row of data in it, and
        as "kept KIND" where a graph is kept (see ``measure.prices``). None of it is needed to read the rows.
    """

    key: RunKey
    problem: dict[str, Any]
    solver: dict[str, Any]
    environment: dict[str, Any]
    suite: str = ""
    command: str = ""
    created: str = ""
    timeout: float | None = None
    prices: dict[str, list[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The line as a dictionary."""
        return {
            "kind": "header",
            "schema": SCHEMA,
            "digest": self.key.digest,
            **asdict(self),
            "key": self.key.as_json(),
        }


@dataclass
class Row:
    """One look. seconds and cpu_seconds are the solver's alone, since the start; calls and rows count from the start.

    calls, rows: by kind. total_calls: on one axis, each value, gradient and second-order product counting one.
    passes: those that the calls took: forward, backward and double (backward through a gradient). kept: how many of the
    calls a graph that was kept answered without a forward pass, by kind. Both are absent from older files.

    metrics: None stands for a value that could not be had or is not finite; figures that could not be judged to the
    digits that are shown are left out, and unjudged says why. fault: whose it is that the run did not end
    well, of FAULTS. ended_by names the limit that ended the run. judge_seconds, overhead_seconds and, where an engine
    compiles, compile_seconds: outside the solver's clock, since the start. Seconds are None where seeds were run
    together. The row of step 0 has what the solver's ``init`` took and asked, and carries setup_seconds (building
    problem and solver), first_seconds (the first step, any compilation included), warmup_seconds (the first two),
    audit_seconds (guards and prices). All of these and seconds sum to the wall time of the run, but first_seconds,
    which is a part of warmup_seconds. memory is where the first schema has what ``End`` has now.
    """

    step: Count
    seconds: Seconds | None = None
    cpu_seconds: Seconds | None = None
    calls: dict[str, Count] = field(default_factory=dict)
    total_calls: Count = 0
    rows: dict[str, Count] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    status: str = RUNNING
    fault: str = ""
    ended_by: str = ""
    reason: str = ""
    traceback: str = ""
    unjudged: str = ""
    x: list[float] | None = None
    y: list[float] | None = None
    passes: dict[str, Count] = field(default_factory=dict)
    kept: dict[str, Count] = field(default_factory=dict)
    judge_seconds: Seconds | None = None
    overhead_seconds: Seconds | None = None
    compile_seconds: Seconds | None = None
    setup_seconds: Seconds | None = None
    first_seconds: Seconds | None = None
    warmup_seconds: Seconds | None = None
    audit_seconds: Seconds | None = None
    memory: Mapping[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """The line as a dictionary: the fields of every look, and of the optional ones those that are set."""
        always = ("step", "seconds", "calls", "total_calls", "rows", "metrics", "status")
        return {"kind": "row"} | {k: v for k, v in asdict(self).items() if k in always or v not in (None, "", {})}


@dataclass
class End:
    """The last line, written before a run is published.

    attempts: how often it was begun until it ended. manifest: digest by path of every module and data file that it
    read. audit: what its replay found. after: load and clock frequency of the machine then; cpu_seconds of the whole
    process that made it, and of how many runs that was (both absent from older files). memory: what its first steps
    hold (see ``measure.memory``), measured when they had been timed.
    """

    attempts: Annotated[int, Meta(ge=1, le=1000)] = 1
    manifest: dict[str, str] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The line as a dictionary."""
        return {"kind": "end", **asdict(self)}


def dumps(record: Header | Row | End) -> str:
    """One line of strict JSON (NaN and infinities become null)."""
    return json.dumps(_finite(record.as_json()), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
