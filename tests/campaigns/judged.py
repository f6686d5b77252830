"""The judge's figures over the suite `everything` and ten networks, held to a re-solve that shares no code with it.

    OMP_NUM_THREADS=1 nice -n 15 python -m tests.campaigns.judged [WORD...]

Of each problem (those that have a WORD in their name, or all), at seed 0: points at the start, in the middle and at the
end of short runs of two solvers of the suite. y*(x) is solved for again by scipy's L-BFGS-B and by Newton's method with
the Hessian as a matrix, the hypergradient by a dense factorisation, g's gap by Gauss's rule with eight nodes. Counted
are the figures that were shown and are further from these than the judge says that they may be, beyond the error of the
re-solve itself. $BILEVELBENCH_DATA is needed for svm and letter data.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

import bilevelbench as bb
from bilevelbench import Draw, Problem, Unsupported, build_problem
from bilevelbench.measure.judge import DIGITS, Judge
from bilevelbench.measure.plan import Plan
from bilevelbench.run.suite import load_suite
from tests.campaigns.networks import LOWER, network

SIBLING = "test_a_re_solve_of_ones_own_agrees_with_the_judge"

EPS = 2.0**-52
STEPS = 24
LARGEST = 1500  # variables below, of which the Hessian is made as a matrix
CLOSED = 1e-9  # of phi, grad_phi and what they are made of: a closed form states no error, and is held to this
NONE = {"h_g", "multi_valued", "nonsmooth"}  # y* is no isolated zero of g's gradient: nothing here solves for it


class Solved(NamedTuple):
    """y*, how far it may be off, phi and |grad phi| there, each with its error, and the largest curvature."""

    y: Tensor
    off: float
    phi: float
    phi_off: float
    grad: float
    grad_off: float
    largest: float


def slope(p: Problem, x: Tensor, y: Tensor) -> Tensor:
    """g's gradient in y."""
    leaf = y.detach().requires_grad_()
    return torch.autograd.grad(p.g(x, leaf), leaf, materialize_grads=True)[0]


def differences(function, at: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """The Jacobian of a vector function, (m, n), by central differences of fourth order."""
    h = 1e-3 * float(at.norm() / at.numel() ** 0.5 or 1.0)
    columns = []
    for unit in torch.eye(at.numel(), dtype=at.dtype):
        one, two = (function(at + k * h * unit) - function(at - k * h * unit) for k in (1, 2))
        columns.append((8 * one - two) / (12 * h))
    return torch.stack(columns, 1)


def hessian(p: Problem, x: Tensor, y: Tensor) -> np.ndarray:
    """d2g/dydy."""
    if "once" in p.flags:
        found = differences(lambda v: slope(p, x, v), y)
    else:
        leaf = y.detach().requires_grad_()
        first = torch.autograd.grad(p.g(x, leaf), leaf, create_graph=True)[0]
        unit = torch.eye(len(y), dtype=y.dtype)
        try:
            found = torch.autograd.grad(first, leaf, unit, retain_graph=True, is_grads_batched=True)[0]
        except RuntimeError:  # something in it cannot be batched
            found = torch.stack([torch.autograd.grad(first, leaf, row, retain_graph=True)[0] for row in unit])
    return ((found + found.T) / 2).numpy()


def cross(p: Problem, x: Tensor, y: Tensor, q: Tensor) -> Tensor:
    """d2g/dxdy q."""
    if "once" in p.flags:

        def along(v: Tensor) -> Tensor:
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(p.g(leaf, v), leaf, materialize_grads=True)[0]

        h = 1e-3 * float(y.norm() / q.norm())
        one, two = (along(y + k * h * q) - along(y - k * h * q) for k in (1, 2))
        return (8 * one - two) / (12 * h)
    a, b = x.detach().requires_grad_(), y.detach().requires_grad_()
    first = torch.autograd.grad(p.g(a, b), b, create_graph=True)[0]
    return torch.autograd.grad(first, a, q, materialize_grads=True)[0]


def inverse(p: Problem, H: np.ndarray, v: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(H^-1 v among the free variables, the least curvature that is none, the largest); flat directions are left out.

    ``ArithmeticError`` where a curvature is negative.
    """
    found, values = np.zeros(len(v)), np.ones(1)
    if free.any():
        values, vectors = np.linalg.eigh(H[np.ix_(free, free)])
        bent = values > (1e-8 if "once" in p.flags else 1e-12) * values.max()
        if values.min() < -1e-7 * values.max():
            raise ArithmeticError(f"no minimum: curvature {values.min():.1e} beside {values.max():.1e}")
        parts = (vectors.T @ v[free])[bent] / values[bent]
        found[free], values = vectors[:, bent] @ parts, values[bent]
    return found, float(values.min()), float(values.max())


def solve(p: Problem, x: Tensor, start: Tensor) -> Solved:
    """The minimiser near ``start``, within bounds, and what follows from it."""
    low, high = p.bounds_y or (None, None)
    bounds = None if low is None else list(zip(low.tolist(), high.tolist(), strict=True))

    def fun(v: np.ndarray) -> tuple[float, np.ndarray]:
        y = torch.from_numpy(v)
        return float(p.g(x, y).detach()), slope(p, x, y).numpy()

    size = float(slope(p, x, start).norm()) or 1.0
    found = minimize(
        lambda v: tuple(part / size for part in fun(v)), start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"gtol": 1e-9, "ftol": 1e-16, "maxiter": 3000, "maxfun": 3000, "maxcor": 30},
    )  # fmt: skip
    y, last = torch.from_numpy(found.x), np.inf
    for _ in range(12):
        g, H = slope(p, x, y), hessian(p, x, y)
        free = np.ones(len(y), bool) if low is None else ~(
            ((y <= low) & (g > 0)) | ((y >= high) & (g < 0))
        ).numpy()  # fmt: skip
        step = inverse(p, H, g.numpy(), free)[0]
        off = float(np.linalg.norm(step))
        if off >= last / 2 and last < 1e-6 * float(y.norm() or 1.0):
            break
        last, y = off, p.project_y(y - torch.from_numpy(step)) if p.project_y else y - torch.from_numpy(step)
    return followed(p, x, y, max(off, last if last < np.inf else off), H, free)


def followed(p: Problem, x: Tensor, y: Tensor, off: float, H: np.ndarray, free: np.ndarray) -> Solved:
    """phi and the hypergradient at y*."""
    a, b = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = p.f(a, b)
    fx, fy = torch.autograd.grad(value, (a, b), materialize_grads=True) if value.requires_grad else (a * 0, b * 0)
    q, least, largest = inverse(p, H, fy.numpy(), free)
    second = cross(p, x, y, torch.from_numpy(q)) if q.any() else torch.zeros_like(x)
    length = float(fy.norm() * y.norm())
    kappa, phi = largest / least, float(value.detach())
    error = (1e-8 if "once" in p.flags else 0) + 20 * kappa * EPS + 30 * kappa**0.5 * off / float(y.norm() or 1.0)
    made_of, floor = float(second.norm()) + float(fx.norm()), 50 * EPS * abs(phi) / float(x.norm() or 1.0)
    return Solved(
        y, off + EPS * float(y.norm()), phi, float(fy.norm()) * 2 * off + 50 * EPS * (abs(phi) + length),
        float((fx - second).norm()), made_of * error + floor, largest,
    )  # fmt: skip


def gap(p: Problem, x: Tensor, y: Tensor, best: Tensor) -> float:
    """g(x, y) - g(x, best), by the mean slope on the way."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    way = y - best
    parts = [w / 2 * float(slope(p, x, best + (1 + t) / 2 * way) @ way) for t, w in zip(nodes, weights, strict=True)]
    return float(sum(parts))


def wrong(p: Problem, judged: dict[str, float], x: Tensor, y: Tensor, own: Solved) -> Iterator[str]:
    """A sentence for each figure that is shown and further off than it says."""
    stated = judged.get("phi_error", CLOSED * (abs(own.phi) + own.phi_off))
    if abs(judged["phi"] - own.phi) > stated + own.phi_off:
        yield f"phi {judged['phi']:.12g} +- {stated:.1e}, it is {own.phi:.12g} +- {own.phi_off:.1e}"
    if "grad_phi" in judged:
        stated = judged.get("grad_phi_error", CLOSED * own.grad)
        if abs(judged["grad_phi"] - own.grad) > stated + own.grad_off:
            yield f"grad_phi {judged['grad_phi']:.12g} +- {stated:.1e}, it is {own.grad:.12g} +- {own.grad_off:.1e}"
    if "gap" in judged:
        true, size = gap(p, x, y, own.y), abs(float(p.g(x, y).detach()))
        near = own.off + judged.get("lower_error", 0.0)
        allowed = DIGITS * abs(true) + 10 * own.largest * (near**2 + near * float((y - own.y).norm()) * EPS**0.5)
        far = 1e-6 * abs(true) if abs(true) > 1e-6 * size else 8 * EPS * size  # kinks on a long way spoil Gauss's rule
        plain = float(p.g(x, y).detach()) - float(p.g(x, own.y).detach())
        if min(abs(judged["gap"] - true), abs(judged["gap"] - plain)) > allowed + far:
            yield f"gap {judged['gap']:.12g}, it is {true:.12g}"


def points(problem: str | Problem, solvers: tuple[str, ...]) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """(solver, step, x, y) at the start, in the middle and at the end of short runs of the first two that can run."""
    made = 0
    for solver in solvers:
        seen: dict[int, tuple[Tensor, Tensor]] = {}

        def note(solution: bb.Solution, seen: dict[int, tuple[Tensor, Tensor]] = seen) -> None:
            seen[solution.step] = solution.x, solution.y

        try:
            bb.solve(problem, solver, steps=STEPS, every=STEPS // 2, callback=note)
        except (bb.RequestError, Unsupported):
            continue
        yield from ((solver, step, *seen[step]) for step in (1, STEPS // 2, STEPS) if step in seen)
        made += 1
        if made == 2:
            return


def held(name: str, problem: str | Problem, solvers: tuple[str, ...], counts: Counter[str]) -> None:
    """Judge the points of a problem and hold the figures to a re-solve. Prints what is wrong."""
    p = build_problem(problem, Draw(0)) if isinstance(problem, str) else problem
    judge, before = None, ""
    for solver, step, x, y in points(problem, solvers):
        if judge is None or solver != before:
            judge, before = Judge(p, Plan()), solver
        if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
            counts["diverged"] += 1
            continue
        counts["points"] += 1
        x = p.project_x(x) if p.project_x else x
        y = p.project_y(y) if p.project_y else y
        judged = judge(x, y, step)
        if judge.unjudged:
            counts["marked"] += 1
            print(f"  marked: {name}, {solver} step {step}: {judge.unjudged}", flush=True)
        if "phi" not in judged:
            counts["without phi"] += 1
            continue
        if p.h_g is not None or (NONE & p.flags and p.y_star is not None):
            counts["closed form of a choice: no other answer here"] += 1
            continue
        if len(y) > LARGEST:
            counts["closed form, too large for a matrix"] += 1
            continue
        start = judge._last[0] if p.y_star is None else p.y_star(x).detach()
        try:
            own = solve(p, x, p.y0 if "strongly_convex" in p.flags else start)
        except (ArithmeticError, np.linalg.LinAlgError, ValueError) as error:
            counts["re-solve failed"] += 1
            print(f"  re-solve failed: {name}, {solver} step {step}: {error}", flush=True)
            continue
        counts["held"] += 1
        for sentence in wrong(p, judged, x, y, own):
            counts[f"WRONG {sentence.partition(' ')[0]}"] += 1
            print(f"  WRONG: {name}, {solver} step {step}: {sentence}", flush=True)


def asked() -> Iterator[tuple[str, str | Problem, tuple[str, ...]]]:
    """All problems with the solvers of their suite."""
    seen: dict[str, tuple[str, ...]] = {}
    for block in load_suite("everything").blocks:
        for text in block.problems:
            seen.setdefault(text, block.solvers)
    yield from ((text, text, solvers) for text, solvers in seen.items())
    solvers = ("bome(lr=0.1,lr_inner=0.3,lr_y=0.3,T=5)", "soba(lr=0.1,lr_inner=0.3)")
    yield from ((f"network: {name}", network(name), solvers) for name in LOWER)


def main() -> None:
    """Hold all, or those with a word in their name."""
    words, counts, begun = sys.argv[1:], Counter[str](), time.process_time()
    for name, problem, solvers in asked():
        if words and not any(word in name for word in words):
            continue
        since = time.process_time()
        try:
            held(name, problem, solvers, counts)
        except Unsupported as reason:
            counts["problems left out"] += 1
            print(f"  left out: {name}: {reason}", flush=True)
        counts["problems"] += 1
        print(f"{name}: {time.process_time() - since:.1f} CPU s", flush=True)
    print(*(f"{what}: {number}" for what, number in counts.items()), sep="\n")
    print(f"{time.process_time() - begun:.0f} CPU s")
    sys.exit(any(what.startswith("WRONG") for what in counts))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
