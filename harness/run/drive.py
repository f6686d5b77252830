"""Making the runs: worker processes that are reused, with a hard limit outside each run.

pebble keeps the pool; a run that crashes, hangs or exhausts memory takes its own process with it and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, TimeoutError, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from bilevelbench.core.errors import RequestError
from bilevelbench.measure.env import environment
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import FINAL, End, Header, Row, RunKey

from .job import Job
from .worker import execute, execute_batch, prepare

Finished = Callable[[Job, str], None]


def make_folder(out: Path) -> None:
    """Make the results folder and make sure that it can be written and holds no foreign file."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RequestError(
            f"--out {out} cannot be written ({error.strerror}); name a folder that you can write"
        ) from None
    for path in sorted(out.glob("*.jsonl")):
        record = read(path)
        if record.header is None and path.stat().st_size > 0:
            raise RequestError(record.troubles[0])


def run_all(jobs: list[Job], workers: int, started: Callable[[Job], None], finished: Finished) -> None:
    """Make all runs, ``workers`` at a time. ``started`` and ``finished`` are told as runs begin and end.

    One worker at a time is the default elsewhere, because runs are timed. Interrupting stops at once; what is
    finished is on disk.
    """
    if not jobs:
        return
    threads = max(job.key.threads for job in jobs)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)  # the workers' libraries read these when they are loaded
    on_cpu = all(job.key.device == "cpu" for job in jobs)
    pool: Any = ProcessPool(
        max_workers=workers,
        context=multiprocessing.get_context("spawn"),
        initializer=prepare,
        initargs=(threads, on_cpu),
    )
    try:
        _feed(pool, jobs, workers, started, finished)
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def _feed(pool: Any, jobs: list[Job], workers: int, started: Callable[[Job], None], finished: Finished) -> None:
    """Keep as many runs under way as there are workers, so that a run that was handed out is a run that has begun."""
    waiting = list(reversed(_together(jobs)))
    running: dict[Future[Any], list[Job]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            batch = waiting.pop()
            started(batch[0])
            work, argument = (execute_batch, batch) if batch[0].key.engine == "batched" else (execute, batch[0])
            running[pool.schedule(work, args=(argument,), timeout=batch[0].timeout)] = batch
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            for job in running.pop(future):
                finished(job, _outcome(future, job))


def _together(jobs: list[Job]) -> list[list[Job]]:
    """The jobs that are made in one pass: those whose seeds are batched and that differ in nothing else."""
    passes: dict[RunKey, list[Job]] = {}
    for job in jobs:
        passes.setdefault(replace(job.key, seed=0) if job.key.engine == "batched" else job.key, []).append(job)
    return list(passes.values())


def _outcome(future: Future[Any], job: Job) -> str:
    """The final status of a run; where its process could not write one, it is written here."""
    try:
        status = future.result()
        return status if isinstance(status, str) else read(job.path).status  # of a batch each file says its own
    except CancelledError:
        raise KeyboardInterrupt from None
    except TimeoutError:
        status, reason = "timeout", f"stopped after the time limit of {job.timeout:g} s"
    except ProcessExpired as error:
        status, reason = _death(error.exitcode)
    except Exception as error:
        status, reason = "error", f"{type(error).__name__}: {error}"
    journal, record = Journal(job.path), read(job.path)
    if record.header is None:
        journal.begin(Header(job.key, {"given": job.problem}, {"given": job.solver}, environment("cpu"), job.suite))
        record.rows = []
    if record.rows and record.rows[-1]["status"] in FINAL:
        return str(record.rows[-1]["status"])
    journal.append(_cut(job, status, reason, record.rows[-1] if record.rows else None))
    journal.end(End())
    return status


def _death(exitcode: int | None) -> tuple[str, str]:
    if exitcode == -9:
        return "oom", "the system killed the process (signal 9), as it does when memory runs out"
    if exitcode is not None and exitcode < 0:
        return "error", f"the process crashed with signal {-exitcode}"
    return "error", f"the process ended with exit code {exitcode}"


def _cut(job: Job, status: str, reason: str, last: dict[str, Any] | None) -> Row:
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
