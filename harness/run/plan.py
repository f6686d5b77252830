"""From suites to jobs: everything that can be known to be wrong is said before anything is measured.

What a text names is looked up by ``ask``: in this process (``names``), or, for a command that must not run anything
foreign, by processes of their own (``elsewhere``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.measure.changed import Files
from bilevelbench.measure.env import source_digest
from bilevelbench.store.ends import ends, is_foreign
from bilevelbench.store.files import finals, mark
from bilevelbench.store.schema import RunKey

from .job import Job, Named, Sent, known_device
from .suite import Block, Suite

# (kind, text, seed) -> what it names; RequestError where that is impossible
Ask = Callable[[str, str, int], Named]


def expand(
    suite: Suite, out: Path, command: str = "", timeout: float | None = None, here: bool = False,
    ask: Ask | None = None, place: Callable[[], str] = str, sent: Sent = (), keep: tuple[str, ...] = (),
) -> list[Job]:  # fmt: skip
    """All jobs of a suite, in an order that interleaves the solvers. Wrong requests raise a ``RequestError``.

    A run asked for twice is made once. ``ask``: None looks names up in this process, which imports them. ``place``: of
    this machine, see ``store.files.place``. ``sent``: definitions of what some texts name. ``keep``:
    see ``Job``.
    """
    if ask is None:
        from .names import look_up  # a driver has no torch

        ask = look_up
    if keep and any(block.engine == "batched" for block in suite.blocks):
        raise RequestError("keep needs runs of their own, and the engine batched was asked for; choose another engine")
    for device in dict.fromkeys(block.device for block in suite.blocks):
        known_device(device)
        if device != "cpu":
            ask("device", device, 0)
    looked_up = [_looked_up(block, ask) for block in suite.blocks]
    machine = place()  # asked when nothing is left to be refused
    common = {"command": command, "timeout": timeout, "place": machine, "here": here, "sent": sent, "keep": keep}
    made: dict[str, Job] = {}
    for block, named in zip(suite.blocks, looked_up, strict=True):
        for job in _jobs(block, named, suite.name, out, common):
            made.setdefault(job.key.digest, job)
    return list(made.values())


Pair = tuple[str, Named, str, Named]  # a problem as it was asked for and what that is, and a solver


def _looked_up(block: Block, ask: Ask) -> list[list[Pair]]:
    """What is to be run with each seed, a list for each problem."""
    solvers = [(given, ask("solver", given, 0)) for given in block.solvers]
    problems = [(given, ask("problem", given, block.seeds[0])) for given in block.problems]
    return [[(*problem, *solver) for solver in solvers] for problem in problems]


def _jobs(block: Block, named: list[list[Pair]], suite: str, out: Path, common: dict[str, Any]) -> Iterator[Job]:
    for pairs in named:
        of = [(source_digest(problem.file, solver.file), block.is_tuned(given)) for _, problem, given, solver in pairs]
        for seed in block.seeds:
            for (given_problem, problem, given, solver), (code, tuned) in zip(pairs, of, strict=True):
                key = RunKey(
                    problem.spec, problem.version, solver.spec, seed, block.device, block.dtype, block.engine,
                    block.threads, block.steps, block.seconds, block.calls, block.iterates, code, block.rows,
                    block.judge,
                )  # fmt: skip
                yield Job(key, given_problem, given, out / f"{key.stem}.jsonl", suite, tuned=tuned, **common)


def unfinished(jobs: list[Job]) -> list[Job]:
    """The jobs whose runs have to be made; a finished file that does not stand is to be replaced.

    ``RequestError`` where one is none of ours.
    """
    there = dict[str, dict[str, list[Path]]]()
    todo, now = [], Files()
    for job in jobs:
        folder = os.path.dirname(job.path)  # a text: a path is slow to hash
        if folder not in there:
            there[folder] = finals(Path(folder))
        paths = job.finished(there[folder])
        records = [ends(path) for path in paths]
        for record in records:
            if record.header is None and is_foreign(record.path):
                raise RequestError(record.troubles[0])
        if not any(job.stands(record, now) for record in records):
            todo.append(replace(job, outdated=mark(paths[0])) if paths else job)
    return todo
