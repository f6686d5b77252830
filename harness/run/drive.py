"""Making the runs: a process for each, supervised; what comes of it is one file, published once it is final.

The driver itself runs nothing foreign. It claims a run, starts its process and watches it (``supervise``), has a window
of the run made again by another process (``measure.audit``), and publishes the file. A run whose process was killed
from outside is ``lost`` and made again, at most twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import UNTIMED
from bilevelbench.measure.cores import Cores
from bilevelbench.measure.env import moment, now
from bilevelbench.measure.windows import draw
from bilevelbench.store.claims import Claims
from bilevelbench.store.ends import is_foreign
from bilevelbench.store.files import FULL, records
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import End as LastLine
from bilevelbench.store.schema import Header

from . import supervise
from .child import ForkServer, Interpreters
from .job import Job, Order
from .passes import Pass, finish, last_row, together
from .supervise import Watch

Finished = Callable[[Job, str], None]
MAKE, AUDIT = "bilevelbench.run.worker:make_pass", "bilevelbench.run.worker:audit_pass"

TRIES = 3  # of a run that is lost
AGAIN = 1.0  # seconds between two looks at what other commands are making
LOOK = 30.0  # seconds between two looks at runs that say nothing


def make_folder(out: Path, but: Collection[str] = ()) -> None:
    """Make the results folder; it can be written and holds no foreign file (stems in ``but``: others look at them)."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{secrets.token_hex(8)}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # what lies there is not touched
        probe.unlink()
    except OSError as error:
        raise RequestError(
            f"out {out} cannot be written ({error.strerror}); name a folder that you can write"
        ) from None
    for path in records(out, but):
        if foreign := is_foreign(path):
            raise RequestError(foreign)


class Driver:
    """Makes runs, ``workers`` processes at a time, into a folder that other commands may be writing to as well.

    ``started`` and ``finished`` are told as runs begin and end, ``phase`` now and then what a run is at. One process at
    a time is the default elsewhere, because runs are timed. ``patience``: seconds for each phase that is not the
    solver's.
    """

    def __init__(
        self, out: Path, processes: ForkServer | Interpreters, environment: dict[str, Any], workers: int,
        started: Callable[[Job], None], finished: Finished, patience: float = supervise.OTHERS,
        phase: Callable[[Job, str], None] = lambda job, phase: None,
    ) -> None:  # fmt: skip
        self._out, self._processes, self._environment, self._workers = out, processes, environment, workers
        self._started, self._finished, self._patience, self._phase = started, finished, patience, phase
        self._prices: dict[tuple[Any, ...], dict[str, list[float]]] = {}
        self._running: list[Pass] = []
        self._elsewhere: list[Pass] = []  # what other commands are making

    def run(self, jobs: list[Job]) -> None:
        """Make all runs. Interrupting stops at once; what is finished is on disk.

        ``RequestError`` where there is no room on a disk: that says nothing of the runs, which wait until there is.
        """
        try:
            self._run(jobs)
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = error.filename or self._out
            raise RequestError(f"{where} cannot be written: the disk is full; the same command goes on later") from None
        finally:
            for watch in [made.watch for made in self._running if made.watch]:
                watch.task.kill()
            self._running, self._elsewhere = [], []

    def _run(self, jobs: list[Job]) -> None:
        waiting = [Pass(batch) for batch in reversed(together(jobs))]
        folder = tempfile.TemporaryDirectory(prefix="bilevelbench-")
        with Claims(self._out) as self._claims, Cores() as self._cores, folder as kept:
            self._kept = Path(kept)
            looked = time.monotonic()
            while waiting or self._running or self._elsewhere:
                while waiting and len(self._running) < self._workers:
                    self._begin(waiting.pop())
                if self._elsewhere and time.monotonic() > looked + AGAIN and len(self._running) < self._workers:
                    again, self._elsewhere = self._elsewhere, []
                    waiting = again[::-1]
                    looked = time.monotonic()
                    continue
                if self._running or self._elsewhere:  # else nobody would say anything
                    self._listen()

    def _begin(self, made: Pass) -> None:
        """Start a pass, unless its runs have been made, or are being made, by another command."""
        if all(job.satisfied() for job in made.jobs):
            self._close(made)
            return
        claims = [self._claims.take(job.key.stem) for job in made.jobs]
        made.claims = [claim for claim in claims if claim is not None]
        if len(made.claims) < len(claims):
            self._release(made)
            self._elsewhere.append(made)
        elif all(job.satisfied() for job in made.jobs):  # published between the question and the claim
            self._close(made)
        else:
            self._started(made.jobs[0])
            self._make(made)

    def _make(self, made: Pass) -> None:
        """Start the process of a pass, for the first time or once more. Where it is timed it holds its cores."""
        environment = self._environment
        if self._cores.known and made.jobs[0].key.engine not in UNTIMED:
            made.cores = self._cores.take(made.jobs[0].key.threads)
            environment = environment | {"held": made.cores}
        made.parts = [
            replace(job, path=claim.part(job.name)) for job, claim in zip(made.jobs, made.claims, strict=True)
        ]
        for job in made.parts:  # a header, before anything can fail
            given = {"given": job.problem}, {"given": job.solver}
            Journal(job.path).begin(Header(job.key, *given, environment, job.suite, job.command, now(), job.timeout))
        made.states, made.auditing, made.manifest = self._kept / secrets.token_hex(8), None, {}
        made.audited = secrets.randbelow(len(made.jobs))
        prices = self._prices.get(made.together)
        order = Order(made.parts, environment, prices, made.states, made.audited)
        self._start(made, MAKE, order)

    def _audit(self, made: Pass, window: tuple[int, int]) -> None:
        """Have a window that nobody could foresee made again, by a process that has not seen the run."""
        made.auditing, made.audit = window, {}
        self._start(made, AUDIT, Order([made.parts[made.audited]], self._environment, {}, made.states, window=window))

    def _start(self, made: Pass, call: str, order: Order) -> None:
        def hear(message: dict[str, Any]) -> None:
            self._hear(made, message)

        made.watch = Watch(self._processes.start(call, order), made.jobs[0].timeout, hear, self._patience)
        self._running.append(made)

    def _hear(self, made: Pass, message: dict[str, Any]) -> None:
        if "full" in message:
            made.full = message["full"]
        if "prices" in message:
            self._prices[made.together] = message["prices"]
        if "files" in message:
            made.manifest |= message["files"]
        if "memory" in message:
            made.memory = message["memory"]
        if "cpu" in message:
            made.cpu = message["cpu"]
        if "audit" in message:
            made.audit = message["audit"]

    def _listen(self) -> None:
        """Hear what the processes say, until one has ended or has to be ended, or some time has passed."""
        watches = [made.watch for made in self._running if made.watch]
        patience = min([AGAIN if self._elsewhere else LOOK, *(watch.deadline - time.monotonic() for watch in watches)])
        self._processes.wait(max(0.0, patience))
        for made in list(self._running):
            assert made.watch is not None
            made.watch.listen()
            if made.watch.task.status is not None:
                made.watch.task.close()
                self._running.remove(made)
                self._ended(made, made.watch.end())
            else:
                self._phase(made.jobs[0], made.watch.phase)
                made.watch.end_late()

    def _ended(self, made: Pass, end: supervise.End | None) -> None:
        """A process has ended: make its run again, have it audited, or close it."""
        self._cores.release(made.cores)
        made.cores = []
        if made.full is not None:
            raise OSError(errno.ENOSPC, "no space left on the device", made.full)
        if end is not None and end.status == "lost" and made.tries < TRIES:
            made.tries += 1
            self._make(made) if made.auditing is None else self._audit(made, made.auditing)
            return
        if made.auditing is not None:
            self._judge_audit(made, end)
        else:
            for job in made.parts:
                finish(job, end)
            ended = {read(job.path).ended for job in made.parts}
            with contextlib.suppress(LookupError):  # no steps were made
                if ended <= {"done", "diverged", "timeout"}:
                    self._audit(made, draw(made.states))
                    return
        self._publish(made)

    def _judge_audit(self, made: Pass, end: supervise.End | None) -> None:
        """What the audit found wrong is the run's last row."""
        found = made.audit
        if end is not None and end.status == "lost":
            bad = supervise.End(end.status, end.reason, end.fault)
        elif end is not None:
            bad = supervise.End("error", f"its audit failed: {end.reason}", end.fault)
        elif not found:
            bad = supervise.End("error", "its audit ended without a word", "harness")
        elif not found["ok"]:
            bad = supervise.End("error", str(found["reason"]), str(found.get("fault", "solver")))
        else:
            return
        for job in made.parts:
            rows = read(job.path).rows
            with Journal(job.path) as journal:
                journal.append(last_row(rows[-1] if rows else {}, bad))

    def _publish(self, made: Pass) -> None:
        for job, claim in zip(made.parts, made.claims, strict=True):
            with Journal(job.path) as journal:
                after = moment() | ({"cpu_seconds": made.cpu, "runs": len(made.parts)} if made.cpu else {})
                journal.end(LastLine(made.tries, made.manifest, made.audit, after, made.memory))
            claim.publish(job.name, job.replaced())
        shutil.rmtree(made.states, ignore_errors=True)
        self._close(made)

    def _close(self, made: Pass) -> None:
        self._release(made)
        for job in made.jobs:
            self._finished(job, job.record().status)

    def _release(self, made: Pass) -> None:
        for claim in made.claims:
            claim.release()
        made.claims = []
