"""Reward shaping in a tabular Markov decision process: a short-sighted agent below, its designer above."""

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from bilevelbench import Bar, Draw, Problem, problem
from bilevelbench.data import cache

BRANCHES = 3  # states that an action can lead to


class Chain(NamedTuple):
    """A Markov decision process: transitions P (S, A, S), rewards r (S, A)."""

    P: np.ndarray
    r: np.ndarray


@problem(
    "policy",
    family="policy",
    shows="conditioning that grows with the horizon, and gradients that vanish where the policy is certain",
)
def policy(
    rng: Draw,
    states: int = 12,
    actions: int = 3,
    gamma: float = 0.9,
    temperature: float = 0.1,
    shaping: Literal["potential", "bonus"] = "potential",
) -> Problem:
    """Shaping the reward so that an agent that looks one step ahead acts well in the long run.

    The agent plays pi_x(a|s) = softmax_a((r(s, a) + F_x(s, a)) / tau): it is greedy, up to entropy, for the shaped
    reward of the next step. F_x is gamma sum_s' P(s'|s, a) x(s') (``potential``, x in R^S) or x itself (``bonus``, x
    in R^(S A)). Below, y in R^S is the value of that policy, entropy bonus included, by its Bellman residual
    g = 1/2 |(I - gamma P_pi) y - r_pi - tau H_pi|^2,  so y*(x) is a linear solve and the conditioning about
    ((1 + gamma) / (1 - gamma))^2; f = -mean_s y(s). Ng, Harada, Russell (ICML 1999) shape with potentials;
    actor-critic as a bilevel problem: Hong, Wai, Wang, Yang (SIAM J. Optim. 2023). The BOME paper names
    reinforcement learning as an application and gives no instance: this one is ours. The process is random: each
    action leads to 3 states with uniform random weights, and the best reward is far from most of them.
    The entropy-regularised optimal value V solves the problem: x = V (or the bonus gamma P V) makes pi_x the optimal
    policy, so Phi* is -mean V, by value iteration, which knows nothing of shaping. Shows: the lower level's
    conditioning grows with the horizon; Phi is not convex; its gradient vanishes where the policy is certain.
    ``return``: mean discounted reward without entropy. ``share``: 0 is the unshaped agent, 1 the soft optimum.
    """
    if states < BRANCHES or actions < 2 or not 0 <= gamma < 1 or temperature <= 0:
        raise ValueError("states are at least 3, actions at least 2; gamma is in [0, 1), temperature positive")
    chain = _draw(rng, states, actions)
    P, r = rng.put(chain.P, chain.r)
    eye = rng.put(np.eye(states))
    size = states if shaping == "potential" else states * actions

    def act(x: Tensor) -> Tensor:
        bonus = gamma * P.to(x) @ x if shaping == "potential" else x.view(states, actions)
        return torch.log_softmax((r.to(x) + bonus) / temperature, 1)

    def system(x: Tensor) -> tuple[Tensor, Tensor]:
        """(I - gamma P_pi, r_pi + tau H_pi)"""
        log_pi = act(x)
        pi = log_pi.exp()
        moves = torch.einsum("sa,sat->st", pi, P.to(x))
        return eye.to(x) - gamma * moves, (pi * (r.to(x) - temperature * log_pi)).sum(1)

    def g(x: Tensor, y: Tensor) -> Tensor:
        matrix, reward = system(x)
        return 0.5 * (matrix @ y - reward).square().sum()

    key = {
        "problem": "policy", "version": 1, "seed": rng.seed, "states": states, "actions": actions, "gamma": gamma,
        "temperature": temperature,
    }  # fmt: skip
    how = {"method": "linear solves; soft value iteration to 1e-13; a linear program by scipy"}
    soft = _soft_values(chain, gamma, temperature)
    x0 = torch.zeros(size, dtype=torch.float64)
    unshaped, optimum = _return(chain, gamma, act(x0).exp().cpu().numpy()), _soft_return(chain, gamma, temperature)

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        found = _return(chain, gamma, act(x).exp().cpu().numpy())
        return {"return": found, "share": (found - unshaped) / (optimum - unshaped)}

    return Problem(
        f=lambda x, y: -y.mean(),
        g=g,
        x0=x0,
        y0=torch.zeros(states, dtype=torch.float64),
        y_star=lambda x: torch.linalg.solve(*system(x)),
        phi_star=-float(soft.mean()),
        phi_star_source="soft value iteration to 1e-13",
        metrics=metrics,
        better={"return": "higher", "share": "higher"},
        bar=Bar("return", ("unshaped reward", "uniform policy")),
        references=functools.partial(
            cache.lines, "policy", key, lambda: (_references(chain, gamma, temperature, unshaped), how)
        ),
        flags=frozenset({"strongly_convex"}),
    )


def _draw(rng: Draw, states: int, actions: int) -> Chain:
    """Transitions to few states each, and rewards: small everywhere, 1 in the last state."""
    P = np.zeros((states, actions, states))
    for s in range(states):
        for a in range(actions):
            weights = rng.numpy.uniform(size=BRANCHES)
            P[s, a, rng.numpy.choice(states, BRANCHES, replace=False)] = weights / weights.sum()
    r = 0.1 * rng.numpy.uniform(size=(states, actions))
    r[-1] += 1.0
    return Chain(P, r)


def _backup(chain: Chain, gamma: float, temperature: float, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The soft Bellman operator: (values, policy)."""
    q = (chain.r + gamma * chain.P @ v) / temperature
    top = q.max(1, keepdims=True)
    weights = np.exp(q - top)
    return temperature * (top[:, 0] + np.log(weights.sum(1))), weights / weights.sum(1, keepdims=True)


def _soft_values(chain: Chain, gamma: float, temperature: float) -> np.ndarray:
    v = np.zeros(len(chain.r))
    while True:
        new, _ = _backup(chain, gamma, temperature, v)
        if np.abs(new - v).max() <= 1e-13 * (1 + np.abs(new).max()):
            return new
        v = new


def _soft_return(chain: Chain, gamma: float, temperature: float) -> float:
    v = _soft_values(chain, gamma, temperature)
    return _return(chain, gamma, _backup(chain, gamma, temperature, v)[1])


def _return(chain: Chain, gamma: float, pi: np.ndarray) -> float:
    """Mean over the states of the discounted reward of a policy (S, A)."""
    moves = np.einsum("sa,sat->st", pi, chain.P)
    return float(np.linalg.solve(np.eye(len(moves)) - gamma * moves, (pi * chain.r).sum(1)).mean())


def _references(chain: Chain, gamma: float, temperature: float, unshaped: float) -> cache.Lines:
    """The best return of any policy is by linear programming: min mean v, v(s) >= r(s, a) + gamma P v."""
    states, actions = chain.r.shape
    rows = (np.repeat(np.eye(states), actions, 0) - gamma * chain.P.reshape(-1, states)).reshape(-1, states)
    best = linprog(np.full(states, 1 / states), A_ub=-rows, b_ub=-chain.r.ravel(), bounds=(None, None))
    return {
        "unshaped reward": {"return": unshaped},
        "uniform policy": {"return": _return(chain, gamma, np.full(chain.r.shape, 1 / actions))},
        "soft optimum": {"return": _soft_return(chain, gamma, temperature)},
        "best policy (linear program)": {"return": float(best.fun)},
    }
