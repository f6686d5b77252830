"""Continual learning as a stream: tasks come one after the other, ten images at a time, each once."""

import functools
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Problem, Stream, problem
from bilevelbench.core.batches import generator
from bilevelbench.data import cache
from bilevelbench.data.images import Part, parts

from ._converge import converge
from ._film import Net

VERSION = 1
ITERATIONS = 100  # of the line that has seen everything at once
Trail = Mapping[int, Mapping[str, float]]


@problem(
    "continual_stream",
    family="networks",
    version=VERSION,
    shows="a stream: what was learnt must outlive its data, and no step comes twice",
)
def continual_stream(
    rng: Draw,
    data: Literal["digits", "mnist"] = "digits",
    tasks: int = 3,
    per_task: int = 200,
    memory: int = 20,
    hidden: int = 16,
    batch: int = 10,
) -> Problem:
    """Images with pixels in an order of each task's own: task after task, each image seen once, a small memory kept.

    Step k is about the next ``batch`` images of its task, ``per_task / batch`` steps a task, then the last task for
    good. x: a controller (an embedding of each task, a map from it to a scale and a shift of the hidden units); y:
    a tanh network pixels-hidden-10, one head for all tasks.  g = mean CE on these images and, once there are earlier
    tasks, on as many of their ``memory`` images each;  f = mean CE on five times as many from another memory, of
    all tasks so far. Rows are functions of (seed, step), the same for every solver; there is no one Phi.

    The third application of the BOME paper, on contextual transformation networks (CTN; Pham, Liu, Sahoo, Hoi, ICLR
    2021, code: batches of 10, one pass, 50 memories a task, 1000 images of permuted MNIST each, 2 inner steps of 0.01,
    outer step 0.05): ``continual_stream(data='mnist',tasks=20,per_task=1000,memory=50,hidden=100)``. Simplified:
    cross-entropy on the memory for distillation, one hidden layer, one outer step for each batch.
    ``acc``: mean accuracy over the tasks seen so far; ``bwt`` (backward transfer): of the earlier ones, the mean
    accuracy now less the one when their last image had come; ``fwt`` (forward transfer): mean accuracy on a task just
    before it began, less the untrained network's (Lopez-Paz, Ranzato, NeurIPS 2017). ``task_k``: accuracy on a task.
    """
    if tasks < 2 or not 1 <= memory <= per_task or hidden < 1 or not 1 <= batch <= per_task:
        raise ValueError("tasks are at least 2, hidden 1, memory and batch from 1 to per_task")
    train, held, test = parts(rng, data, (per_task, memory, 500 if data == "digits" else 1000))
    pixels = train.pixels.shape[1]
    order = np.stack(
        [np.arange(pixels), *(rng.child(f"task {k}").permutation(pixels).numpy() for k in range(1, tasks))]
    )
    net, each = Net.of(tasks, hidden, pixels), per_task // batch
    x0, y0 = net.start(rng)
    A, t, B, s, turn = rng.put(train.pixels, train.labels, held.pixels, held.labels, order)

    def task_of(step: int) -> int:
        return min(step // each, tasks - 1)

    @functools.lru_cache(maxsize=64)  # a step asks for its rows many times
    def rows(step: int) -> tuple[Tensor, Tensor]:
        now, draw = task_of(step), generator(rng.seed, "rows", step, 0)
        k = step - now * each
        passing = generator(rng.seed, "order", now, k // each).permutation(per_task)
        lower = now * per_task + passing[k % each * batch : (k % each + 1) * batch]
        if now:
            lower = np.r_[lower, draw.integers(now, size=batch) * per_task + draw.integers(memory, size=batch)]
        upper = draw.integers(now + 1, size=5 * batch) * memory + draw.integers(memory, size=5 * batch)
        return torch.from_numpy(upper).to(rng.device), torch.from_numpy(lower).to(rng.device)

    def loss(x: Tensor, y: Tensor, inputs: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Row task * n + i is image i with its pixels in the order of the task."""
        task, image = rows // len(labels), rows % len(labels)
        return cross_entropy(net.logits(x, y, inputs[image].gather(1, turn[task]), task), labels[image])

    first = rows(0)

    def over(trail: Trail) -> dict[str, float]:
        return transfers(trail, tasks, each)

    key = {
        "problem": "continual_stream", "version": VERSION, "data": data, "tasks": tasks, "per_task": per_task,
        "memory": memory, "hidden": hidden, "seed": rng.seed, "iterations": ITERATIONS,
    }  # fmt: skip
    return Problem(
        f=lambda x, y, rows=None: loss(x, y, B, s, first[0] if rows is None else rows),
        g=lambda x, y, rows=None: loss(x, y, A, t, first[1] if rows is None else rows),
        x0=x0,
        y0=y0,
        stream=Stream(rows, looks=tuple(each * k for k in range(1, tasks + 1)), over=over),
        metrics=lambda x, y: {f"task_{k}": value for k, value in enumerate(_accuracies(net, x, y, test, order))},
        better={"acc": "higher", "bwt": "higher", "fwt": "higher"},
        bar=Bar("acc", ("untrained network",)),
        references=functools.partial(
            cache.lines, "continual_stream", key, functools.partial(_lines, net, x0, y0, train, test, order)
        ),
        flags=frozenset({"nonconvex"}),
    )


def transfers(trail: Trail, tasks: int, each: int) -> dict[str, float]:
    """acc, bwt and fwt at the last look by the accuracies ``task_k`` at all looks so far; those that are told by then.

    A task ends at the look of step ``each`` times its number from one on.
    """
    last = max(trail)
    now, seen = trail[last], min(max(-(-last // each), 1), tasks)
    found = {"acc": float(np.mean([now[f"task_{k}"] for k in range(seen)]))}
    learnt = [(k, each * (k + 1)) for k in range(seen - 1)]  # and when the last image of each had come
    if learnt and all(step in trail for _, step in learnt) and 0 in trail:
        found["bwt"] = float(np.mean([now[f"task_{k}"] - trail[step][f"task_{k}"] for k, step in learnt]))
        ahead = [trail[step][f"task_{k + 1}"] - trail[0][f"task_{k + 1}"] for k, step in learnt]
        found["fwt"] = float(np.mean(ahead))
    return found


def _accuracies(net: Net, x: Tensor, y: Tensor, test: Part, order: np.ndarray) -> list[float]:
    """On the test images of each task, in float32."""
    x, y, labels = x.detach().cpu().float(), y.detach().cpu().float(), torch.from_numpy(test.labels)
    made = []
    for k, pixels in enumerate(order):
        inputs = torch.from_numpy(test.pixels[:, pixels]).float()
        hits = net.logits(x, y, inputs, torch.full_like(labels, k)).argmax(1) == labels
        made.append(float(hits.double().mean()))
    return made


def _lines(
    net: Net, x0: Tensor, y0: Tensor, train: Part, test: Part, order: np.ndarray
) -> tuple[cache.Lines, dict[str, object]]:
    """The start, and a network that has all images of all tasks at once, under a controller that changes nothing."""
    inputs = torch.from_numpy(np.concatenate([train.pixels[:, pixels] for pixels in order]))
    labels = torch.from_numpy(np.tile(train.labels, len(order)))
    task = torch.arange(len(order)).repeat_interleave(len(train.labels))
    y = converge(lambda y: cross_entropy(net.logits(x0, y, inputs, task), labels), y0, gtol=1e-4, iterations=ITERATIONS)
    rows = {
        name: {"acc": float(np.mean(_accuracies(net, x0, point, test, order)))}
        for name, point in (("untrained network", y0), ("all tasks together", y))
    }
    return rows, {"all tasks together": f"L-BFGS from y0, float64, at most {ITERATIONS} iterations"}
