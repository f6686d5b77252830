"""Choosing step sizes: the same number of configurations for every solver, chosen by Phi on a seed of its own.

    python -m bilevelbench.run.tune GRID.toml [--jobs N] [--scores FILE] > SUITE.toml

A grid file lists problems, each with the values of ``lr`` tried for every solver, the ``lr_inner`` of all of them and
a budget; and solvers, each with further knobs to try (``only.SOLVER`` of a problem replaces some of them there). A
knob's value in quotes, "0.3", is that multiple of the problem's ``lr_inner``; ``lr_times`` multiplies the values of
``lr`` for a solver that divides its steps by a number of its own, as V-PBGD does by gamma. Where ``spec`` is a list
each of its problems is tuned by itself; those of ``also`` take over what was chosen. A solver's configurations are the
product of its lists, the same number for every solver; controls without a step on x have fewer. ``solvers`` of a
problem names those that take part there, all of them if it is left out. The best is the one with the least Phi where
the budget ends (see ``final_phi``), among runs that did not fail, on ``seed``, which the suite itself does not use.
Where every configuration failed the first one is kept, so that the report shows the failure; where there is but one
there is nothing to choose, and it is not run.

``--scores``: a file of JSON lines to which each score is added, and what it holds is not computed again: an
interrupted command goes on where it was. Throw it away when a solver or a problem has changed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.door import total
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, knobs, make_solver
from bilevelbench.core.solver import Solver, require, start
from bilevelbench.core.spec import Spec
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.judge import Judge

Task = tuple[str, str, int, int]  # problem, solver, seed, calls


def configurations(solver: str, extra: dict[str, Any], lr: list[float], lr_inner: float) -> list[Spec]:
    """The product of a solver's lists, ``lr`` first. ``lr`` and ``lr_inner`` are set where the solver has them."""
    known, times = knobs(SOLVERS.entry(Spec(solver, {}))), extra.get("lr_times", 1.0)
    extra = {knob: values for knob, values in extra.items() if knob != "lr_times"}
    lists = {"lr": [_short(times * value) for value in lr], **extra} if "lr" in known else extra
    fixed = {"lr_inner": lr_inner} if "lr_inner" in known and "lr_inner" not in extra else {}
    return [
        Spec(solver, fixed | {knob: _value(value, lr_inner) for knob, value in zip(lists, values, strict=True)})
        for values in itertools.product(*lists.values())
    ]


def _value(value: Any, lr_inner: float) -> Any:
    return _short(float(value) * lr_inner) if isinstance(value, str) else value


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def final_phi(problem: str, solver: str, seed: int, calls: int) -> float:
    """The larger Phi of the last iterate within the budget and of the one after it; infinity for a run that failed.

    Of two, because a step size that throws x from side to side may end on a lucky one. Where Phi* is known it is the
    gap to it: that one knows of violated constraints, under which Phi may lie below Phi*.
    """
    torch.set_num_threads(1)
    made_solver = make_solver(solver)
    try:
        made = build_problem(problem, Draw(seed))
        require(made_solver, made)
        judge = Judge(made)
        judged = [judge(x, y) for x, y in last_two(made, made_solver, seed, calls)]
        phi = max(metrics.get("phi_gap", metrics.get("phi", math.inf)) for metrics in judged)
    except RequestError:  # the grid is wrong
        raise
    except Exception:  # as in a run of the suite, which will say what it was
        return math.inf
    return phi if math.isfinite(phi) else math.inf


def last_two(problem: Problem, solver: Solver, seed: int, calls: int) -> list[tuple[Tensor, Tensor]]:
    """(x, y) where the budget ends, and one step later."""
    oracle, budget = Oracle(problem, seed), Budget(calls=calls)
    state, step = start(solver, problem, oracle), 0
    init = 0.0, total(oracle.calls)
    points: list[tuple[Tensor, Tensor]] = []
    while len(points) < 2:
        oracle.begin(step)
        state = solver.step(oracle, state)
        step += 1
        if step % 100 == 0 and not bool(torch.isfinite(state.x).all()):
            raise ArithmeticError("x is not finite")
        if points or budget.spent(step, 0.0, total(oracle.calls), init):
            points.append((state.x, state.y))
    return points


class Scores:
    """Scores of tasks, kept in a file if one is given. As text: how many there are, how fast, how long it will take."""

    def __init__(self, path: Path | None, jobs: int, tasks: list[Task]) -> None:
        self.path, self.count, self.known, self.made = path, len(tasks), dict[Task, float](), 0
        for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []:
            *task, score = json.loads(line)
            self.known[tuple(task)] = score
        self.missing = sum(task not in self.known for task in tasks)
        self.begin = time.monotonic()
        self.pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))

    def __call__(self, tasks: list[Task]) -> list[float]:
        """The scores of some of the tasks; those that are not known yet are computed."""
        todo = [task for task in tasks if task not in self.known]
        for task, score in zip(todo, self.pool.map(_score, todo), strict=True):
            self.known[task] = score
            self.made += 1
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([*task, score]) + "\n")
        return [self.known[task] for task in tasks]

    def __str__(self) -> str:
        left, rate = self.missing - self.made, self.made / (time.monotonic() - self.begin)
        return f"{self.count - left}/{self.count}" + (
            f", {60 * rate:.0f} a minute, {left / rate / 60:.0f} min left" if rate else ""
        )


def _score(task: Task) -> float:
    return final_phi(*task)


def _parts(grid: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, dict[str, list[Spec]]]]:
    """Each problem of the grid with its text and the configurations of each solver."""
    for problem in grid["problem"]:
        for text in [problem["spec"]] if isinstance(problem["spec"], str) else problem["spec"]:
            tried = {}
            for solver in problem.get("solvers", grid["solver"]):
                extra = grid["solver"][solver] | problem.get("only", {}).get(solver, {})
                tried[solver] = configurations(solver, extra, problem["lr"], problem["lr_inner"])
            yield problem, text, tried


def tune(grid: dict[str, Any], jobs: int, path: Path | None = None) -> str:
    """The suite's text, one block per problem with each solver's best configuration."""

    def tasks(problem: dict[str, Any], text: str, specs: list[Spec]) -> list[Task]:
        return [(text, str(spec), grid["seed"], problem["calls"]) for spec in specs]

    lines = [f"about = {json.dumps(grid['about'])}", ""]
    everything = [
        task
        for problem, text, tried in _parts(grid)
        for specs in tried.values()
        if len(specs) > 1
        for task in tasks(problem, text, specs)
    ]
    scores = Scores(path, jobs, everything)
    with scores.pool:
        for problem, text, tried in _parts(grid):
            lines += ["[[block]]", f"problems = {json.dumps([text, *problem.get('also', [])])}", "solvers = ["]
            for specs in tried.values():
                found = scores(tasks(problem, text, specs)) if len(specs) > 1 else [math.nan]
                k = min(range(len(specs)), key=lambda i: (found[i], i))
                lines.append(f"  {json.dumps(str(specs[k]))},")
                print(f"{scores}: {text} {specs[k]} {found[k]:.6g}", file=sys.stderr, flush=True)
            lines += ["]", *(f"{k} = {json.dumps(v)}" for k, v in problem["suite"].items()), ""]
    return "\n".join(lines)


def main() -> None:
    """Read a grid file and print the suite."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("grid", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--scores", type=Path)
    options = parser.parse_args()
    grid = tomllib.loads(options.grid.read_text(encoding="utf-8"))
    name = options.grid.name
    print(f"# Chosen by: python -m bilevelbench.run.tune {name} (see grids/{name} for what was tried).")
    print(tune(grid, options.jobs, options.scores))


if __name__ == "__main__":
    main()
