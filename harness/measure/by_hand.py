"""Loops as a good user writes them by hand in plain PyTorch: graphs are kept, one backward pass does what it can, and
nothing is counted. What a step takes beyond such a loop is what the harness adds to it: it is the floor of its solver.

Each loop makes the iterates of its solver, up to rounding, on a problem without bounds and constraints; of knobs that
change the algorithm it has those of ``PLAIN``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.solver import Solver, start

from .clock import drain

ROUNDS, LIMIT = 21, 0.05  # steps that are timed, and seconds after which no further one is begun

Step = Callable[..., tuple[Tensor, ...]]  # the state's tensors, x first and y second -> the next ones

PLAIN: dict[str, dict[str, Any]] = {
    "bome": {"phi": "norm", "eps": 0.0, "persistent": False}, "itd": {}, "aid_cg": {"damping": 0.0},
    "aid_neumann": {"warm": False}, "soba": {"batch": None}, "penalty": {},
    "f2sa": {"growth": 0.0, "decay_inner": 0.0, "batch": None}, "vpbgd": {"ramp": 1},
}  # fmt: skip


def leaf(point: Tensor) -> Tensor:
    """The point, to be differentiated in."""
    return point.detach().requires_grad_()


def grad(value: Tensor, *points: Tensor, **options: Any) -> Any:
    """Gradients, one for each point."""
    found = torch.autograd.grad(value, points, materialize_grads=True, **options)
    return found if len(points) > 1 else found[0]


def bome(s: Any, f: Any, g: Any) -> Step:
    """BOME."""

    def step(x: Tensor, y: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        z = y
        for _ in range(s.T):
            z = leaf(z)
            z = z.detach() - s.lr_inner * grad(g(x, z), z)
        x, y = leaf(x), leaf(y)
        fx, fy = grad(f(x, y), x, y)
        qx, qy = grad(g(x, y) - g(x, z), x, y)
        lam = torch.relu(s.eta - (fx @ qx + fy @ qy) / (qx @ qx + qy @ qy))
        lr_y = s.lr if s.lr_y is None else s.lr_y
        return x.detach() - s.lr * (fx + lam * qx), y.detach() - lr_y * (fy + lam * qy), lam

    return step


def itd(s: Any, f: Any, g: Any) -> Step:
    """ITD, differentiated as a whole."""

    def step(x: Tensor, y: Tensor, start: Tensor) -> tuple[Tensor, ...]:
        x, y = leaf(x), leaf(y if s.warm else start)
        for _ in range(s.T):
            y = y - s.lr_inner * grad(g(x, y), y, create_graph=True)
        return x.detach() - s.lr * grad(f(x, y), x), y.detach(), start

    return step


def _lower(s: Any, g: Any, x: Tensor, y: Tensor) -> Tensor:
    for _ in range(s.T):
        y = leaf(y)
        y = y.detach() - s.lr_inner * grad(g(x, y), y)
    return y


def aid_cg(s: Any, f: Any, g: Any) -> Step:
    """AID, conjugate gradients."""

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        x, y = leaf(x), leaf(_lower(s, g, x, y))
        fx, r = grad(f(x, y), x, y)
        gy = grad(g(x, y), y, create_graph=True)
        q, p, rr = torch.zeros_like(r), r, r @ r
        for _ in range(s.K):
            Hp = grad(gy, y, grad_outputs=p, retain_graph=True)
            a = rr / (p @ Hp)
            q, r = q + a * p, r - a * Hp
            rr, old = r @ r, rr
            p = r + rr / old * p
        return x.detach() - s.lr * (fx - grad(gy, x, grad_outputs=q)), y.detach()

    return step


def aid_neumann(s: Any, f: Any, g: Any) -> Step:
    """AID, a Neumann series."""
    eta = s.lr_inner if s.lr_linear is None else s.lr_linear

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        x, y = leaf(x), leaf(_lower(s, g, x, y))
        fx, fy = grad(f(x, y), x, y)
        gy = grad(g(x, y), y, create_graph=True)
        q = eta * fy
        for _ in range(s.K - 1):
            q = q - eta * (grad(gy, y, grad_outputs=q, retain_graph=True) - fy)
        return x.detach() - s.lr * (fx - grad(gy, x, grad_outputs=q)), y.detach()

    return step


def soba(s: Any, f: Any, g: Any) -> Step:
    """SOBA."""

    def step(x: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        x, y = leaf(x), leaf(y)
        fx, fy = grad(f(x, y), x, y)
        gy = grad(g(x, y), y, create_graph=True)
        cross, hessian = grad(gy, x, y, grad_outputs=v)
        x, y, gy = x.detach(), y.detach(), gy.detach()
        return x - s.lr * (fx + cross), y - s.lr_inner * gy, v - s.lr_inner * (hessian + fy)

    return step


def penalty(s: Any, f: Any, g: Any) -> Step:
    """Penalty: one Lagrangian, differentiated once in y and once in x."""

    def step(x: Tensor, y: Tensor, gamma: Tensor, lam: Tensor, eps: Tensor, nu: Tensor) -> tuple[Tensor, ...]:
        shrink = torch.clamp(s.gamma / gamma, max=1.0)
        for _ in range(s.T):
            y = leaf(y)
            lower = g(x, y)
            gy = grad(lower, y, create_graph=True)
            vy = grad(f(x, y) + gamma / 2 * gy @ gy + nu @ gy + lam * lower, y)
            y = y.detach() - s.lr_inner * shrink * vy
        x, y = leaf(x), leaf(y)
        gy = grad(g(x, y), y, create_graph=True)
        vx = grad(f(x, y) + gamma / 2 * gy @ gy + nu @ gy, x)
        hit = vx @ vx + vy @ vy < eps**2
        if hit:
            gamma, lam, eps = s.c_gamma * gamma, s.c_lam * lam, s.c_eps * eps
            nu = nu + gamma * gy.detach() if s.multipliers else nu
        return x.detach() - s.lr * shrink * vx, y.detach(), gamma, lam, eps, nu

    return step


def f2sa(s: Any, f: Any, g: Any) -> Step:
    """F2SA: one backward pass for f + lam g."""
    lr_y = s.lr_inner / max(s.lam, 1.0)

    def step(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        for _ in range(s.T):
            y, z = leaf(y), leaf(z)
            z = z.detach() - s.lr_inner * grad(g(x, z), z)
            y = y.detach() - lr_y * grad(f(x, y) + s.lam * g(x, y), y)
        x = leaf(x)
        return x.detach() - s.lr * grad(f(x, y) + s.lam * (g(x, y) - g(x, z)), x), y, z

    return step


def vpbgd(s: Any, f: Any, g: Any) -> Step:
    """V-PBGD: one backward pass for all."""
    scale = min(1.0, 1.0 / s.gamma)
    lr_y = s.lr if s.lr_y is None else s.lr_y

    def step(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        z = _lower(s, g, x, z)
        x, y = leaf(x), leaf(y)
        vx, vy = grad(f(x, y) + s.gamma * (g(x, y) - g(x, z)), x, y)
        return x.detach() - s.lr * scale * vx, y.detach() - lr_y * scale * vy, z

    return step


LOOPS = {made.__name__: made for made in (bome, itd, aid_cg, aid_neumann, soba, penalty, f2sa, vpbgd)}


def by_hand(problem: Problem, solver: Solver) -> Step | None:
    """The loop of a solver on a problem; None where nobody wrote one for it, its knobs, or bounds and constraints."""
    ours = any(cls.__module__ == f"bilevelbench.solvers.{solver.name}" for cls in type(solver).__mro__)
    bounds = (problem.project_x, problem.project_y, problem.project_xy, problem.h_f, problem.h_g)
    if not ours or solver.name not in LOOPS or any(bound is not None for bound in bounds):
        return None
    usual = {"update": "plain", "update_y": "plain", "decay": 0.0, **PLAIN[solver.name]}
    if any(getattr(solver, knob) != value for knob, value in usual.items()):
        return None
    return LOOPS[solver.name](solver, problem.f, problem.g)


def begin(problem: Problem, solver: Solver) -> tuple[Tensor, ...]:
    """The tensors of the solver's first state, which its loop begins with."""
    return tuple(part for part in start(solver, problem, Oracle(problem)) if isinstance(part, Tensor))


def seconds(problem: Problem, solver: Solver, device: str = "cpu") -> float | None:
    """Of a step by hand, the median of some; CPU seconds on the CPU, wall seconds elsewhere. None without a loop."""
    step = by_hand(problem, solver)
    if step is None:
        return None
    wait, on_cpu = drain(device), torch.device(device).type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    state, taken, begun = begin(problem, solver), list[float](), time.perf_counter()
    while len(taken) < 2 or (len(taken) < ROUNDS and time.perf_counter() - begun < LIMIT):
        wait()
        since = clock()
        state = step(*state)
        wait()
        taken.append(clock() - since)
    return statistics.median(taken[1:])  # the first is warm-up
