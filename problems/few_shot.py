"""Few-shot regression on sinusoids: a shared body above, one linear head per task below."""

import math
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bilevelbench import Draw, Flat, Problem, problem

TEST_TASKS = 100


@problem("few_shot", shows="features above, heads below: a badly conditioned, strongly convex lower level")
def few_shot(
    rng: Draw,
    tasks: int = 20,
    shots: int = 10,
    width: int = 40,
    ridge: float = 0.1,
    activation: Literal["tanh", "relu"] = "tanh",
) -> Problem:
    """Sinusoid regression: the upper level learns features, the lower one a ridge regression on them for each task.

    Tasks t = A sin(a - phi), A ~ U[0.1, 5], phi ~ U[0, pi], a ~ U[-5, 5] (Finn, Abbeel, Levine, ICML 2017);
    ``shots`` points to fit a head and as many to judge it. x: the weights of a 1-width-width body, y: a head (width
    + 1) per task. g = sum_t [mean squared error of task t on its support set + ridge |head|^2],  f = mean_t of the
    query error. With the lower level on the head alone (Raghu et al., ICLR 2020) it is strongly convex, and y* a
    linear solve. tanh instead of MAML's ReLU by default, so that f and g are smooth and hypergradients exist
    everywhere. ``test_mse`` is the query error on 100 new tasks with their heads solved.
    """
    if min(tasks, shots, width) < 1 or ridge <= 0:
        raise ValueError("tasks, shots and width are at least 1, and ridge is positive")
    body = Flat((width, 1), (width,), (width, width), (width,))
    squash = torch.tanh if activation == "tanh" else torch.relu
    made = _tasks(rng.child("tasks"), tasks, shots)
    new = _tasks(rng.child("test"), TEST_TASKS, shots)
    support, support_t, query, query_t = rng.put(*made)

    def features(x: Tensor, inputs: Tensor) -> Tensor:
        w1, b1, w2, b2 = body.split(x)
        hidden = squash(squash(inputs.unsqueeze(-1) * w1.squeeze(1) + b1) @ w2.T + b2)
        return torch.cat([hidden, torch.ones_like(hidden[..., :1])], -1)

    def errors(x: Tensor, y: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        heads = y.view(len(inputs), width + 1, 1)
        return ((features(x, inputs) @ heads).squeeze(-1) - targets).square().mean(1)

    def solve(x: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        phi = features(x, inputs)
        gram = phi.mT @ phi / shots + ridge * torch.eye(width + 1).to(phi)
        return torch.linalg.solve(gram, phi.mT @ targets.unsqueeze(-1) / shots).reshape(-1)

    def test_mse(x: Tensor) -> float:
        a, t, b, s = (part.to(x) for part in new)
        return float(errors(x, solve(x, a, t), b, s).mean())

    start = rng.child("start")
    first = [start.normal(width, 1), start.normal(width), start.normal(width, width) / width**0.5, start.normal(width)]
    x0 = Flat.join(first)
    return Problem(
        f=lambda x, y: errors(x, y, query, query_t).mean(),
        g=lambda x, y: errors(x, y, support, support_t).sum() + ridge * y @ y,
        x0=x0,
        y0=torch.zeros(tasks * (width + 1), dtype=torch.float64),
        y_star=lambda x: solve(x, support, support_t),
        metrics=lambda x, y: {"test_mse": test_mse(x)},
        references=lambda: {
            "untrained body": {"test_mse": test_mse(x0)},
            "one head for all tasks": {"test_mse": _joint(features, errors, x0, width, made, new)},
            "amplitude and phase known": {"test_mse": 0.0},
        },
        flags=frozenset({"strongly_convex"} if activation == "tanh" else {"strongly_convex", "nonsmooth"}),
    )


def _tasks(rng: Draw, tasks: int, shots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and targets of the support sets, then of the query sets, each (tasks, shots)."""
    amplitude, phase = rng.uniform(0.1, 5.0, tasks, 1), rng.uniform(0.0, math.pi, tasks, 1)
    inputs = rng.uniform(-5.0, 5.0, 2, tasks, shots)
    targets = amplitude * torch.sin(inputs - phase)
    return inputs[0], targets[0], inputs[1], targets[1]


def _joint(features, errors, x0: Tensor, width: int, made: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> float:
    """Test error of one network, head included, trained on the support and query points of all tasks at once."""
    inputs, targets = torch.cat([made[0], made[2]], 1), torch.cat([made[1], made[3]], 1)
    n = x0.numel()

    def error(vector: Tensor, a: Tensor, t: Tensor) -> Tensor:
        return errors(vector[:n], vector[n:].repeat(len(a)), a, t).mean()

    def fun(z: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(z).requires_grad_()
        value = error(leaf, inputs, targets)
        return float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()

    start = torch.cat([x0, torch.zeros(width + 1, dtype=torch.float64)]).numpy()
    with torch.enable_grad():
        found = minimize(fun, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return float(error(torch.from_numpy(found.x), new[2], new[3]))
