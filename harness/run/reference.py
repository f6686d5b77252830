"""References searched for, each in a process of its own: the driver imports nothing foreign, and does without torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.measure.stamps import hash_now
from bilevelbench.store import references
from bilevelbench.store.references import Reference

from .child import ForkServer, Interpreters, Task, Teller
from .job import Named, Sent

if TYPE_CHECKING:
    from bilevelbench.core.problem import Problem
    from bilevelbench.measure.reference import Best

OFTEN = 0.5  # seconds between two words of a search about how far it is

Hear = Callable[[float, float], None]  # the gradients spent, the least Phi so far


class Needless(RequestError):
    """Phi* is known: there is nothing to search for."""


@dataclass(frozen=True)
class Search:
    """A reference to be searched for: a problem as it was asked for and what that names, a seed, and how far to go.

    sent: definitions that the process needs (see ``run.send``).
    """

    given: str
    seed: int
    named: Named
    starts: int
    budget: int
    sent: Sent = ()

    @property
    def words(self) -> str:
        """The instance, for a person."""
        return f"{self.given} seed {self.seed}"

    @property
    def source(self) -> str:
        """The digest of the problem's file."""
        return hash_now(str(self.named.file), "")

    def kept(self, out: Path) -> Reference | None:
        """What an earlier search has left below a results folder, if it went as far for the same file."""
        for seed in (self.seed, None):
            one = references.kept(out, self.named.spec, self.named.version, seed)
            if one and one.source == self.source and (one.budget, one.starts) >= (self.budget, self.starts):
                return one
        return None

    def make(self, processes: ForkServer | Interpreters, patience: float, hear: Hear) -> Reference:
        """Search. ``RequestError`` with the reason where nothing comes of it, ``Needless`` where Phi* is known.

        ``patience``: seconds after which a process that says nothing is ended.
        """
        task = processes.start("bilevelbench.run.reference:search", self)
        said = _followed(processes, task, patience, hear)
        if isinstance(said.get("found"), str):
            return references.loads(said["found"])
        why = str(said.get("refused") or f"its process {_end(task, patience)}")
        raise (Needless if said.get("known") else RequestError)(f"{self.words}: {why}")


def _followed(processes: ForkServer | Interpreters, task: Task, patience: float, hear: Hear) -> dict[str, str]:
    """What a task said in the end."""
    said: dict[str, str] = {}
    heard = time.monotonic()
    while True:
        ended = task.status is not None
        for message in task.heard():
            heard = time.monotonic()
            if "spent" in message:
                hear(message["spent"], message["least"])
            else:
                said |= message
        if ended:
            task.close()
            return said
        if time.monotonic() - heard > patience:
            task.kill()
        processes.wait(min(5.0, patience))


def _end(task: Task, patience: float) -> str:
    assert task.status is not None
    if os.WIFSIGNALED(task.status):
        return f"said nothing for {patience:g} s, or was killed (signal {os.WTERMSIG(task.status)})"
    return f"ended with exit code {os.waitstatus_to_exitcode(task.status)}"


def search(asked: Search, tell: Teller) -> None:
    """A task: search, and tell the reference, or why there is none."""
    from .names import receive  # needs torch
    from .stage import keep_to_memory

    receive(asked.sent)
    keep_to_memory()
    try:
        tell(found=references.dumps(_found(asked, tell)))
    except Needless as error:
        tell(refused=str(error), known=True)
    except (RequestError, Unsupported) as error:
        tell(refused=str(error))
    except Exception as error:  # of the problem's code, which can raise what it likes
        first = str(error).strip().partition("\n")[0]
        tell(refused=f"its code raised {type(error).__name__}: {first}"[:500])


def _found(asked: Search, tell: Teller) -> Reference:
    from bilevelbench.core.draw import Draw
    from bilevelbench.core.resolve import build_problem
    from bilevelbench.measure import guards
    from bilevelbench.measure.reference import search as best_of

    rng = Draw(asked.seed)
    problem = build_problem(asked.given, rng)
    if problem.phi_star is not None:
        source = problem.phi_star_source
        raise Needless(f"it needs no reference: Phi* = {problem.phi_star:.10g} is known ({source})")
    guards.asked_twice(problem, rng)
    last = 0.0

    def now_and_then(spent: float, least: float) -> None:
        nonlocal last
        if time.monotonic() - last > OFTEN:
            last = time.monotonic()
            tell(spent=spent, least=least)

    best = best_of(problem, asked.starts, asked.budget, asked.seed, now_and_then)
    return _told(asked, problem, best, guards.digest(problem, rng, rng))


def _told(asked: Search, problem: Problem, best: Best, seen: dict[str, object]) -> Reference:
    from importlib.metadata import version

    from bilevelbench.measure.env import now
    from bilevelbench.measure.reference import METHOD

    return Reference(
        problem=asked.named.spec, version=asked.named.version, seed=asked.seed if problem.seeded else None,
        phi=best.phi, phi_error=best.phi_error, grad_phi=best.grad_phi, grad_phi_error=best.grad_phi_error,
        ended=best.ended, starts=best.starts, budget=asked.budget, gradients=best.gradients, method=METHOD,
        local=problem.chosen, date=now()[:10], bilevelbench=version("bilevelbench"), source=asked.source,
        drawn=str(seen["drawn"]), numbers=list(seen["numbers"]),  # type: ignore[call-overload]
    )  # fmt: skip
