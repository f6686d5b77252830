"""From suites to jobs: everything that can be known to be wrong is said before anything is measured.

What a text names is looked up by ``ask``: in this process, or, for a command that must not run anything foreign, by
processes of their own (``elsewhere``).
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem
from bilevelbench.core.spec import parse
from bilevelbench.measure.clock import self_check
from bilevelbench.measure.env import environment, source_digest
from bilevelbench.store.files import finals, mark
from bilevelbench.store.files import place as place_of
from bilevelbench.store.journal import read
from bilevelbench.store.schema import RunKey

from .child import ForkServer, Interpreters, Teller
from .job import Job, full_spec
from .send import receive
from .suite import Block, Suite

PATIENCE = 60.0  # seconds for looking up a name or trying to build a problem; what takes longer is left to its run


@dataclass(frozen=True)
class Named:
    """What a text names: its spec with every knob spelled out, its version, and the file that it is in."""

    spec: str
    version: int
    file: Path


Sent = tuple[tuple[str, str, str], ...]  # (kind, name, path) of definitions, see ``run.send``
Ask = Callable[[str, str, int], Named]  # (kind, text, seed) -> what it names; RequestError where that is impossible


def check_device(device: str) -> None:
    """Raise a ``RequestError`` where the device is not there."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise RequestError(f"there is no device {device!r}; choose from cpu, cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RequestError(f"device {device}: this machine has no CUDA device; choose cpu")


def look_up(kind: str, text: str, seed: int) -> Named:
    """What a text names, in this process. A problem is built once: that refuses impossible values."""
    spec, version, file = full_spec(text, kind)
    if kind == "problem":
        with contextlib.suppress(Unsupported):  # a row will say so
            build_problem(text, Draw(seed))
    return Named(str(spec), version, file)


def expand(
    suite: Suite, out: Path, command: str = "", timeout: float | None = None, here: bool = False,
    ask: Ask = look_up, place: Callable[[], str] = str, sent: Sent = (),
) -> list[Job]:  # fmt: skip
    """All jobs of a suite, in an order that interleaves the solvers. Wrong requests raise a ``RequestError``.

    A run asked for twice is made once. ``place``: of this machine, see ``store.files.place``. ``sent``: definitions of
    what some texts name.
    """
    for device in dict.fromkeys(block.device for block in suite.blocks):
        check_device(device)
    jobs = [job for block in suite.blocks for job in _jobs(block, suite.name, out, ask)]
    machine = place()  # asked when nothing is left to be refused
    made = {job.key.digest: job for job in reversed(jobs)}
    return [
        replace(job, command=command, timeout=timeout, place=machine, here=here, sent=sent)
        for job in dict.fromkeys(made[job.key.digest] for job in jobs)
    ]


def _jobs(block: Block, suite: str, out: Path, ask: Ask) -> Iterator[Job]:
    solvers = [(given, ask("solver", given, 0)) for given in block.solvers]
    for given_problem in block.problems:
        problem = ask("problem", given_problem, block.seeds[0])
        for seed in block.seeds:
            for given, solver in solvers:
                key = RunKey(
                    problem.spec, problem.version, solver.spec, seed, block.device, block.dtype, block.engine,
                    block.threads, block.steps, block.seconds, block.calls, block.iterates,
                    source_digest(problem.file, solver.file),
                )  # fmt: skip
                yield Job(key, given_problem, given, out / f"{key.stem}.jsonl", suite)


def unfinished(jobs: list[Job]) -> list[Job]:
    """The jobs whose runs have to be made; a finished file that does not stand is to be replaced."""
    there = {folder: finals(folder) for folder in {job.path.parent for job in jobs}}
    todo = []
    for job in jobs:
        paths = job.finished(there[job.path.parent])
        if not any(job.stands(read(path)) for path in paths):
            todo.append(replace(job, outdated=mark(paths[0]) if paths else ()))
    return todo


class Elsewhere:
    """Looks names up in processes of their own. ``environment``: what those processes run on.

    ``sent``: definitions of what some texts name, and which are looked up nowhere else.
    """

    def __init__(self, processes: ForkServer | Interpreters, patience: float = PATIENCE, sent: Sent = ()) -> None:
        self._sent = {(kind, name): path for kind, name, path in sent}
        self._processes, self._patience = processes, min(patience, PATIENCE)
        self._known: dict[tuple[str, str], Named] = {}
        self.device = "cpu"  # the one that the machine is described by

    def solvers(self) -> list[str]:
        """The names of all solvers, those of other packages included."""
        return list(self._run(describe_solvers, None).get("solvers", []))

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """What the machine is."""
        return dict(self._run(describe_machine, self.device)["environment"])

    def place(self) -> str:
        """Of this machine, see ``store.files.place``."""
        return str(self.environment["place"])

    def __call__(self, kind: str, text: str, seed: int) -> Named:
        """What a text names.

        Where its file crashes or hangs, or builds for too long, the run is to say so: it is named as it was given.
        """
        if (kind, text) not in self._known:
            self._known[kind, text] = self._look_up(kind, text, seed)
        return self._known[kind, text]

    def _look_up(self, kind: str, text: str, seed: int) -> Named:
        spec = parse(text)
        path = "" if spec.file else self._sent.get((kind, spec.name), "")
        if not path and {"solver": SOLVERS, "problem": PROBLEMS}[kind].ours(spec):  # refused at once, if it is
            full, version, file = full_spec(text, kind)
            if kind == "solver":
                return Named(str(full), version, file)
        sent = tuple((*key, path) for key, path in self._sent.items())
        named = self._run(describe, (kind, text, seed, sent)).get("named")
        if named:
            return Named(named[0], named[1], Path(named[2]))
        return Named(str(spec._replace(file=Path(spec.file).name)), 0, Path(path or spec.file or "."))

    def _run(self, call: Callable[[Any, Teller], None], argument: Any) -> dict[str, Any]:
        """Everything that a process said. A request that it refused is refused here."""
        task, said = self._processes.start(call, argument), dict[str, Any]()
        end = time.monotonic() + self._patience
        while task.status is None:
            self._processes.wait(max(0.1, end - time.monotonic()))
            for message in task.heard():
                said |= message
            if time.monotonic() >= end:
                task.kill()
        for message in task.heard():
            said |= message
        task.close()
        if "refused" in said:
            raise RequestError(said["refused"])
        return said


def describe_machine(device: str, tell: Teller) -> None:
    """A task: what the machine is."""
    found = environment(device)
    tell(environment=found | {"clock": self_check(device), "place": place_of(found)})


def describe_solvers(_: None, tell: Teller) -> None:
    """A task: the names of all solvers."""
    tell(solvers=SOLVERS.names())


def describe(asked: tuple[str, str, int, Sent], tell: Teller) -> None:
    """A task: what a text names. It is told before the problem is built, which may fail in ways of its own."""
    kind, text, seed, sent = asked
    receive(sent)
    try:
        spec, version, file = full_spec(text, kind)
        tell(named=[str(spec), version, str(file)])
        look_up(kind, text, seed)
    except RequestError as error:
        tell(refused=str(error))
    except BaseException:
        return  # the run meets it again, where it is said
