"""From suites to jobs: everything that can be known to be wrong is said before anything is measured.

What a text names is looked up by ``ask``: in this process (``names``), or, for a command that must not run anything
foreign, by processes of their own (``elsewhere``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bilevelbench.core.errors import RequestError
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
    jobs = [job for block in suite.blocks for job in _jobs(block, suite.name, out, ask)]
    machine = place()  # asked when nothing is left to be refused
    made = {job.key.digest: job for job in reversed(jobs)}
    return [
        replace(job, command=command, timeout=timeout, place=machine, here=here, sent=sent, keep=keep)
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
                    source_digest(problem.file, solver.file), block.rows, block.judge,
                )  # fmt: skip
                yield Job(key, given_problem, given, out / f"{key.stem}.jsonl", suite, tuned=block.is_tuned(given))


def unfinished(jobs: list[Job]) -> list[Job]:
    """The jobs whose runs have to be made; a finished file that does not stand is to be replaced.

    ``RequestError`` where one is none of ours.
    """
    there = {folder: finals(folder) for folder in {job.path.parent for job in jobs}}
    todo, now = [], dict[str, str]()
    for job in jobs:
        paths = job.finished(there[job.path.parent])
        records = [ends(path) for path in paths]
        for record in records:
            if record.header is None and is_foreign(record.path):
                raise RequestError(record.troubles[0])
        if not any(job.stands(record, now) for record in records):
            todo.append(replace(job, outdated=mark(paths[0]) if paths else ()))
    return todo
