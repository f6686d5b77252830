"""One run, inside a worker process: build, warm up, measure memory, trace. A row is on disk before the next step."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import platformdirs
import psutil
import torch

from bilevelbench.core import engines
from bilevelbench.core.draw import Draw
from bilevelbench.core.meter import Meter
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Solver, require
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch, drain, self_check
from bilevelbench.measure.env import environment, moment
from bilevelbench.measure.failure import Impure, broken, status_of
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.memory import ProcessPeak, peak
from bilevelbench.measure.prices import prices
from bilevelbench.measure.trace import trace, warm_up
from bilevelbench.store.journal import Journal
from bilevelbench.store.schema import FINAL, Header, RunKey

from .describe import MOST_ITERATES, describe_problem, describe_solver
from .job import Job


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
    meter = Meter() if key.engine in ("eager", "functional") else None  # the others do not ask at every answer
    for row in trace(problem, driven, key.seed, budget, Judge(exact), watch, iterates, derivatives, meter):
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
