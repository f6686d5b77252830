"""Scores, worked out by processes of their own and kept in a file: an interrupted tuning goes on where it was."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any, NamedTuple

from bilevelbench.core.errors import RequestError

from .job import Sent

Answer = dict[str, Any]
Searching = Generator[list["Task"], None, Any]
CRASHED: Answer = {"score": 0.0, "share": 0.0, "cost": math.inf, "status": "error", "cpu": 0.0}
TIMEOUT = 120.0  # seconds of a run, after which its process is ended and the configuration scores nothing


class Task(NamedTuple):
    """A configuration on an instance. ``limits``: of the budget, such as (("calls", 2000),). ``code``: a digest of the
    source that its score hangs on. ``judge``: as of a run, see ``suite.Block``."""

    problem: str
    solver: str
    seed: int
    limits: tuple[tuple[str, int], ...]
    code: str
    judge: str = ""


class Scores:
    """The outcomes of tasks. Those that are not kept in ``path``, one a line, are worked out, ``jobs`` at a time; what
    takes longer than ``timeout`` seconds of the wall clock is given up, where the system has a timer (not Windows)."""

    def __init__(self, path: Path | None, jobs: int, sent: Sent = (), timeout: float = TIMEOUT) -> None:
        self._path, self._jobs, self._sent, self._timeout = path, jobs, sent, timeout
        self._known: dict[Task, Answer] = {}
        self.made, self._pool = 0, self._open(jobs)
        if path and path.exists():
            self._read(path)

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list((self._pool._processes or {}).values()):
            process.terminate()

    def _open(self, jobs: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_follow)

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"the scores {path} cannot be read: {error}") from None
        for number, line in enumerate(lines, 1):
            try:
                said = json.loads(line)
                problem, solver, seed, limits, *more = said["task"]
                task = Task(problem, solver, seed, tuple((name, n) for name, n in limits), *more)
                answer = {**said["answer"], "cost": said["answer"]["cost"] or math.inf}
            except (ValueError, KeyError, TypeError):
                if number == len(lines):  # it was being written when the command was stopped
                    continue
                raise RequestError(f"{path}, line {number}: no score; name a file that `tune` has written") from None
            self._known[task] = answer

    def keep(self, task: Task, answer: Answer) -> None:
        """Note an outcome."""
        self._known[task] = answer
        self.made += 1
        if self._path:
            finite = {**answer, "cost": answer["cost"] if math.isfinite(answer["cost"]) else None}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": task, "answer": finite}) + "\n")

    def __getitem__(self, task: Task) -> Answer:
        return self._known[task]

    def ask(self, call: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """What a function of ``run.score`` answers, for each of several arguments."""
        try:
            return list(self._pool.map(_called, [(call, self._sent, one, self._timeout) for one in arguments]))
        except BrokenProcessPool:
            raise RequestError(
                "a problem or a solver ended the process that looked at it, or took too long; `check` it first. A "
                "script that tunes has to do so under `if __name__ == '__main__':`, for those processes import it"
            ) from None

    def drive(self, searches: Mapping[Any, Searching], told: Callable[[Any, Any], None]) -> None:
        """Run searches, each of which asks for the outcomes of tasks and ends in something that ``told`` hears.

        A process that a configuration ends takes others along: these are worked out again, one at a time.
        """
        waiting, running = dict(searches), dict[Any, dict[Future[Answer], Task]]()
        while waiting or running:
            while waiting and sum(map(len, running.values())) < self._jobs:
                name = next(iter(waiting))
                self._on(name, waiting.pop(name), running, told)
            done, _ = wait([future for own in running.values() for future in own], return_when=FIRST_COMPLETED)
            for name, own in list(running.items()):
                for future in done & own.keys():
                    self._settle(own, future)
                if not own:
                    del running[name]
                    self._on(name, searches[name], running, told)

    def _on(self, name: Any, search: Any, running: Any, told: Callable[[Any, Any], None]) -> None:
        """Take a search on, until it waits for something or has ended."""
        try:
            while not (todo := [task for task in next(search) if task not in self._known]):
                pass
        except StopIteration as end:
            told(name, end.value)
            return
        running[name] = {self._submit(task): task for task in todo}

    def _asked(self, task: Task) -> tuple[str, Sent, tuple[Any, ...], float]:
        asked = task.problem, task.solver, task.seed, dict(task.limits), task.judge
        return "outcome", self._sent, asked, self._timeout

    def _submit(self, task: Task) -> Future[Answer]:
        try:
            return self._pool.submit(_called, self._asked(task))
        except BrokenProcessPool:
            self._pool = self._open(self._jobs)
            return self._submit(task)

    def _settle(self, own: dict[Future[Answer], Task], future: Future[Answer]) -> None:
        task = own.pop(future)
        try:
            self.keep(task, self._answer(task, future))
        except RequestError:
            raise
        except Exception as error:  # of a problem's that a run would have said, such as data that are not there
            said = f"{type(error).__name__}: {error}"
            raise RequestError(f"{task.solver} on {task.problem}, seed {task.seed}, cannot be tuned: {said}") from None

    def _answer(self, task: Task, future: Future[Answer]) -> Answer:
        try:
            return future.result()
        except BrokenProcessPool:  # by this task, or by one that ran beside it
            with self._open(1) as alone:
                again: Future[Answer] = alone.submit(_called, self._asked(task))
                (process,) = list(alone._processes.values())  # a pool that broke may have forgotten it
                try:
                    return again.result()
                except BrokenProcessPool:
                    pass
        # Asked once the pool's own thread has ended, which waits for the process too: the system says how a process
        # ended to one that waits for it, and the other may ask before the first has noted it.
        return CRASHED | ({"status": "timeout"} if _rang(process) else {})


def _follow() -> None:
    """In a process of its own: end with the process that started it, however that ends."""
    parent = parent_process()
    if parent is not None:
        ends = lambda: (wait_for([parent.sentinel]), os._exit(1))  # noqa: E731
        threading.Thread(target=ends, daemon=True).start()


def _called(asked: tuple[str, Sent, tuple[Any, ...], float]) -> Any:
    """In a process of its own: a function of ``run.score``, which needs torch. The timer ends the process, even one
    that never comes back to the interpreter."""
    from . import score
    from .names import receive

    name, sent, arguments, timeout = asked
    receive(sent)
    _alarm(timeout)
    try:
        return getattr(score, name)(*arguments)
    finally:
        _alarm(0.0)


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _rang(process: Any) -> bool:
    """Whether the timer ended a process."""
    return hasattr(signal, "SIGALRM") and bool(process.exitcode == -signal.SIGALRM)
