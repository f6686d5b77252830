"""Task-driven dictionary learning: atoms above, sparse codes of noisy signals below."""

import functools
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from bilevelbench import Bar, Draw, Problem, problem
from bilevelbench.data import cache

from ._converge import GTOL, converge


class Signals(NamedTuple):
    """Planted dictionary (p, k), clean and noisy signals (n, p)."""

    atoms: Tensor
    clean: Tensor
    noisy: Tensor


class Penalty(NamedTuple):
    """Weights of the elastic net and the width over which the kink of its absolute value is rounded."""

    l1: float
    l2: float
    width: float


@problem(
    "dictionary",
    family="representation",
    shows="nearly nonsmooth codes, and a Phi that atoms leave unchanged by trading places or signs",
)
def dictionary(
    rng: Draw,
    dimension: int = 10,
    atoms: int = 15,
    signals: int = 60,
    active: int = 2,
    noise: float = 0.1,
    l1: float = 0.1,
    l2: float = 0.05,
    width: float = 0.05,
) -> Problem:
    """A dictionary whose elastic-net codes of noisy signals rebuild the clean ones; the truth is planted.

    x: ``atoms`` vectors in R^dimension, used at unit length, D(x) = x / |x| atom by atom (normalised inside f and g
    rather than projected: radial directions are flat). y: one code a_i per signal.
    g = sum_i 1/2 |z_i - D a_i|^2 + l1 sum_j (sqrt(a_ij^2 + width^2) - width) + l2/2 |a_i|^2,
    f = mean_i 1/2 |c_i - D a_i|^2 with clean signals c_i = D0 b_i, ``active`` atoms each, z_i = c_i + noise.
    Elastic net and a task above: Mairal, Bach, Ponce (IEEE PAMI 2012); rounding the kink is ours, so that y* has a
    Jacobian everywhere. x0: D0's size of random atoms. Shows: nearly nonsmooth codes (curvature l1/width at zero);
    Phi is not convex and unchanged when atoms swap places or signs. ``atoms``: mean |correlation| of planted atoms
    with those found, matched one to one. ``recovered``: share of these above 0.95. The planted dictionary is a
    reference line and not the optimum: codes are shrunk, and others make up for it.
    """
    if min(dimension, atoms, signals, active) < 1 or active > atoms or min(noise, l1) < 0 or min(l2, width) <= 0:
        raise ValueError("sizes are at least 1, active at most atoms, noise and l1 not negative, l2 and width positive")
    made = _plant(rng, dimension, atoms, signals, active, noise)
    penalty = Penalty(l1, l2, width)
    noisy, clean = rng.put(made.noisy, made.clean)
    x0 = rng.child("start").normal(atoms * dimension)
    key = {
        "problem": "dictionary", "version": 1, "seed": rng.seed, "dimension": dimension, "atoms": atoms,
        "signals": signals, "active": active, "noise": noise, **penalty._asdict(),
    }  # fmt: skip
    how = {"method": f"L-BFGS, float64, largest gradient {GTOL:g}, 1e-6 for both together, or 2000 iterations"}

    def decode(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return y.view(signals, atoms)[rows] @ _unit(x, atoms)

    def f(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return 0.5 * (clean[rows] - decode(x, y, rows)).square().sum(1).mean()

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        codes = y.view(signals, atoms)[rows]
        return signals * _energy(noisy[rows] - decode(x, y, rows), codes, penalty).mean()

    return Problem(
        f=f,
        g=g,
        x0=x0,
        y0=torch.zeros(signals * atoms, dtype=torch.float64),
        n_f=signals,
        n_g=signals,
        metrics=lambda x, y: _matched(made.atoms, _unit(x, atoms).detach().cpu().double()),
        better={"atoms": "higher", "recovered": "higher"},
        bar=Bar("phi", ("random atoms (start)", "codes and atoms together")),
        references=functools.partial(cache.lines, "dictionary", key, lambda: (_references(made, penalty, x0), how)),
        flags=frozenset({"strongly_convex"}),
    )


def _plant(rng: Draw, p: int, k: int, n: int, active: int, noise: float) -> Signals:
    draw = rng.child("signals")
    planted = _unit(draw.normal(k * p), k)
    codes = torch.zeros(n, k, dtype=torch.float64)
    for i in range(n):
        chosen = draw.permutation(k)[:active]
        codes[i, chosen] = draw.uniform(0.5, 1.5, active) * torch.sign(draw.normal(active))
    clean = codes @ planted
    return Signals(planted, clean, clean + noise * draw.normal(n, p))


def _unit(x: Tensor, k: int) -> Tensor:
    """Atoms as rows (k, p), each of length one."""
    rows = x.view(k, -1)
    return rows / rows.norm(dim=1, keepdim=True)


def _energy(residual: Tensor, codes: Tensor, penalty: Penalty) -> Tensor:
    """The lower objective of each signal, shape (n,)."""
    rounded = (codes.square() + penalty.width**2).sqrt() - penalty.width
    return (
        0.5 * residual.square().sum(1) + penalty.l1 * rounded.sum(1) + 0.5 * penalty.l2 * codes.square().sum(1)
    )  # fmt: skip


def _matched(planted: Tensor, found: Tensor) -> dict[str, float]:
    alike = (planted @ found.T).abs().numpy()
    best = alike[linear_sum_assignment(-alike)]
    return {"atoms": float(best.mean()), "recovered": float(np.mean(best > 0.95))}


def _references(made: Signals, penalty: Penalty, x0: Tensor) -> cache.Lines:
    """Each dictionary with its codes solved; "codes and atoms together" is g minimised in both, the task ignored."""
    n, k = len(made.noisy), len(made.atoms)
    codes0 = torch.zeros(n * k, dtype=torch.float64)

    def energy(x: Tensor, y: Tensor) -> Tensor:
        codes = y.view(n, k)
        return _energy(made.noisy - codes @ _unit(x, k), codes, penalty).sum()

    def line(x: Tensor) -> dict[str, float]:
        codes = converge(lambda y: energy(x, y), codes0).view(n, k)
        phi = 0.5 * (made.clean - codes @ _unit(x, k)).square().sum(1).mean()
        return {"phi": float(phi), **_matched(made.atoms, _unit(x, k))}

    size = x0.numel()
    warm = converge(lambda y: energy(x0, y), codes0)
    both = converge(lambda z: energy(z[:size], z[size:]), torch.cat([x0, warm]), gtol=1e-6)
    return {
        "random atoms (start)": line(x0),
        "codes and atoms together": line(both[:size]),
        "planted atoms": line(made.atoms.reshape(-1)),
    }
