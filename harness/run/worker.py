"""One run, in a process of its own: build, try, warm up, measure memory, trace. A row is on disk before the next step.

Each phase is told to the driver before it begins, so that it knows whose code was running when a process ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import platformdirs
import torch

from bilevelbench.core import engines
from bilevelbench.core.draw import Draw
from bilevelbench.core.meter import Meter
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver, resolve
from bilevelbench.core.solver import Solver, State, require
from bilevelbench.core.spec import UNTIMED
from bilevelbench.core.stream import refuse_stream
from bilevelbench.measure import by_hand
from bilevelbench.measure.audit import replay
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch, drain
from bilevelbench.measure.cores import bind
from bilevelbench.measure.env import now
from bilevelbench.measure.failure import Full, Impure, room, status_of
from bilevelbench.measure.guards import guard
from bilevelbench.measure.intact import Intact
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.manifest import current
from bilevelbench.measure.marks import Marks
from bilevelbench.measure.memory import ProcessPeak, peak
from bilevelbench.measure.plan import planned
from bilevelbench.measure.prices import prices
from bilevelbench.measure.trace import trace, warm_up
from bilevelbench.store import points
from bilevelbench.store.journal import Journal
from bilevelbench.store.schema import Header

from .describe import MOST_ITERATES, describe_problem, describe_solver
from .job import Job, Order
from .names import receive
from .stage import Stage, Tell, keep_to_memory, machine, refused, silent, timeless
from .supervise import THROUGH


def make_pass(order: Order, tell: Tell) -> None:
    """A task: make a run, or the runs of several seeds in one pass."""
    first = order.jobs[0]
    receive(first.sent)
    manifest = current()
    bind(order.environment.get("held"))
    settle(first.key.threads, limit_memory=first.key.device == "cpu")
    try:
        with room():
            if first.key.engine == "batched":
                from .batched import execute_together  # recording needs parts of torch that take seconds to import

                execute_together(order.jobs, order, tell)
            else:
                execute(first, order, tell)
    except Full as error:
        tell(full=str(error))
        tell(phase=THROUGH)
        return
    tell(cpu=time.process_time())
    tell(phase="manifest")
    files = list(manifest.files(*_own(first)).items())
    for i in range(0, len(files), 200):  # a message has to be small
        tell(files=dict(files[i : i + 200]))
    tell(phase=THROUGH)


def _own(job: Job) -> list[Path]:
    """The files of a run's solver and problem, where they can be had."""
    with contextlib.suppress(Exception):
        return [resolve(SOLVERS, job.solver)[0].file, resolve(PROBLEMS, job.problem)[0].file]
    return []


def audit_pass(order: Order, tell: Tell) -> None:
    """A task: make the start and a window of a run again, and say whether they are the same."""
    (job, *_), key = order.jobs, order.jobs[0].key
    receive(job.sent)
    settle(key.threads, limit_memory=key.device == "cpu")
    tell(phase="audit")
    assert order.states is not None
    assert order.window is not None
    rng = Draw(key.seed, key.device, getattr(torch, key.dtype))
    solver, problem = make_solver(job.solver), build_problem(job.problem, rng)
    loose = key.engine != "eager"
    tell(audit=replay(problem, solver, key.seed, order.states, order.window, rng.data, loose))
    tell(phase=THROUGH)


def settle(threads: int, limit_memory: bool) -> None:
    """Set up a process that makes one run."""
    torch.set_num_threads(threads)
    cache = Path(platformdirs.user_cache_dir("bilevelbench"))  # what was compiled once, for any seed, is loaded again
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if limit_memory:
        keep_to_memory()


def execute(job: Job, order: Order | None = None, tell: Tell = silent) -> str:
    """Make one run and write its file. Returns the final status. Without an order all is measured here."""
    order = order or Order([job])
    key, journal, stage = job.key, Journal(job.path), Stage(tell)
    torch.set_num_threads(key.threads)
    watch = Stopwatch(drain(key.device), tell=lambda account: tell(phase=account))
    given = {"given": job.problem}, {"given": job.solver}
    header = Header(key, *given, machine(order, key.device), job.suite, job.command, now(), job.timeout)
    budget = Budget(key.steps, key.seconds, key.calls, key.rows)
    intact = Intact()  # before anything foreign is imported
    try:
        stage("solver")
        header.solver = describe_solver(job.solver, job.tuned)
        solver = make_solver(job.solver)
        stage("problem")
        resolve(PROBLEMS, job.problem)
        rng, exact_rng = (Draw(key.seed, key.device, dtype) for dtype in (getattr(torch, key.dtype), torch.float64))
        with watch.account("setup"):
            problem = build_problem(job.problem, rng)
        stage("setup")
        exact = build_problem(job.problem, exact_rng)
        intact.settle()  # the problem's own threads and settings are not the solver's
        small = problem.x0.numel() + problem.y0.numel() <= MOST_ITERATES
        stage("references")
        header.problem = describe_problem(job.problem, exact, key.iterates and small)
        header.problem["judged"] = planned(exact, budget, key.judge).words
        header.problem["data_bytes"] = sum({t.data_ptr(): t.numel() * t.element_size() for t in rng.data}.values())
        stage("guards")
        require(solver, problem)
        refuse_stream(problem.stream is not None, key.engine)
        with watch.account("audit"):
            build = partial(build_problem, job.problem)
            header.problem |= guard(build, problem, rng, exact, exact_rng, solver)
        stage("prices")
        with watch.account("audit"):
            header.prices = order.prices or prices(problem, key.device, engines.derivatives(key.engine))
            if key.engine == "eager":
                header.solver["by_hand"] = by_hand.seconds(problem, solver, key.device)
        tell(prices=header.prices)
    except BaseException as error:
        journal.begin(header)
        row = refused(error, stage.name)
        journal.append(row)
        return row.status
    journal.begin(header)
    keep = partial(_keep, job, header.created)
    return _measure(job, order, journal, problem, solver, exact, watch, key.iterates and small, intact, tell, keep)


def _keep(job: Job, created: str, state: State) -> None:
    """Write what is to be kept of a run's last state, beside its record; ``created`` says which record that is."""
    if job.keep:
        arrays = {name: getattr(state, name).detach().cpu().numpy() for name in job.keep}
        path = points.beside(job.path.with_name(job.name))
        points.write(path, arrays, {"digest": job.key.digest, "created": created})


def _measure(
    job: Job, order: Order, journal: Journal, problem: Problem, solver: Solver, exact: Problem, watch: Stopwatch,
    iterates: bool, intact: Intact, tell: Tell, keep: Callable[[State], None],
) -> str:  # fmt: skip
    key = job.key
    resident = ProcessPeak()
    derivatives, driven, first = engines.derivatives(key.engine, watch), solver, None
    try:
        driven = engines.driven(key.engine, solver, problem, watch)
        with watch.account("warmup"):
            first = warm_up(problem, driven, key.seed, drain(key.device), derivatives)
    except BaseException as error:  # the loop will meet it again and say where
        if isinstance(error, Impure) or status_of(error) == "unsupported":
            row = refused(error, "warmup")
            journal.append(row)
            return row.status
    held = resident.read()
    budget = Budget(key.steps, key.seconds, key.calls, key.rows)
    status = ""
    marks = Marks(order.states) if order.states else None
    judge = Judge(exact, planned(exact, budget, key.judge))
    asking = ("eager", "functional", "in_process")
    meter = Meter() if key.engine in asking else None  # the others do not ask at every answer
    rows = trace(problem, driven, key.seed, budget, judge, watch, iterates, derivatives, meter, marks, intact, keep)
    for row in rows:
        if key.engine in UNTIMED:
            timeless(row)
        elif row.step == 0:
            row.first_seconds, row.audit_seconds = first, watch.accounts["audit"]
            row.setup_seconds, row.warmup_seconds = watch.accounts["setup"], watch.accounts["warmup"]
        journal.append(row)
        status = row.status
    if key.engine == "eager" and row.step > 0:  # compiled kernels allocate where nobody can count
        tell(phase="memory")
        with contextlib.suppress(Exception):  # the run has ended as it has
            tell(memory=peak(problem, solver, key.seed) | held)
    return status
