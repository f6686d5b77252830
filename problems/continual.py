"""Continual learning on permuted images: a controller of the network above, the network itself below."""

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Problem, problem
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import converge
from ._film import Net

DECAY = 1e-4
GTOL, ITERATIONS = 1e-4, 500  # of the reference lines


class Rows(NamedTuple):
    """Images (n, pixels) as a task sees them, labels and tasks (n,), and the weight of each row's loss."""

    inputs: Tensor
    labels: Tensor
    task: Tensor
    weight: Tensor


class Moment(NamedTuple):
    """The moment at which the last task has arrived: what the lower level sees, the upper level's memory, the test.

    ``full`` has all training images of all tasks, for the reference lines.
    """

    lower: Rows
    upper: Rows
    full: Rows
    test: Rows


@problem(
    "continual", family="networks", shows="a nonconvex lower level, and what it forgets when the upper level remembers"
)
def continual(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    tasks: int = 3,
    per_task: int = 200,
    memory: int = 20,
    hidden: int = 16,
    replay: float = 1.0,
) -> Problem:
    """The last of several tasks is learnt with little memory of the others; a controller adapts the network to a task.

    Task k shows the images with pixels in an order of its own (task 0 as they are); all share one head of 10 classes.
    y: tanh network pixels-hidden-10. x: an embedding of each task, and a linear map from it to a scale and a shift of
    each hidden unit.  g = mean CE on the last task + replay * mean CE on ``memory`` images of each earlier task +
    1e-4 |y|^2,  f = mean CE on as many other memory images of *every* task. The third application of the BOME paper:
    contextual transformation networks (CTN; Pham, Liu, Sahoo, Hoi, ICLR 2021), controller above, base network below.
    Simplified: one moment of the stream, at the last task, instead of an online stream with one pass in batches of
    10; plain cross-entropy on the memory instead of distillation; one hidden layer; weights that do not come from
    the earlier tasks but from a common random start. So the published figures (ACC 80.70 on permuted MNIST, 68.16 on
    Split CIFAR; source: a benchmark listing of the paper's results) are facts about the application and no reference
    for this problem. CTN's sizes: ``continual(data='mnist',per_task=1000,memory=50,hidden=100)``, more tasks.
    Shows: a nonconvex lower level, and an upper level that can remember what the lower one forgets. ``accuracy``:
    mean over all tasks (ACC); ``forgetting``: mean over the earlier tasks of the accuracy of a network for that task
    alone, on its full data, less the accuracy now.
    """
    if tasks < 2 or not 1 <= memory <= per_task or hidden < 1 or replay < 0:
        raise ValueError("tasks are at least 2, hidden 1, memory from 1 to per_task, replay is not negative")
    moment = _moment(rng, data, tasks, per_task, memory, replay)
    low, up = Rows(*rng.put(*moment.lower)), Rows(*rng.put(*moment.upper))
    net = Net.of(tasks, hidden, low.inputs.shape[1])
    x0, y0 = net.start(rng)

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        alone = _references(rng.seed, data, tasks, per_task, memory, hidden, replay)["each task alone"]
        found = _accuracies(net, x, y, moment.test)
        forgotten = [alone[f"accuracy_{k}"] - found[k] for k in range(tasks - 1)]
        return {"accuracy": float(np.mean(found)), "forgetting": float(np.mean(forgotten))}

    return Problem(
        f=lambda x, y, rows=...: _loss(net, x, y, up, rows),
        g=lambda x, y, rows=...: _loss(net, x, y, low, rows) + DECAY * y @ y,
        x0=x0,
        y0=y0,
        n_f=len(up.labels),
        n_g=len(low.labels),
        metrics=metrics,
        better={"accuracy": "higher", "forgetting": "lower"},
        bar=Bar("accuracy", ("memory and last task (start)", "validation only")),
        references=functools.partial(_references, rng.seed, data, tasks, per_task, memory, hidden, replay),
        flags=frozenset({"nonconvex"}),
        phi_at="doublings",
    )


def _loss(net: Net, x: Tensor, y: Tensor, part: Rows, rows=...) -> Tensor:
    logits = net.logits(x, y, part.inputs[rows], part.task[rows])
    return (part.weight[rows] * cross_entropy(logits, part.labels[rows], reduction="none")).mean()


def _moment(rng: Draw, data: str, tasks: int, per_task: int, memory: int, replay: float) -> Moment:
    """Every task has the same ``per_task`` training images, of which an earlier one keeps ``memory`` below."""
    train, held, test = parts(rng, data, (per_task, memory, 500 if data == "digits" else 2000))
    order = [np.arange(train.pixels.shape[1])]
    order += [rng.child(f"task {k}").permutation(len(order[0])).numpy() for k in range(1, tasks)]

    def seen(part: Part, n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return part.pixels[:n][:, order[k]], part.labels[:n], np.full(n, k)

    def rows(chosen: list[tuple[np.ndarray, np.ndarray, np.ndarray]], weights: list[float]) -> Rows:
        """Weights of the tasks' means: their weighted sum is the mean over the rows."""
        total = sum(len(labels) for _, labels, _ in chosen)
        each = [
            np.full(len(labels), w * total / len(labels)) for (_, labels, _), w in zip(chosen, weights, strict=True)
        ]
        inputs, labels, task = (np.concatenate(column) for column in zip(*chosen, strict=True))
        return Rows(*map(torch.from_numpy, (inputs, labels, task, np.concatenate(each))))

    old = tasks - 1
    lower = [seen(train, memory, k) for k in range(old)] + [seen(train, per_task, old)]
    return Moment(
        rows(lower, [replay / old] * old + [1.0]),
        rows([seen(held, memory, k) for k in range(tasks)], [1 / tasks] * tasks),
        rows([seen(train, per_task, k) for k in range(tasks)], [1 / tasks] * tasks),
        rows([seen(test, len(test.labels), k) for k in range(tasks)], [1 / tasks] * tasks),
    )


def _accuracies(net: Net, x: Tensor, y: Tensor, test: Rows) -> list[float]:
    hits = net.logits(x.detach(), y.detach(), test.inputs.to(y), test.task.to(y.device)).argmax(1).cpu() == test.labels
    return [float(hits[test.task == k].double().mean()) for k in range(net.tasks)]


@functools.lru_cache(maxsize=8)  # the metrics read it at every look
def _references(
    seed: int, data: str, tasks: int, per_task: int, memory: int, hidden: int, replay: float
) -> cache.Lines:
    """Networks under a controller that changes nothing, each trained from the start to a local minimum."""
    key = {
        "problem": "continual", "version": 1, "seed": seed, "data": data, "tasks": tasks, "per_task": per_task,
        "memory": memory, "hidden": hidden, "replay": replay, "iterations": ITERATIONS,
    }  # fmt: skip
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("continual", key, lambda: (_solve(seed, data, tasks, per_task, memory, hidden, replay), how))


def _solve(seed: int, data: str, tasks: int, per_task: int, memory: int, hidden: int, replay: float) -> cache.Lines:
    rng = Draw(seed)
    moment = _moment(rng, data, tasks, per_task, memory, replay)
    net = Net.of(tasks, hidden, moment.lower.inputs.shape[1])
    x0, y0 = net.start(rng)

    def train(part: Rows) -> Tensor:
        return converge(lambda y: _loss(net, x0, y, part) + DECAY * y @ y, y0, gtol=GTOL, iterations=ITERATIONS)

    def only(part: Rows, k: int) -> Rows:
        chosen = part.task == k
        return Rows(*(column[chosen] for column in part))._replace(weight=torch.ones(int(chosen.sum())).double())

    lines = {
        "memory and last task (start)": moment.lower,
        "last task alone": only(moment.lower, tasks - 1),
        "validation only": moment.upper,
        "all tasks together": moment.full,
    }
    rows = {}
    for name, part in lines.items():
        y = train(part)
        accuracy = float(np.mean(_accuracies(net, x0, y, moment.test)))
        rows[name] = {"phi": float(_loss(net, x0, y, moment.upper)), "accuracy": accuracy}
    each = [_accuracies(net, x0, train(only(moment.full, k)), moment.test)[k] for k in range(tasks)]
    alone = {f"accuracy_{k}": value for k, value in enumerate(each)}
    rows["each task alone"] = {"accuracy": float(np.mean(each)), **alone}
    return rows
