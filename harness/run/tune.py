"""Tuning: for every solver the same number of configurations, on instances that the suite does not use.

A grid, from a file or from the command line, names problems, solvers and a budget of calls; each pair of a problem and
a solver is a search (see ``search``) over the solver's ``space``, and what it leads to stands in a suite. A knob that
is given in a solver's text is kept. The criterion is that of the ranking: targets held, then what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import parse_seeds, spelled

from .choices import Chosen, Found, Name
from .grid import CALLS, CONFIGS, SEEDS, Part, Plan
from .lattice import Grid, Lattice
from .scores import Scores, Task
from .search import Choice, search
from .suite import Block, Suite

Told = Callable[[Name, Found], None]


def tuned(plan: Plan, scores: Scores, told: Told = lambda name, found: None) -> Chosen:
    """What every search of a plan led to, by (place of the part, problem, solver)."""
    parts = enumerate(plan.parts)
    names = [(i, problem, solver) for i, part in parts for problem in part.problems for solver in part.solvers]
    surveys = scores.ask("survey", [(problem, solver, plan.seeds[0]) for _, problem, solver in names])
    searches = {name: _search(name, survey, plan, scores) for name, survey in zip(names, surveys, strict=True)}
    found: Chosen = {}

    def hear(name: Name, result: Found) -> None:
        found[name] = result
        told(name, result)

    scores.drive(searches, hear)
    return {name: found[name] for name in names}


def _search(name: Name, survey: dict[str, Any], plan: Plan, scores: Scores) -> Generator[list[Task], None, Found]:
    place, problem, solver = name
    lattice = Lattice(solver, tuple(Grid(*axis) for axis in survey["axes"]), survey["fixed"])
    part = plan.parts[place]

    def task(point: Any, seed: int) -> Task:
        return Task(problem, lattice.text(point), seed, part.limits, survey["code"], part.suite.get("judge", ""))

    steps = search(lattice, plan.configs, plan.seeds)
    try:
        asked = next(steps)
        while True:
            tasks = [task(*one) for one in asked]
            yield tasks
            asked = steps.send([scores[one]["score"] for one in tasks])
    except StopIteration as end:
        choice: Choice = end.value
    cpu = sum(scores[task(*one)]["cpu"] for one in choice.scores)
    solver = lattice.text(choice.point)
    sensitivity = list(_steps(choice, lattice, lambda point, seed: scores[task(point, seed)]))
    return Found(solver, choice.edges, choice.tried, choice.worth, cpu, survey["unsupported"], sensitivity)


def _steps(
    choice: Choice, lattice: Lattice, outcome: Callable[[Any, int], dict[str, Any]]
) -> Generator[dict[str, float | None], None, None]:
    """Every step that was tried with the other knobs as chosen: on how many instances, and what came of it."""
    line = {point for point, _ in choice.scores if point[1:] == choice.point[1:]}
    for point in sorted(line):
        found = [outcome(*one) for one in choice.scores if one[0] == point]
        cost = median(one["cost"] for one in found)
        yield {
            **{axis.name: axis.value(k) for axis, k in zip(lattice.axes[:1], point, strict=False) if k is not None},
            "instances": len(found),
            "score": _short(median(one["score"] for one in found)),
            "share": _short(sum(one["share"] for one in found) / len(found)),
            "cost": _short(cost) if math.isfinite(cost) else None, "chosen": point == choice.point,
        }  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def with_tuned(suite: Suite, solvers: Sequence[str], make: Callable[[Plan], Chosen]) -> Suite:
    """A suite in which solvers that joined it are tuned as its own were: each problem then has a block of its own."""
    alone = [(block, problem) for block in suite.blocks for problem in block.problems]
    parts, plans = [], set[tuple[int, tuple[int, ...]]]()
    for block, problem in alone:
        record = block.tuned
        limits = tuple((name, record[name]) for name in ("calls", "rows") if name in record) or (("calls", CALLS),)
        plans.add((record.get("configs", CONFIGS), parse_seeds(record.get("seeds", SEEDS))))
        used = {"seeds": spelled(block.seeds), "judge": block.judge}
        parts.append(Part((problem,), tuple(solvers), limits, suite=used))
    if len(plans) > 1:
        raise RequestError("the blocks of this suite were tuned in different ways; tune the solver with `tune` instead")
    found = make(Plan(tuple(parts), *plans.pop()))
    return replace(suite, blocks=tuple(_joined(i, *one, solvers, found) for i, one in enumerate(alone)))


def _joined(i: int, block: Block, problem: str, solvers: Sequence[str], found: Any) -> Block:
    chosen = {solver: found[i, problem, solver] for solver in solvers}
    own = [solver for solver in block.solvers if solver not in solvers]
    edges = {**block.tuned.get("edges", {}), **{one.solver: list(one.edges) for one in chosen.values() if one.edges}}
    joined = [one for one in block.joined if one not in solvers] if block.tuned else own
    return replace(
        block, problems=(problem,), solvers=(*own, *(one.solver for one in chosen.values())),
        tuned={**block.tuned, "edges": edges}, joined=tuple(joined),
    )  # fmt: skip
