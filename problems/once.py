"""Lower levels that torch can differentiate once only: what first-order methods exist for."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bilevelbench import Draw, Flat, Problem, problem

CLASSES, WIDTH, LENGTH, WORDS = 3, 4, 5, 12  # of the made-up data: classes, features, tokens of a row, vocabulary
DECAY = 0.02
Kind = Literal["attention", "ctc", "bag", "multi_margin"]
Rows = Tensor | EllipsisType


@problem("once", family="once", shows="no second derivative below: methods that need one cannot take part")
def once(rng: Draw, kind: Kind = "multi_margin", n: int = 24, noise: float = 0.25) -> Problem:
    """Weights for n training rows, a share ``noise`` with wrong labels, and a model that torch differentiates once.

    g = mean_i sigmoid(x_i) loss(y; row i) + 0.02 |y|^2,  f = mean of the loss over n clean rows; x0 = 0. ``kind``:
    "multi_margin", a linear classifier under the squared margin loss of Crammer and Singer (JMLR 2001), strongly
    convex; "bag", the mean embedding of a row's words as its logits (``torch.nn.functional.embedding_bag``), strongly
    convex; "ctc", linear logits of each of a row's tokens under the CTC loss (Graves et al., ICML 2006), which sums
    over alignments with the label; "attention", one head of fused scaled dot-product attention (Vaswani et al.,
    NeurIPS 2017) over a row's tokens, then linear logits of their mean; the last two are not convex. Of all four torch
    2.15 has no second derivative on the CPU. Everything is drawn: features are normal around class centres 2 e_k.
    """
    if n < 2 or not 0 <= noise <= 1:
        raise ValueError("n is at least 2, and noise a share, from 0 to 1")
    labels = rng.permutation(2 * n) % CLASSES
    if kind == "bag":  # a row has words of its class's third of the vocabulary, and any others
        third = WORDS // CLASSES
        own, other = (
            torch.from_numpy(rng.numpy.integers(most, size=(2 * n, k))) for most, k in ((third, 2), (WORDS, 3))
        )
        data = torch.cat([labels[:, None] * third + own, other], 1)
    else:
        shape = (2 * n, WIDTH) if kind == "multi_margin" else (2 * n, LENGTH, WIDTH)
        centres = 2 * torch.eye(WIDTH, dtype=torch.float64)[labels]
        data = rng.normal(*shape) + (centres if kind == "multi_margin" else centres[:, None])
    wrong = rng.permutation(n) < round(noise * n)
    A, t, B, s = rng.put(data[:n], torch.where(wrong, (labels[:n] + 1) % CLASSES, labels[:n]), data[n:], labels[n:])
    size, losses, scores = MODELS[kind]

    def f(x: Tensor, y: Tensor, rows: Rows = ...) -> Tensor:
        return losses(y, B[rows], s[rows]).mean()

    def g(x: Tensor, y: Tensor, rows: Rows = ...) -> Tensor:
        return (torch.sigmoid(x[rows]) * losses(y, A[rows], t[rows])).mean() + DECAY * y @ y

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        return {"accuracy": float((scores(y, B.to(y) if B.is_floating_point() else B).argmax(1) == s).double().mean())}

    return Problem(
        f=f, g=g, x0=torch.zeros(n, dtype=torch.float64), y0=0.1 * rng.normal(size), n_f=n, n_g=n, metrics=metrics,
        better={"accuracy": "higher"},
        flags=frozenset({"once", "strongly_convex" if kind in ("multi_margin", "bag") else "nonconvex"}),
    )  # fmt: skip


def _linear(y: Tensor, a: Tensor) -> Tensor:
    return a @ y.view(WIDTH, CLASSES)


def _margins(y: Tensor, a: Tensor, t: Tensor) -> Tensor:
    return functional.multi_margin_loss(_linear(y, a), t, p=2, reduction="none")


def _bag(y: Tensor, a: Tensor) -> Tensor:
    return functional.embedding_bag(a, y.view(WORDS, CLASSES), mode="mean")


def _tokens(y: Tensor, a: Tensor) -> Tensor:
    """Log-probabilities of the blank and the classes, (tokens, rows, 1 + CLASSES)."""
    return (a @ y.view(WIDTH, 1 + CLASSES)).log_softmax(-1).transpose(0, 1)


def _ctc(y: Tensor, a: Tensor, t: Tensor) -> Tensor:
    tokens, words = (torch.full((len(t),), length) for length in (LENGTH, 1))
    return functional.ctc_loss(_tokens(y, a), 1 + t[:, None], tokens, words, reduction="none") / LENGTH


def _attention(y: Tensor, a: Tensor) -> Tensor:
    q, k, v, head = HEAD.split(y)
    query, key, value = ((a @ weight)[:, None] for weight in (q, k, v))
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return mixed[:, 0].mean(1) @ head


def _entropy(logits: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda y, a, t: functional.cross_entropy(logits(y, a), t, reduction="none")


HEAD = Flat((WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, CLASSES))
# kind: how many variables, the loss of each row, the scores of its classes
MODELS: dict[str, tuple[int, Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "multi_margin": (WIDTH * CLASSES, _margins, _linear),
    "bag": (WORDS * CLASSES, _entropy(_bag), _bag),
    "ctc": (WIDTH * (1 + CLASSES), _ctc, lambda y, a: _tokens(y, a)[..., 1:].mean(0)),
    "attention": (HEAD.size, _entropy(_attention), _attention),
}
