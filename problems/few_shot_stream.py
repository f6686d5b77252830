"""Few-shot learning with new tasks at every step: a shared body above, one head for each task of the step below."""

import functools
from typing import Literal

import torch
from torch import Tensor

from bilevelbench import Bar, Draw, Outer, Problem, Stream, problem
from bilevelbench.core.batches import generator
from bilevelbench.data import cache
from bilevelbench.data.drawings import DRAWINGS, Body, Episodes, cosine, losses

TEST, TEST_AT_END = 20, 600  # test tasks at every look, and at the last one
SPREAD = 0.01  # of heads at their start
STEPS, RATE = 100, 1e-3  # of Adam on the heads of test tasks
VERSION = 1


@problem(
    "few_shot_stream",
    family="representation",
    version=VERSION,
    shows="tasks that change with every step: a lower level that is never met twice",
)
def few_shot_stream(
    rng: Draw,
    dataset: Literal["planted", "omniglot"] = "planted",
    ways: int = 5,
    shots: int = 1,
    tasks: int | None = None,
    width: int | None = None,
    side: int | None = None,
    activation: Literal["tanh", "relu"] = "tanh",
) -> Problem:
    """The body x of a network serves tasks that are new at every step; each has a head, which starts anew with it.

    A step is about ``tasks`` episodes: ``ways`` classes (a character turned by a multiple of 90 degrees), ``shots``
    drawings of each to fit a head and up to 15 to judge it. Logits are 10 times the cosine between features and the
    rows of a head.  g = mean over the episodes of CE on the support drawings, f = of CE on the others. Episode t is a
    function of (seed, t), step k has those from k ``tasks`` on, the same for every solver; y begins every step at
    small random heads of that step. So y is of one step, no Phi of the run, and what counts is ``test_accuracy``: new
    heads for the features of 20 tasks of other characters, by 100 steps of Adam; ``test_accuracy_600``: of 600 tasks,
    at the last look.

    ``omniglot`` (30 tasks, width 64, 28 pixels): 1200 of 1623 characters train. Mehra and Hamm 2021, section 3.3 and
    code (after Franceschi et al., ICML 2018): meta-batches of 30 (5-way; 15 for 20-way), T = 20, 10000 steps, ReLU.
    Different here: stride 2 for max-pooling, and each image is normalised by itself (no batch norm, which lets an
    image see the others of its task). ``planted`` (4 tasks, width 8, 14 pixels): moved blots for characters.
    """
    real = dataset == "omniglot"
    tasks = tasks if tasks is not None else 30 if real else 4
    width, side = width if width is not None else 64 if real else 8, side if side is not None else 28 if real else 14
    if not (min(tasks, width) >= 1 and 2 <= ways <= 20 and 1 <= shots < DRAWINGS and 4 <= side <= 28):
        raise ValueError(f"tasks and width are at least 1, ways is 2 to 20, shots 1 to {DRAWINGS - 1}, side 4 to 28")
    body = Body(side, width, torch.tanh if activation == "tanh" else torch.relu)
    train = Episodes.of(rng, dataset, side, ways, shots, test=False)
    test = Episodes.of(rng, dataset, side, ways, shots, test=True)
    shape = (-1, ways, body.features - 1)
    seed, device, dtype = rng.seed, rng.device, rng.dtype

    def heads(name: str, k: int, n: int) -> Tensor:
        drawn = generator(seed, name, k, 0).standard_normal(n * ways * shape[2])
        return SPREAD * torch.from_numpy(drawn)

    def rows(step: int) -> tuple[Tensor, Tensor]:
        both = torch.arange(step * tasks, (step + 1) * tasks, device=device)
        return both, both

    def loss(part: Literal["support", "query"], x: Tensor, y: Tensor, rows: Tensor | None) -> Tensor:
        images, labels = train(part, rows if rows is not None else torch.arange(tasks, device=device), x.dtype)
        return losses(cosine(body(x, images), y.view(shape)), labels).mean()

    def accuracy(x: Tensor, count: int) -> float:
        """Chunk by chunk: 600 tasks are 48000 images."""
        x = x.detach().float()  # which Adam's steps on heads do not tell from float64
        hits = []
        for begin in range(0, count, TEST):
            chosen = torch.arange(begin, begin + TEST, device=x.device)
            (support, labels), (query, marks) = (test(part, chosen, x.dtype) for part in ("support", "query"))
            head = _adapted(body(x, support), labels, heads("test heads", begin, TEST).to(x).view(shape))
            hits.append(cosine(body(x, query), head).argmax(-1) == marks)
        return float(torch.cat(hits).double().mean())

    x0 = body.start(rng.child("start"))
    key = {
        "problem": "few_shot_stream", "version": VERSION, "dataset": dataset, "ways": ways, "shots": shots,
        "width": width, "side": side, "activation": activation, "seed": seed,
    }  # fmt: skip

    def lines() -> tuple[cache.Lines, dict[str, object]]:
        return {
            "chance": {"test_accuracy": 1 / ways},
            "untrained body": {"test_accuracy": accuracy(x0.to(device), TEST)},
        }, {"heads": f"Adam, {STEPS} steps of {RATE:g}"}

    return Problem(
        f=lambda x, y, rows=None: loss("query", x, y, rows),
        g=lambda x, y, rows=None: loss("support", x, y, rows),
        x0=x0,
        y0=heads("heads", 0, tasks),
        stream=Stream(rows, lambda step, x, y: (x, heads("heads", step, tasks).to(device, dtype))),
        metrics=lambda x, y: {"test_accuracy": accuracy(x, TEST)},
        final=lambda x, y: {"test_accuracy_600": accuracy(x, TEST_AT_END)},
        better={"test_accuracy": "higher", "test_accuracy_600": "higher"},
        bar=Bar("test_accuracy", ("chance", "untrained body")),
        references=functools.partial(cache.lines, "few_shot_stream", key, lines),
        selection="any: the cosine ignores lengths, and so does f",
        flags=frozenset({"nonconvex", "multi_valued"} | ({"nonsmooth"} if activation == "relu" else set())),
    )


def _adapted(features: Tensor, labels: Tensor, head: Tensor) -> Tensor:
    """Heads (tasks, ways, k) of fixed features (tasks, n, k + 1) after Adam's steps on the support loss."""
    adam = Outer(update="adam")
    m = adam.moments(head)
    for _ in range(STEPS):
        with torch.enable_grad():
            leaf = head.requires_grad_()
            (slope,) = torch.autograd.grad(losses(cosine(features, leaf), labels).sum(), leaf)
        m, moved = adam.move(m, slope)
        head = head.detach() - RATE * moved
    return head
