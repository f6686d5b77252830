"""Few-shot learning: a shared body above, one head (or network) per task below."""

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bilevelbench import Bar, Draw, Flat, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.drawings import DRAWINGS

from ._few_shot_images import VERSION, build

TEST_TASKS = 100
# L-BFGS iterations of the network for all tasks, which is not converged then: it overfits its 400 points, and more
# iterations make a line that is easier to beat (seed 0: 3.41 on new tasks after 300, 4.71 after 10000).
JOINT_STEPS = 300


@problem(
    "few_shot",
    family="representation",
    version=VERSION,
    shows="features above, heads below: a badly conditioned, strongly convex lower level",
)
def few_shot(
    rng: Draw,
    tasks: int | None = None,
    shots: int | None = None,
    width: int | None = None,
    ridge: float | None = None,
    activation: Literal["tanh", "relu"] = "tanh",
    dataset: Literal["sinusoid", "planted", "omniglot"] = "sinusoid",
    ways: int = 5,
    side: int = 14,
    lower: Literal["head", "network", "cosine"] | None = None,
) -> Problem:
    """The upper level learns what many small tasks share, the lower one fits each task to a few examples.

    ``sinusoid`` (20 tasks, 10 shots, width 40, ridge 0.1): t = A sin(a - phi), A ~ U[0.1, 5], phi ~ U[0, pi], a ~
    U[-5, 5] (Finn, Abbeel, Levine, ICML 2017); ``shots`` points to fit a head and as many to judge it. x: the weights
    of a 1-width-width body, y: a head (width + 1) per task. g = sum_t [mean squared error of task t on its support
    set + ridge |head|^2],  f = mean_t of the query error. With the lower level on the head alone (Raghu et al., ICLR
    2020) it is strongly convex, and y* a linear solve. ``test_mse``: the error on 100 new tasks, heads solved.

    ``omniglot`` (32 tasks, 1 shot, width 16, ridge 0.01): a task tells ``ways`` characters apart (each turned by a
    multiple of 90 degrees), up to 15 more drawings of each judge it; 1200 of 1623 characters, drawn by the seed,
    train, the rest makes the 40 tasks of ``test_accuracy``. Images are averaged to ``side`` pixels, the body has four
    convolutions of stride 2 (the papers': 28, 64, and as many new tasks as there are steps; here the tasks are a
    fixed set, and a minibatch takes some of them). No batch norm: each image is normalised by itself, so that no
    query sees the others. ``planted`` (8 tasks): moved blots in place of characters. What is learnt below:

    * ``head`` (ANIL; the default): g = sum_t [CE + ridge |head|^2], strongly convex.
    * ``network`` (iMAML, Rajeswaran et al. 2019): the whole network w_t of each task, g = sum_t [CE + |w_t - x|^2],
      which is their reg = 2; test tasks take 16 steps of 0.1 from x.
    * ``cosine`` (the Penalty paper's shared representation): logits are 10 times cosines between features and class
      vectors, g = sum_t CE; the lengths of the class vectors, which nothing sees, are not determined.

    tanh instead of the papers' ReLU by default, so that f and g are smooth and hypergradients exist everywhere.
    """
    images = dataset != "sinusoid"
    tasks = tasks if tasks is not None else {"planted": 8, "omniglot": 32}.get(dataset, 20)
    shots = shots if shots is not None else 1 if images else 10
    width = width if width is not None else 16 if images else 40
    ridge = ridge if ridge is not None else 0.01 if images else 0.1
    if min(tasks, shots, width) < 1 or ridge <= 0:
        raise ValueError("tasks, shots and width are at least 1, and ridge is positive")
    squash = torch.tanh if activation == "tanh" else torch.relu
    if dataset != "sinusoid":
        if not (2 <= ways <= 20 and shots < DRAWINGS and 4 <= side <= 28):
            raise ValueError(f"ways is 2 to 20, shots at most {DRAWINGS - 1}, side 4 to 28")
        how = lower or "head"
        return build(rng, dataset, tasks, ways, shots, width, ridge, side, how, squash, activation == "tanh")
    if lower not in (None, "head"):
        raise ValueError(f"lower={lower!r} is for images; give a dataset of them")
    body = Flat((width, 1), (width,), (width, width), (width,))
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

    def lines() -> tuple[cache.Lines, dict[str, object]]:
        joint, residual = _joint(errors, x0, width, made, new)
        return {
            "untrained body": {"test_mse": test_mse(x0)},
            "one head for all tasks": {"test_mse": joint},
            "amplitude and phase known": {"test_mse": 0.0},
        }, {"joint": f"L-BFGS, {JOINT_STEPS} iterations at most from x0, nonconvex", **residual}

    key = {
        "problem": "few_shot", "version": VERSION, "dataset": dataset, "tasks": tasks, "shots": shots, "width": width,
        "ridge": ridge, "activation": activation, "seed": rng.seed, "joint": JOINT_STEPS,
    }  # fmt: skip
    return Problem(
        f=lambda x, y: errors(x, y, query, query_t).mean(),
        g=lambda x, y: errors(x, y, support, support_t).sum() + ridge * y @ y,
        x0=x0,
        y0=torch.zeros(tasks * (width + 1), dtype=torch.float64),
        y_star=lambda x: solve(x, support, support_t),
        metrics=lambda x, y: {"test_mse": test_mse(x)},
        better={"test_mse": "lower"},
        bar=Bar("test_mse", ("untrained body", "one head for all tasks")),
        references=functools.partial(cache.lines, "few_shot", key, lines),
        flags=frozenset({"strongly_convex"} if activation == "tanh" else {"strongly_convex", "nonsmooth"}),
    )


def _tasks(rng: Draw, tasks: int, shots: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and targets of the support sets, then of the query sets, each (tasks, shots)."""
    amplitude, phase = rng.uniform(0.1, 5.0, tasks, 1), rng.uniform(0.0, math.pi, tasks, 1)
    inputs = rng.uniform(-5.0, 5.0, 2, tasks, shots)
    targets = amplitude * torch.sin(inputs - phase)
    return inputs[0], targets[0], inputs[1], targets[1]


def _joint(
    errors: Callable[..., Tensor], x0: Tensor, width: int, made: tuple[Tensor, ...], new: tuple[Tensor, ...]
) -> tuple[float, dict[str, float]]:
    """Test error of one network, head included, trained on the support and query points of all tasks at once.

    The second answer says how far it came.
    """
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
        found = minimize(fun, start, jac=True, method="L-BFGS-B", options={"maxiter": JOINT_STEPS})
    residual = {"largest gradient": float(np.abs(found.jac).max()), "iterations": found.nit}
    return float(error(torch.from_numpy(found.x), new[2], new[3])), residual
