"""Weights of the domains of a language model's training text, so that it does well on a target mixture."""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bilevelbench import Bar, Draw, Flat, Problem, problem
from bilevelbench.data import cache

from ._converge import converge
from ._texts import DOMAINS, LETTERS, corpus, windows

DECAY = 4e-3
SIZES = {"markov": (350, 100, 4000), "newsgroups": (20000, 2000, 10000)}  # windows: largest domain, validation, test
GTOL, ITERATIONS = 1e-4, 300  # of the reference lines
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Windows(NamedTuple):
    """What precedes a token (n, context), the token (n,), and its domain (n,)."""

    before: np.ndarray
    token: np.ndarray
    domain: np.ndarray


class Mixture(NamedTuple):
    """Windows of all domains; of the target, to validate and to test; the share of each domain in the target."""

    words: int
    train: Windows
    validation: Windows
    test: Windows
    target: np.ndarray


@problem(
    "data_mixture",
    family="weighting",
    shows="weights that matter by their ratios, on a simplex where most of them should vanish",
)
def data_mixture(
    rng: Draw,
    data: Literal["markov", "newsgroups"] = "markov",
    tokens: int | None = None,
    context: int = 2,
    width: int = 6,
    hidden: int = 16,
    words: int = 400,
) -> Problem:
    """One logit for each domain of the text that a small language model is trained on; the target is a mixture of few.

    g = sum_k p_k mean_{i in domain k} CE(y; token i after its ``context`` predecessors) + 4e-3 |y|^2 with p =
    softmax(x), x0 = 0; f = mean CE on held-out text of the target. y: the neural language model of Bengio, Ducharme,
    Vincent, Jauvin (JMLR 2003): embeddings of ``width``, one layer of ``hidden`` tanh units, logits of all tokens.
    Weights of domains for a language model: DoReMi (Xie et al., NeurIPS 2023), there by a worst case over domains; as
    a bilevel problem on a target: ScaleBiO (Pan et al. 2024), by a first-order method for its size.

    ``markov``: six domains, each a Markov chain of its own over 12 letters, of 140 to ``tokens`` = 350 windows; the
    target is .7 of one and .3 of another, the rest is noise; 100 windows validate, 4000 test. ``newsgroups``: six
    topics of 20 Newsgroups (religion, comp, misc.forsale, rec, sci, talk), words by number, the ``words`` - 1 most
    frequent ones and one mark for all others; up to 20000 windows a topic; the target is of the later, official test
    messages. Shows: weights by ratios only, most of which should vanish, where their gradients vanish, too.
    ``test_loss``: nats a token of the target; ``target_share``: the weight on the target's domains together;
    ``distance``: total variation between p and the target's shares. Phi is not judged: y* took 12 000 to 37 000
    gradients of g to settle, measured at seed 0 and three points x: half a minute of a processor for each look.
    """
    if min(context, width, hidden, words - 1, 1 if tokens is None else tokens) < 1:
        raise ValueError("tokens, context, width and hidden are at least 1, words at least 2")
    made = _draw(rng, data, tokens, context, words)
    A, t, domain, B, s, _, C, r, _ = rng.put(*made.train, *made.validation, *made.test)
    scale = rng.put(len(made.train.token) / np.bincount(made.train.domain, minlength=DOMAINS))
    flat, losses = _model(made.words, context, width, hidden)

    def g(x: Tensor, y: Tensor, rows=...) -> Tensor:
        weight = (torch.softmax(x, 0) * scale)[domain[rows]]
        return (weight * losses(y, A[rows], t[rows])).mean() + DECAY * y @ y

    def metrics(x: Tensor, y: Tensor) -> dict[str, float]:
        p = torch.softmax(x, 0).cpu().double().numpy()
        return {
            "test_loss": float(losses(y, C, r).mean()),
            "target_share": float(p[made.target > 0].sum()),
            "distance": float(0.5 * np.abs(p - made.target).sum()),
        }

    return Problem(
        f=lambda x, y, rows=...: losses(y, B[rows], s[rows]).mean(),
        g=g,
        x0=torch.zeros(DOMAINS, dtype=torch.float64),
        y0=_start(rng, flat),
        n_f=len(s),
        n_g=len(t),
        metrics=metrics,
        better={"test_loss": "lower"},
        bar=Bar("test_loss", ("uniform weights (start)", "weights by size", "target text alone")),
        references=functools.partial(_references, rng.seed, data, tokens, context, width, hidden, words),
        flags=frozenset({"nonconvex"}),
        phi_at="never",
    )


def _model(words: int, context: int, width: int, hidden: int) -> tuple[Flat, Loss]:
    """The shapes of the model, and its losses (parameters, before (n, context), tokens (n,)) to (n,)."""
    flat = Flat((words, width), (hidden, context * width), (hidden,), (words, hidden), (words,))

    def losses(y: Tensor, before: Tensor, token: Tensor) -> Tensor:
        embedded, weight, shift, last, bias = flat.split(y)
        inputs = embedded[before].flatten(1)
        logits = torch.addmm(bias, torch.tanh(torch.addmm(shift, inputs, weight.T)), last.T)
        return cross_entropy(logits, token, reduction="none")

    return flat, losses


def _start(rng: Draw, flat: Flat) -> Tensor:
    """Embeddings of variance one, weights of variance 1 / inputs, biases zero."""
    draw, made = rng.child("start"), []
    for k, shape in enumerate(flat.shapes):
        gain = 1.0 if k == 0 else shape[-1] ** -0.5
        made.append(gain * draw.normal(*shape) if len(shape) > 1 else torch.zeros(shape, dtype=torch.float64))
    return Flat.join(made)


def _draw(rng: Draw, data: str, tokens: int | None, context: int, words: int) -> Mixture:
    most, held, test = SIZES[data]
    found = corpus(rng, data, LETTERS if data == "markov" else words, context, tokens or most, held, test)
    parts = []
    for texts in (found.train, found.validation, found.test):
        made = [(*windows(text, context), k) for k, text in enumerate(texts)]
        rows = [(before, token, np.full(len(token), k)) for before, token, k in made]
        parts.append(Windows(*(np.concatenate(column) for column in zip(*rows, strict=True))))
    train, validation, later = parts
    return Mixture(found.words, train, validation, later, found.target)


def _references(
    seed: int, data: str, tokens: int | None, context: int, width: int, hidden: int, words: int
) -> cache.Lines:
    knobs = {"tokens": tokens, "context": context, "width": width, "hidden": hidden, "words": words}
    key = {"problem": "data_mixture", "version": 1, "seed": seed, "data": data, **knobs}
    how = {"method": f"L-BFGS from y0, float64, largest gradient {GTOL:g} or {ITERATIONS} iterations"}
    return cache.lines("data_mixture", key, lambda: (_solve(seed, data, tokens, context, width, hidden, words), how))


def _solve(seed: int, data: str, tokens: int | None, context: int, width: int, hidden: int, words: int) -> cache.Lines:
    """Weights that need no bilevel method, each with the model trained to convergence."""
    rng = Draw(seed)
    made = _draw(rng, data, tokens, context, words)
    A, t, domain, B, s, _, C, r, _ = map(torch.from_numpy, (*made.train, *made.validation, *made.test))
    flat, losses = _model(made.words, context, width, hidden)
    start, sizes = _start(rng, flat), np.bincount(made.train.domain, minlength=DOMAINS)
    weights = {
        "uniform weights (start)": np.full(DOMAINS, 1 / DOMAINS),
        "weights by size": sizes / sizes.sum(),
        "weights known": made.target,
    }
    each = {name: (A, t, torch.from_numpy(p / sizes)[domain]) for name, p in weights.items()}
    each["target text alone"] = (B, s, torch.full((len(s),), 1 / len(s), dtype=torch.float64))
    rows = {}
    for name, (before, token, weight) in each.items():
        loss = functools.partial(_weighted, losses, before, token, weight)
        y = converge(loss, start, gtol=GTOL, iterations=ITERATIONS)
        rows[name] = {"phi": float(losses(y, B, s).mean()), "test_loss": float(losses(y, C, r).mean())}
    return rows


def _weighted(losses: Loss, before: Tensor, token: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    return (weight * losses(y, before, token)).sum() + DECAY * y @ y
