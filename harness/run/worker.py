"""One run, inside a worker process: build, warm up, measure memory, trace. A row is on disk before the next step."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import psutil
import torch

from bilevelbench.core import engines
from bilevelbench.core.draw import Draw
from bilevelbench.core.problem import Picture, Problem
from bilevelbench.core.registry import PROBLEMS, SOLVERS, Spec, build_problem, knobs, make_solver, parse, resolve
from bilevelbench.core.solver import Solver, require
from bilevelbench.store.journal import Journal
from bilevelbench.store.schema import FINAL, Header, Row, RunKey

from .budget import Budget
from .clock import Stopwatch, drain, self_check
from .env import environment, moment
from .judge import Judge
from .memory import ProcessPeak, peak
from .prices import prices
from .trace import Impure, status_of, trace, warm_up

MOST_ITERATES = 1000  # variables; beyond that --iterates keeps none
GRID = 61  # points along each side of a picture's level sets


@dataclass(frozen=True)
class Job:
    """A run to be made: its key, how its problem and solver were asked for, and where its file goes."""

    key: RunKey
    problem: str
    solver: str
    path: Path
    suite: str = ""
    command: str = ""
    timeout: float | None = None


def prepare(threads: int, limit_memory: bool) -> None:
    """Set up a worker process, imports included, so that no run's time limit pays for them.

    An interrupt is the parent's affair; a worker whose parent is gone ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    # what was compiled once, for any seed, is loaded the next time
    os.environ.setdefault(
        "TORCHINDUCTOR_CACHE_DIR", str(Path(platformdirs.user_cache_dir("bilevelbench")) / "inductor")
    )
    SOLVERS.load()
    PROBLEMS.load()
    if limit_memory and sys.platform == "linux":
        # An allocation beyond what is there fails in this run (status oom) instead of making the machine swap.
        import resource

        room = psutil.virtual_memory().available
        resource.setrlimit(resource.RLIMIT_DATA, (room, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def execute(job: Job) -> str:
    """Make one run and write its file. Returns the final status."""
    journal, key = Journal(job.path), job.key
    torch.set_num_threads(key.threads)
    watch = Stopwatch(drain(key.device))
    header = Header(
        key, {"given": job.problem}, {"given": job.solver}, environment(key.device) | {"clock": self_check(key.device)},
        job.suite, job.command, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), job.timeout,
    )  # fmt: skip
    try:
        header.solver = describe_solver(job.solver)
        rng = Draw(key.seed, key.device, getattr(torch, key.dtype))
        with watch.account("setup"):
            problem, solver = build_problem(job.problem, rng), make_solver(job.solver)
        exact = build_problem(job.problem, Draw(key.seed, key.device, torch.float64))
        small = problem.x0.numel() + problem.y0.numel() <= MOST_ITERATES
        header.problem = describe_problem(job.problem, exact, key.iterates and small)
        header.problem["data_bytes"] = sum({t.data_ptr(): t.numel() * t.element_size() for t in rng.data}.values())
        require(solver, problem)
        with watch.account("audit"):
            header.prices = _prices(key, problem)
    except Exception as error:
        journal.begin(header)
        journal.append(broken(error))
        return status_of(error)
    journal.begin(header)
    return _measure(job, journal, problem, solver, exact, watch, key.iterates and small)


def execute_batch(jobs: list[Job]) -> None:
    """Make the runs of several seeds in one pass and write their files."""
    from .batched import execute_together  # recording needs parts of torch that take seconds to import

    execute_together(jobs)


def _measure(
    job: Job, journal: Journal, problem: Problem, solver: Solver, exact: Problem, watch: Stopwatch, iterates: bool
) -> str:
    key = job.key
    resident = ProcessPeak()
    derivatives, driven, memory = engines.derivatives(key.engine, watch), solver, None
    try:
        driven = engines.driven(key.engine, solver, problem, watch)
        with watch.account("warmup"):
            first = warm_up(problem, driven, key.seed, drain(key.device), derivatives)
        if key.engine == "eager":  # compiled kernels allocate where nobody can count
            with watch.account("audit"):
                memory = peak(problem, solver, key.seed) | resident.read()
    except Exception as error:  # the loop will meet it again and say where
        first, memory = None, None
        if isinstance(error, Impure) or status_of(error) in ("oom", "unsupported"):
            journal.append(broken(error))
            return status_of(error)
    budget = Budget(key.steps, key.seconds, key.calls)
    status = ""
    for row in trace(problem, driven, key.seed, budget, Judge(exact), watch, iterates, derivatives):
        if row.step == 0:
            row.first_seconds, row.memory = first, memory
            row.setup_seconds, row.warmup_seconds, row.audit_seconds = (
                watch.accounts[name] for name in ("setup", "warmup", "audit")
            )
        if row.status in FINAL:
            row.after = moment()
        journal.append(row)
        status = row.status
    return status


_PRICES: dict[tuple[object, ...], dict[str, list[float]]] = {}


def _prices(key: RunKey, problem: Problem) -> dict[str, list[float]]:
    """Oracle prices, measured once per process: a seed changes the data and not what an answer takes."""
    place = (key.problem, key.problem_version, key.device, key.dtype, key.engine, key.threads)
    if place not in _PRICES:
        try:
            _PRICES[place] = prices(problem, key.device, engines.derivatives(key.engine))
        except Exception:  # the run meets it again, where it is said
            return {}
    return _PRICES[place]


def broken(error: Exception) -> Row:
    """The only row of a run that could not begin."""
    status, reason = status_of(error), str(error).strip().partition("\n")[0][:300] or type(error).__name__
    story = "" if status == "unsupported" else "".join(traceback.format_exception(error))
    return Row(0, status=status, reason=reason, traceback=story)


def describe_solver(given: str) -> dict[str, Any]:
    """What a header says of the solver."""
    entry, spec = resolve(SOLVERS, given)
    defaults = {name: default for name, (_, default) in knobs(entry).items()}
    choices = {
        k: v for k, v in spec.arguments.items() if v != defaults[k] and isinstance(v, str | bool) and v is not None
    }
    asked = parse(given).arguments
    return {
        "name": entry.name, "given": given, "asked": asked, "knobs": spec.arguments, "choices": choices,
        "order": getattr(entry.make, "order", None), "about": entry.doc.partition("\n")[0],
    }  # fmt: skip


def describe_problem(given: str, problem: Problem, iterates: bool) -> dict[str, Any]:
    """What a header says of the problem."""
    entry, spec = resolve(PROBLEMS, given)
    references = problem.references() if problem.references else {}
    return {
        "name": entry.name, "given": given, "knobs": spec.arguments, "about": entry.doc.partition("\n")[0],
        "n_x": problem.x0.numel(), "n_y": problem.y0.numel(), "n_f": problem.n_f, "n_g": problem.n_g,
        "flags": sorted(problem.flags), "phi_star": problem.phi_star, "phi_star_source": problem.phi_star_source,
        "selection": problem.chosen, "seeded": problem.seeded,
        "references": {k: dict(v) for k, v in references.items()},
        "better": dict(problem.better), "bar": problem.bar._asdict() if problem.bar else None,
        "picture": _drawn(problem.picture) if problem.picture and iterates else None,
    }  # fmt: skip


def _drawn(picture: Picture) -> dict[str, Any]:
    left, right, bottom, top = picture.box
    u, v = torch.linspace(left, right, GRID).double(), torch.linspace(bottom, top, GRID).double()
    vv, uu = torch.meshgrid(v, u, indexing="ij")
    level = picture.level(uu, vv)
    return {
        "axes": [list(axis) for axis in picture.axes], "labels": [f"{name}[{i}]" for name, i in picture.axes],
        "box": list(picture.box), "label": picture.label, "u": _rounded(u), "v": _rounded(v),
        "level": [_rounded(line) for line in level], "outline": [list(point) for point in picture.outline],
        "solution": list(picture.solution) if picture.solution else None,
    }  # fmt: skip


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


def full_spec(text: str, kind: str) -> tuple[Spec, int, Path]:
    """The spec with every knob spelled out, the version and the source file of what a text names.

    Of a loose file the spec keeps the name alone: the key holds its content (as a digest), not its place.
    """
    entry, spec = resolve(SOLVERS if kind == "solver" else PROBLEMS, text)
    return spec._replace(file=Path(spec.file).name), entry.version, entry.file


def timed_out(job: Job, status: str, reason: str, last: dict[str, Any] | None) -> Row:
    """The last row of a run whose process had to be ended, at its last good look."""
    last = last or {}
    return Row(
        last.get("step", 0),
        last.get("seconds"),
        last.get("cpu_seconds"),
        last.get("calls", {}),
        last.get("total_calls", 0),
        last.get("rows", {}),
        status=status,
        reason=reason,
    )
