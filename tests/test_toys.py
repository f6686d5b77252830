"""BOME on the toys of its paper, step by step against closed forms written in NumPy.

The trajectory must not depend on what computes the derivatives beyond rounding: the first 50 steps are held against
formulas by hand (NumPy, no autograd) and against torch.func, an engine other than the one that solvers run on.
"""

import numpy as np
import pytest
import torch

from bilevelbench import Draw, Oracle, build_problem, make_solver
from bilevelbench.core.solver import start

X = np.array([(1.0, 3.0), (3.0, 1.0), (-2.0, 2.0), (-3.0, -2.0)])
CENTRE = np.array([3.0, -2.0])


def _coreset(w, x):
    """(df/dw, df/dx, dg/dw, dg/dx) of f = 0.1 |x - c|^2 and g = |X's - x|^2, s = softmax(w)."""
    s = np.exp(w - w.max())
    s /= s.sum()
    gap = X.T @ s - x
    return np.zeros(4), 0.2 * (x - CENTRE), 2 * s * ((X - X.T @ s) @ gap), -2 * gap


def _minimax(w, x):
    return x, w, -x, -w


def _singleton(w, x):
    """f = (w - x2)^2/2 + (x1 - 1)^2/2, g = x1^2/2 - w x1."""
    return w - x[1:], np.array([x[0] - 1, x[1] - w[0]]), -x[:1], np.array([x[0] - w[0], 0.0])


TOYS = {
    "coreset": (_coreset, "coreset(y0=[0,3])", None, {"lr": 0.05, "lr_inner": 0.05, "T": 10}),
    "minimax": (_minimax, "minimax", 10.0, {"lr": 0.05, "lr_inner": 0.05, "T": 10}),
    "singleton": (_singleton, "singleton", 100.0, {"lr": 0.5, "lr_inner": 0.5, "T": 1}),
}


def by_hand(name, w, x, n, lr, lr_inner, T, eta=0.5):
    """n steps of Algorithm 1 with phi = eta |grad q|^2; the bounds are those of the authors' scripts."""
    gradients, _, bound, _ = TOYS[name]
    clip = (lambda v: np.clip(v, -bound, bound)) if bound else (lambda v: v)
    clip_w = clip if name == "minimax" else (lambda v: v)
    path = [(w, x)]
    for _ in range(n):
        z = x
        for _ in range(T):
            z = clip(z - lr_inner * gradients(w, z)[3])
        fw, fx, gw, gx = gradients(w, x)
        q = np.concatenate([gw - gradients(w, z)[2], gx])
        f = np.concatenate([fw, fx])
        lam = max(eta - (f @ q) / (q @ q), 0.0) if q @ q > 0 else 0.0
        d = f + lam * q
        w, x = clip_w(w - lr * d[: len(w)]), clip(x - lr * d[len(w) :])
        path.append((w, x))
    return path


class FuncOracle(Oracle):
    """The same answers by torch.func."""

    def df(self, x, y, rows=None):
        return torch.func.grad(self._problem.f, argnums=(0, 1))(x, y)

    def dg(self, x, y, rows=None):
        return torch.func.grad(self._problem.g, argnums=(0, 1))(x, y)

    def dg_x(self, x, y, rows=None):
        return torch.func.grad(self._problem.g)(x, y)

    def dg_y(self, x, y, rows=None):
        return torch.func.grad(self._problem.g, argnums=1)(x, y)


def trajectory(text, knobs, oracle_of, n=50):
    problem = build_problem(text, Draw(0))
    solver = make_solver("bome(" + ",".join(f"{k}={v}" for k, v in knobs.items()) + ")")
    oracle = oracle_of(problem)
    states = [start(solver, problem, oracle)]
    for k in range(n):
        oracle.begin(k)
        states.append(solver.step(oracle, states[-1]))
    return [(s.x.numpy(), s.y.numpy()) for s in states]


@pytest.mark.parametrize("oracle", [Oracle, FuncOracle])
@pytest.mark.parametrize("name", TOYS)
def test_bome_s_first_fifty_steps_are_those_by_hand(name, oracle):
    _, text, _, knobs = TOYS[name]
    found = trajectory(text, knobs, oracle)
    expected = by_hand(name, *found[0], 50, **knobs)
    assert len(found) == len(expected) == 51
    for (w, x), (a, b) in zip(found, expected, strict=True):
        np.testing.assert_allclose(w, a, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(x, b, rtol=1e-9, atol=1e-11)
    assert np.abs(found[-1][1] - found[0][1]).max() > 0.1, "it must have moved"
