"""``bilevelbench.solve``: one problem by one solver, in this process, for its solution."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core import meter as meters
from bilevelbench.core.door import total
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.meter import Tally
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import require, stretch
from bilevelbench.core.solver import start as begin
from bilevelbench.measure.budget import Budget, looks
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.marks import collect, kinds
from bilevelbench.measure.plan import planned

from . import arguments, asked
from . import checkpoint as checkpoints
from .checkpoint import Saved
from .solution import Solution


def solve(
    problem: Any,
    solver: Any,
    *,
    steps: int = 1000,
    seed: int = 0,
    start: Any = None,
    callback: Callable[[Solution], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    judge: bool = False,
    device: str = "cpu",
    dtype: str = "float64",
) -> Solution:
    """Solve one problem by one solver, in this process, and answer where it came to.

    Nothing is timed and nothing sealed: ``run`` is what measures. The steps are those that ``run`` makes.

    Parameters
    ----------
    problem
        A text (``"quadratic(kappa=100)"``, ``"my_file.py"``), a function that takes a ``Draw`` and answers a
        ``Problem``, or an object of ``Problem``.
    solver
        A text (``"soba(lr=0.1)"``, ``"my_file.py"``), a class under ``@solver``, or its object.
    steps
        Outer steps in all, those of a checkpoint included.
    seed
        Makes data, split, noise and start of the problem, and the solver's minibatches.
    start
        Where x and y begin in place of the problem's own start: a ``Solution``, a pair (x, y), a dictionary, or the
        path of a safetensors file with x and y (``Solution.save``, ``run(keep="x,y")``).
    callback
        Called with the ``Solution`` so far at every look; True ends the solve.
    checkpoint
        A file that is written at every look. Where it is there already the solve goes on from it: with the same
        problem, solver and seed it ends where it would have without a stop, to the bit. It is safetensors, not pickle,
        whatever its suffix.
    every
        Steps after which there is a look in any case; otherwise looks are further and further apart, by a factor 1.3.
    judge
        Judge as ``run`` does (phi, phi_gap, gap, ...), for which the lower level is solved anew, at the looks and
        within the gradients of g that ``run`` plans for so many steps. ``unjudged`` in the history says why figures
        are missing. Otherwise the history has f, g and the problem's own metrics.
    device, dtype
        ``cpu`` or ``cuda``; ``float32`` or ``float64``.

    Raises
    ------
    RequestError
        For anything that cannot be done, in one sentence that names the argument.
    """
    last, seed = arguments.whole("steps", steps) or 1000, arguments.whole("seed", seed, 0) or 0
    apart, judged = arguments.whole("every", every), arguments.flag("judge", judge)
    if callback is not None and not callable(callback):
        raise arguments.wrong("callback", callback, "a function of a Solution")
    file = None if checkpoint is None else arguments.path("checkpoint", checkpoint)
    made, exact = asked.problem(problem, seed, device, dtype)
    way = asked.solver(solver)
    try:
        require(way, made)
    except Unsupported as reason:
        raise RequestError(f"solver: {reason}") from None
    made = asked.started(made, start)
    watched = Judge(exact, planned(exact, Budget(steps=last))) if judged else _Values(made)
    going = _Going(made, way, seed, dtype, file, watched, last)
    for look in _looks(going.step, last, apart):
        if going.solution.status == "diverged":
            break
        try:
            going.on(look)
        except Unsupported as reason:  # what only a step finds out, such as a second derivative that is not there
            raise RequestError(f"solver: {reason}") from None
        if callback is not None and callback(going.solution):
            if going.solution.status == "running" and look < last:  # what has diverged, or is done, is not stopped
                going.solution.status = "stopped"
            break
    return going.end()


class _Going:
    """A solve under way."""

    def __init__(
        self, problem: Problem, solver: Any, seed: int, dtype: str, file: Path | None, judge: Judge | _Values,
        last: int,
    ) -> None:  # fmt: skip
        self._file, self._judge, self._tally, self._last = file, judge, Tally(), last
        self._oracle = Oracle(problem, seed, derive, self._tally)
        x, y = problem.x0, problem.y0
        self._about = {
            "solver": repr(solver), "seed": seed, "dtype": dtype, "n_x": x.numel(), "n_y": y.numel(),
            "f": float(derive.value(problem.f, x, y)), "g": float(derive.value(problem.g, x, y)),
        }  # fmt: skip
        self.solution = Solution(problem, solver, None, 0, {})
        if file is not None and file.exists():
            saved = checkpoints.read(file, self._about, self._kinds(problem, solver, seed), x.device)
            self._tally.add(saved.counts)
            self.solution.rows, self.solution.status = saved.history, saved.status
            self._judge.resume(
                max((row["step"] for row in saved.history if {"phi", "unjudged"} & row.keys()), default=-1)
            )
            self._at(saved.step, saved.state)
        else:
            self._at(0, begin(solver, problem, self._oracle))
            self._look()

    @staticmethod
    def _kinds(problem: Problem, solver: Any, seed: int) -> dict[str, type]:
        known = kinds(solver)
        collect(begin(solver, problem, Oracle(problem, seed)), known)
        return known

    @property
    def step(self) -> int:
        """Steps made."""
        return self.solution.step

    def on(self, look: int) -> None:
        """Step on to a look, and look."""
        solution = self.solution
        self._at(look, stretch(solution.solver, self._oracle, solution.state, solution.step, look))
        self._look()

    def end(self) -> Solution:
        """Where it ended."""
        if self.solution.status == "running":
            self.solution.status = "done"
        return self.solution

    def _at(self, step: int, state: Any) -> None:
        self.solution.step, self.solution.state = step, state
        self.solution.calls = dict(meters.calls(self._tally.read()))

    def _look(self) -> None:
        solution = self.solution
        finite = bool(torch.isfinite(solution.x).all() and torch.isfinite(solution.y).all())
        step, last = solution.step, solution.step >= self._last
        values = self._judge(solution.x, solution.y, step, last) if finite else {}
        row: dict[str, Any] = {"step": step, "total_calls": total(meters.calls(self._tally.read())), **values}
        if finite and self._judge.unjudged:
            row["unjudged"] = self._judge.unjudged
        solution.rows.append(row)
        if not finite:
            solution.status = "diverged"
        if self._file is not None:
            saved = Saved(solution.step, solution.state, self._tally.read(), solution.rows, solution.status)
            checkpoints.write(self._file, saved, self._about)


def _looks(step: int, last: int, every: int | None) -> Iterator[int]:
    """The steps after ``step`` at which there is a look; the last is ``last``."""
    schedule, look = looks(), 0
    while step < last:
        while look <= step:
            look = next(schedule)
        step = min(look, last, step - step % every + every if every else last)
        yield step


class _Values:
    """f and g, and the problem's own metrics: uncounted. Used as a ``Judge`` is."""

    unjudged = ""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def __call__(self, x: Tensor, y: Tensor, step: int, last: bool) -> dict[str, float]:
        """The figures at a point."""
        p = self._problem
        values = {"f": float(derive.value(p.f, x, y)), "g": float(derive.value(p.g, x, y))}
        return values | {k: float(value) for k, value in (p.metrics(x, y) if p.metrics else {}).items()}

    def resume(self, step: int) -> None:
        """Nothing has to be known of what was."""
