"""Choosing step sizes: the same number of configurations for every solver, chosen by Phi on a seed of its own.

    python -m bilevelbench.run.tune GRID.toml [--jobs N] > SUITE.toml

A grid file lists problems, each with the values of ``lr`` tried for every solver, the ``lr_inner`` of all of them and
a budget; and solvers, each with further knobs to try (``only.SOLVER`` of a problem replaces some of them there). A
solver's configurations are the product of its lists, the same number for every solver; controls without a step on x
have fewer. The best is the one with the
least Phi where the budget ends (see ``final_phi``), among runs that did not fail, on ``seed``, which the suite itself
does not use. Where every configuration failed the first one is kept, so that the report shows the failure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.registry import SOLVERS, Spec, build_problem, knobs, make_solver

from .budget import Budget
from .clock import Stopwatch
from .judge import Judge
from .trace import trace


def configurations(solver: str, extra: dict[str, list[Any]], lr: list[float], lr_inner: float) -> list[Spec]:
    """The product of a solver's lists, ``lr`` first. ``lr`` and ``lr_inner`` are set where the solver has them."""
    known = knobs(SOLVERS.entry(Spec(solver, {})))
    lists = {"lr": lr, **extra} if "lr" in known else extra
    fixed = {"lr_inner": lr_inner} if "lr_inner" in known and "lr_inner" not in extra else {}
    return [
        Spec(solver, fixed | dict(zip(lists, values, strict=True))) for values in itertools.product(*lists.values())
    ]


def final_phi(problem: str, solver: str, seed: int, calls: int) -> float:
    """The larger Phi of the last iterate within the budget and of the one after it; infinity for a run that failed.

    Of two, because a step size that throws x from side to side may end on a lucky one.
    """
    torch.set_num_threads(1)
    made, made_solver = build_problem(problem, Draw(seed)), make_solver(solver)
    last: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        last[:] = [(x, y)]
        return {}

    rows = list(trace(made, made_solver, seed, Budget(calls=calls), keep, Stopwatch(lambda: None), False))
    again = [*last]
    steps = rows[-1].step + 1
    rows += list(trace(made, made_solver, seed, Budget(steps=steps), keep, Stopwatch(lambda: None), False))[-1:]
    if any(row.status != "done" for row in (rows[-1], rows[-2])):
        return math.inf
    judge = Judge(made)
    phi = max(judge(*point)["phi"] for point in (*again, *last))
    return phi if math.isfinite(phi) else math.inf


def _score(task: tuple[str, str, int, int]) -> float:
    return final_phi(*task)


def tune(grid: dict[str, Any], jobs: int) -> str:
    """The suite's text, one block per problem with each solver's best configuration."""
    lines = [f"about = {json.dumps(grid['about'])}", ""]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for problem in grid["problem"]:
            best = []
            for solver, extra in grid["solver"].items():
                extra = extra | problem.get("only", {}).get(solver, {})
                specs = configurations(solver, extra, problem["lr"], problem["lr_inner"])
                tasks = [(problem["spec"], str(spec), grid["seed"], problem["calls"]) for spec in specs]
                scores = list(pool.map(_score, tasks))
                k = min(range(len(specs)), key=lambda i: (scores[i], i))
                best.append(str(specs[k]))
                print(f"{problem['spec']}: {specs[k]} {scores[k]:.6g}", file=sys.stderr, flush=True)
            lines += [
                "[[block]]",
                f"problems = {json.dumps([problem['spec'], *problem.get('also', [])])}",
                "solvers = [",
            ]
            lines += [f"  {json.dumps(spec)}," for spec in best]
            lines += ["]", *(f"{k} = {json.dumps(v)}" for k, v in problem["suite"].items()), ""]
    return "\n".join(lines)


def main() -> None:
    """Read a grid file and print the suite."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("grid", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    grid = tomllib.loads(options.grid.read_text(encoding="utf-8"))
    print(f"# Chosen by: python -m bilevelbench.run.tune {options.grid.name} (see that file for what was tried).")
    print(tune(grid, options.jobs))


if __name__ == "__main__":
    main()
