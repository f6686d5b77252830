"""What every solver keeps: a pure step, a state of fixed shape, exact counts, honest numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from bilevelbench.core.at import At
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem, box
from bilevelbench.core.resolve import make_solver
from bilevelbench.core.solver import require, start

from .cost import asked, declared
from .quadratic import finite_sum, quadratic
from .rounding import same

STEPS = 4


def _quadratic(dtype: torch.dtype = torch.float64) -> Problem:
    """A finite sum, so that minibatches can be drawn; to a solver that takes all rows, a quadratic."""
    problem = finite_sum(quadratic(4, 4, 3.0))
    return dataclasses.replace(problem, x0=problem.x0.to(dtype), y0=problem.y0.to(dtype), y_star=None)


def _run(target: str, problem: Problem, steps: int = STEPS, first: int = 0, state: Any = None) -> list[Any]:
    """The states of some steps, the first one included, and the calls of each step."""
    solver = make_solver(target)
    require(solver, problem)
    oracle = Oracle(problem, 0)
    states = [start(solver, problem, oracle) if state is None else state]
    for k in range(first, first + steps):
        oracle.begin(k)
        states.append(solver.step(oracle, states[-1]))
        _keeps_shape(states[0], states[-1])
    return states


def _keeps_shape(first: Any, state: Any) -> None:
    assert type(state) is type(first), "the state changes its type between steps"
    assert not any(isinstance(leaf, At) for leaf in tree_leaves(state)), (
        "the state holds a point with its graphs (o.at); it is of no use after its step"
    )
    one, other = _tensors(first), _tensors(state)
    assert len(one) == len(other), "the state has another number of tensors after a step"
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape, f"a tensor of the state changes its shape from {[*a.shape]} to {[*b.shape]}"
        assert a.dtype == b.dtype, f"a tensor of the state changes its dtype from {a.dtype} to {b.dtype}"


def _tensors(state: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]


def _unchanged(one: Any, other: Any) -> bool:
    pairs = zip(tree_leaves(one), tree_leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def step_is_pure(target: str) -> None:
    """The same state gives the same result twice, and is not changed."""
    solver, problem = make_solver(target), _quadratic()
    oracle = Oracle(problem, 0)
    first = start(solver, problem, oracle)
    oracle.begin(0)
    state = solver.step(oracle, first)  # past the first step, which may be special
    _keeps_shape(first, state)
    kept = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, state)
    oracle.begin(1)
    once = solver.step(oracle, state)
    assert _unchanged(state, kept), "step changes the state that it is given; it must return a new one"
    oracle.begin(1)
    assert same(once, solver.step(oracle, state)), "step gives two results for one state; it must be pure"


def first_state_is_the_start(target: str) -> None:
    """Before its first step a solver is at (x0, y0): every curve begins at the same point."""
    problem = _quadratic()
    first = _run(target, problem, 0)[0]
    for name, point, given in [("x", first.x, problem.x0), ("y", first.y, problem.y0)]:
        assert torch.equal(point, given), f"init moves {name}; the first state is the start, work on it is for step"


def state_keeps_its_shape(target: str) -> None:
    """Structure, shapes, dtypes stay; x and y are named; no graph is carried."""
    for dtype in (torch.float64, torch.float32):
        for state in _run(target, _quadratic(dtype)):
            assert not any(leaf.requires_grad for leaf in _tensors(state)), (
                "the state carries a graph; a step returns detached tensors"
            )
            assert state.x.dtype == dtype, f"x is {state.x.dtype} in a run in {dtype}"


def counts_are_steady(target: str) -> None:
    """Every step asks the oracle the same number of questions of each kind, but for kinds declared as a range."""
    solver, problem = make_solver(target), _quadratic()
    require(solver, problem)
    seen = asked(solver, problem, STEPS)
    free = {kind for kind, (low, high) in declared(solver, problem).items() if low < high}
    fixed = [{kind: n for kind, n in count.items() if kind not in free} for count in seen]
    assert seen[0], "a step asks the oracle nothing"
    assert all(count == fixed[0] for count in fixed), f"the calls differ between steps: {fixed[0]} and {fixed[-1]}"


def zero_gradients_survive(target: str) -> None:
    """Nothing is divided by zero where f and g are constant."""
    flat = dataclasses.replace(
        _quadratic(),
        f=lambda x, y, rows=None: 0 * (x.sum() + y.sum()),
        g=lambda x, y, rows=None: 0 * (x.sum() + y.sum()),
    )
    for tensor in _tensors(_run(target, flat)[-1]):
        assert bool(torch.isfinite(tensor).all()), "zero gradients give a state that is not finite"


def nan_stays_nan(target: str) -> None:
    """A NaN from the problem reaches x or y; it is not replaced by something finite."""
    broken = dataclasses.replace(
        _quadratic(),
        f=lambda x, y, rows=None: torch.nan * (x.sum() + y.sum()),
        g=lambda x, y, rows=None: torch.nan * (x.sum() + y.sum()),
    )
    state = _run(target, broken)[-1]
    finite = torch.isfinite(state.x).all() and torch.isfinite(state.y).all()
    assert not bool(finite), "the problem answers NaN, and the iterates stay finite: a diverged run would look sound"


def resuming_equals_never_stopping(target: str) -> None:
    """A step depends on the state and the step's number alone."""
    problem = _quadratic()
    whole = _run(target, problem, steps=4)
    resumed = _run(target, problem, steps=2, first=2, state=whole[2])
    assert same(resumed[-1], whole[-1]), "two steps, a new oracle and two steps differ from four steps"


class _Watched(Oracle):
    """An oracle that keeps the points it is asked at."""

    asked: list[tuple[Tensor, Tensor]]

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in {"f", "g", "df", "df_x", "df_y", "dg", "dg_x", "dg_y", "d2g", "d2g_xy", "d2g_yy"}:
            return method

        def watched(x: Tensor, y: Tensor, *rest: Any, **named: Any) -> Any:
            self.asked.append((x, y))
            return method(x, y, *rest, **named)

        return watched


def bounds_are_kept(target: str) -> None:
    """On a problem with bounds, every point that the oracle is asked at, and every iterate, lies within them."""
    low, high = -0.05, 0.05
    problem = dataclasses.replace(
        _quadratic(), project_x=box(low, high), project_y=box(low, high), y_star=None, phi_star=None
    )
    problem = dataclasses.replace(problem, x0=problem.x0.clamp(low, high), y0=problem.y0.clamp(low, high))
    solver = make_solver(target)
    require(solver, problem)
    oracle = _Watched(problem, 0)
    oracle.asked = []
    state = start(solver, problem, oracle)
    for k in range(STEPS):
        oracle.begin(k)
        state = solver.step(oracle, state)
        for name, point in [("x", state.x), ("y", state.y)]:
            assert bool((point == point.clamp(low, high)).all()), f"{name} leaves its bounds; apply o.project_{name}"
    for x, y in oracle.asked:
        inside = bool((x == x.clamp(low, high)).all() and (y == y.clamp(low, high)).all())
        assert inside, "the oracle is asked outside the bounds; apply o.project_x and o.project_y after every update"


CHECKS: dict[str, Callable[[str], None]] = {
    check.__name__.replace("_", " "): check
    for check in (
        step_is_pure, first_state_is_the_start, state_keeps_its_shape, counts_are_steady, zero_gradients_survive,
        nan_stays_nan, resuming_equals_never_stopping, bounds_are_kept,
    )
}  # fmt: skip
