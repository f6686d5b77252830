"""``few_shot`` on images: what is learnt below is a head, a whole network near x, or a cosine head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bilevelbench import Bar, Draw, Problem
from bilevelbench.data import cache
from bilevelbench.data.drawings import Body, Tasks, cosine, drawn, linear, losses

VERSION = 1
TEST_TASKS = 40
PROXIMAL, ADAPT, RATE = 2.0, 16, 0.1  # iMAML: reg; steps and step size of adapting to a test task
HEAD_STEPS, JOINT_STEPS = 100, 100  # L-BFGS iterations on the heads of test tasks; on the joint classifier
Lower = Literal["head", "network", "cosine"]


def build(
    rng: Draw, dataset: Literal["planted", "omniglot"], tasks: int, ways: int, shots: int, width: int, ridge: float,
    side: int, lower: Lower, squash: Callable[[Tensor], Tensor], smooth: bool,
) -> Problem:  # fmt: skip
    """The problem; the docstring of ``few_shot`` describes it."""
    made, new = drawn(rng, dataset, side, tasks, TEST_TASKS, ways, shots)
    body = Body(side, width, squash)
    support, query, labels, query_labels = rng.put(made.support, made.query, made.labels, made.query_labels)
    size, k = body.flat.size, body.features
    draw = rng.child("start")
    x0 = body.start(draw)
    if lower == "network":
        x0 = torch.cat([x0, torch.zeros(ways * k, dtype=torch.float64)])
        y0 = x0.repeat(tasks)
    elif lower == "head":
        y0 = torch.zeros(tasks * ways * k, dtype=torch.float64)
    else:
        y0 = draw.normal(tasks * ways * (k - 1))

    def logits(x: Tensor, y: Tensor, images: Tensor) -> Tensor:
        """Logits of ``images`` (tasks, n, side, side) by y, one row for each of these tasks."""
        if lower == "network":
            return linear(body(y[:, :size], images), y[:, size:].view(len(y), ways, k))
        features, heads = body(x, images), y.view(len(y), ways, -1)
        return linear(features, heads) if lower == "head" else cosine(features, heads)

    def penalty(x: Tensor, y: Tensor) -> Tensor:
        if lower == "network":
            return PROXIMAL / 2 * (y - x).square().sum(1)
        return ridge * y.square().sum(1) if lower == "head" else y.new_zeros(len(y))

    def f(x: Tensor, y: Tensor, rows=...) -> Tensor:
        return losses(logits(x, y.view(tasks, -1)[rows], query[rows]), query_labels).mean()

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        own = y.view(tasks, -1)[rows]
        return tasks * (losses(logits(x, own, support[rows]), labels) + penalty(x, own)).mean()

    def adapted(x: Tensor) -> Tensor:
        """y of the test tasks: iMAML's 16 steps, or heads by L-BFGS."""
        if lower == "network":
            y = x.repeat(TEST_TASKS).view(TEST_TASKS, -1)
            for _ in range(ADAPT):
                y = y - RATE * _gradient(lambda y: (losses(logits(x, y, images), marks) + penalty(x, y)).sum(), y)
            return y
        features = body(x, images)
        heads = torch.stack([part.mean(1) for part in features[..., :-1].split(shots, 1)], 1)  # means of the classes
        if lower == "head":
            heads = torch.zeros(TEST_TASKS, ways, k, dtype=torch.float64)
        score = linear if lower == "head" else cosine
        solved = _minimise(
            lambda y: (losses(score(features, y.view(heads.shape)), marks) + penalty(x, y.view(TEST_TASKS, -1))).sum(),
            heads, HEAD_STEPS,
        )  # fmt: skip
        return solved.view(TEST_TASKS, -1)

    images, marks = new.support, new.labels

    def accuracy(x: Tensor) -> float:
        x = x.detach().to("cpu", torch.float64)
        with torch.no_grad():
            hits = logits(x, adapted(x), new.query).argmax(-1) == new.query_labels
        return float(hits.double().mean())

    def joint() -> float:
        """With the body of one classifier of all training classes; test tasks are adapted to as ever."""
        return accuracy(_jointly(body, x0, made))

    def lines() -> tuple[cache.Lines, dict[str, object]]:
        return {
            "chance": {"test_accuracy": 1 / ways},
            "nearest class mean of pixels": {"test_accuracy": _nearest(new)},
            "untrained body": {"test_accuracy": accuracy(x0)},
            "one classifier of all training classes": {"test_accuracy": joint()},
        }, {"joint": f"L-BFGS, {JOINT_STEPS} iterations from x0, nonconvex"}

    key = {
        "problem": "few_shot", "version": VERSION, "dataset": dataset, "tasks": tasks, "ways": ways, "shots": shots,
        "width": width, "ridge": ridge, "side": side, "lower": lower, "smooth": smooth, "seed": rng.seed,
        "joint": JOINT_STEPS,
    }  # fmt: skip
    flags = {"head": {"strongly_convex"}, "network": {"nonconvex"}, "cosine": {"nonconvex", "multi_valued"}}[lower]
    return Problem(
        f=f,
        g=g,
        x0=x0,
        y0=y0,
        n_f=tasks,
        n_g=tasks,
        metrics=lambda x, y: {"test_accuracy": accuracy(x)},
        better={"test_accuracy": "higher"},
        bar=Bar(
            "test_accuracy",
            ("nearest class mean of pixels", "untrained body", "one classifier of all training classes"),
        ),
        references=functools.partial(cache.lines, "few_shot", key, lines),
        selection="any: the cosine ignores lengths, and so does f; by L-BFGS from y" if lower == "cosine" else "",
        flags=frozenset(flags if smooth else flags | {"nonsmooth"}),
    )


def _gradient(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf)[0]


def _minimise(function: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Tensor:
    """L-BFGS from ``start``; a flat vector."""

    def fun(vector: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            leaf = torch.from_numpy(vector).requires_grad_()
            value = function(leaf)
            return float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()

    options = {"maxiter": iterations, "gtol": 1e-6, "ftol": 0.0}
    found = minimize(fun, start.reshape(-1).numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x)


def _nearest(new: Tasks) -> float:
    """Share of query images that are nearest to the mean image of their class, pixel by pixel."""
    ways = int(new.labels.max()) + 1
    means = new.support.flatten(2).unflatten(1, (ways, -1)).mean(2)
    hits = torch.cdist(new.query.flatten(2), means).argmin(2) == new.query_labels
    return float(hits.double().mean())


def _jointly(body: Body, x0: Tensor, made: Tasks) -> Tensor:
    """x0 with the body of a softmax classifier of all training classes, support and query images together."""
    size, k = body.flat.size, body.features
    images = torch.cat([made.support.flatten(0, 1), made.query.flatten(0, 1)])[None]
    _, numbers = np.unique(made.characters, return_inverse=True)
    classes = torch.from_numpy(numbers.reshape(made.characters.shape))
    labels = torch.cat([classes[:, made.labels].reshape(-1), classes[:, made.query_labels].reshape(-1)])
    total = int(labels.max()) + 1
    start = torch.cat([x0[:size], torch.zeros(total * k, dtype=torch.float64)])
    solved = _minimise(
        lambda z: losses(linear(body(z[:size], images), z[size:].view(1, total, k)), labels).sum(), start, JOINT_STEPS
    )
    return torch.cat([solved[:size], x0[size:]])
