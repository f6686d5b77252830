"""Texts by domain, and held-out text of a mixture of few of them: drawn from Markov chains, or from 20 Newsgroups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bilevelbench import Draw
from bilevelbench.data.find import newsgroups_words

LETTERS, SPREAD = 12, 0.2  # of a Markov chain: its states, and the parameter of the Dirichlet rows of its matrix
DOMAINS = 6
TARGET = (0.7, 0.3)  # shares of two domains, which the seed draws, in the target
LEAST = 0.4  # windows of the smallest domain over those of the largest; between them they grow geometrically


class Corpus(NamedTuple):
    """Tokens (whole numbers below ``words``) of each domain to train with, and of the target's to validate and test.

    Each list has one array a domain; a domain has as many windows as tokens, less the context. ``target``: the share
    of each domain in the target.
    """

    words: int
    train: list[np.ndarray]
    validation: list[np.ndarray]
    test: list[np.ndarray]
    target: np.ndarray


def corpus(rng: Draw, data: str, words: int, context: int, most: int, held: int, test: int) -> Corpus:
    """``most`` windows of the largest domain, ``held`` and ``test`` windows of the target.

    The order of the domains' sizes, and which two domains are the target, are drawn.
    """
    order = rng.child("target").permutation(DOMAINS).numpy()
    target = np.zeros(DOMAINS)
    target[order[: len(TARGET)]] = TARGET
    grown = most * LEAST ** (np.arange(DOMAINS) / (DOMAINS - 1))
    sizes = np.maximum(1, np.round(grown[rng.child("sizes").permutation(DOMAINS).numpy()])).astype(int)
    shares = [sizes, *(np.round(n * target).astype(int) for n in (held, test))]
    lengths = [np.where(n > 0, n + context, 0) for n in shares]
    if data == "newsgroups":
        made = _read(rng, words, lengths)
    else:
        made = [_chain(rng.child(f"domain {k}"), sum(n[k] for n in lengths)) for k in range(DOMAINS)]
    parts = [np.split(tokens, np.cumsum([n[k] for n in lengths])[:-1]) for k, tokens in enumerate(made)]
    train, validation, held_back = (list(part) for part in zip(*parts, strict=True))
    return Corpus(words, train, validation, held_back, target)


def windows(tokens: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """What precedes each token, (n, context), and the token, (n,)."""
    if not len(tokens):
        return np.zeros((0, context), np.int64), np.zeros(0, np.int64)
    seen = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)
    return seen[:, :-1].astype(np.int64), seen[:, -1].astype(np.int64)


def _chain(rng: Draw, n: int) -> np.ndarray:
    """n states of a Markov chain of its own."""
    steps = rng.numpy.dirichlet(np.full(LETTERS, SPREAD), LETTERS).cumsum(1)
    state, states = 0, []
    for u in rng.numpy.random(n):
        state = min(int(np.searchsorted(steps[state], u)), LETTERS - 1)
        states.append(state)
    return np.array(states, np.int64)


def _read(rng: Draw, words: int, lengths: list[np.ndarray]) -> list[np.ndarray]:
    """Of each topic the tokens to train with, from the training messages, then those of its test messages.

    Each is read from a place that the seed draws, beginning anew at the end.
    """
    train, test = newsgroups_words(words)
    made = []
    for k in range(DOMAINS):
        own, numbers = lengths[0][k], rng.child(f"topic {k}").numpy
        later = sum(n[k] for n in lengths[1:])
        if own > len(train[k]) or later > len(test[k]):
            raise ValueError(f"{own} words of topic {k} are asked for and {len(train[k])} are there")
        parts = [np.roll(t, -int(numbers.integers(len(t))))[:n] for t, n in ((train[k], own), (test[k], later))]
        made.append(np.concatenate(parts))
    return made
