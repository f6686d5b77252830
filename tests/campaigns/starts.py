"""How far the start of BOME's hyper-cleaning hangs on the draw of split, noise and first weights.

    python -m tests.campaigns.starts [DRAWS [STEPS]]

Of DRAWS draws (16), at the start of ``hyper_cleaning(data='mnist',protocol='bome_released')``: test loss and accuracy,
then their means with a 95 % interval, and how far one draw lies from another. The code prints one draw: .8142, .8399.

Of the 5000 heavy-ball steps the iterate with the least held-out loss is kept. That is one of the first twenty, where
momentum overshoots; so STEPS (100) are made, which three whole runs have agreed with, and 25 must lead to the same.
"""

from __future__ import annotations

import math
import statistics
import sys
from typing import Literal, NamedTuple

import torch
from scipy.stats import t as student
from torch.nn.functional import cross_entropy

from bilevelbench import Draw
from bilevelbench.problems._cleaning import PROTOCOLS, split
from bilevelbench.problems._cleaning_released import descended, uniform_start
from bilevelbench.problems._networks import CLASSES

SIBLING = "test_the_campaign_of_starts_sees_what_the_problem_begins_with"
EARLY = 25


class Start(NamedTuple):
    """What the test rows say of a start, and whether the first ``EARLY`` steps lead to it."""

    loss: float
    accuracy: float
    early: bool


def drawn(seed: int, data: Literal["digits", "mnist"], steps: int) -> Start:
    """The start of one draw."""
    rng, how = Draw(seed), PROTOCOLS["bome_released"]
    parts = split(rng, data, how, 0.5)
    inputs = torch.from_numpy(parts.train), torch.from_numpy(parts.validation)
    labels = torch.from_numpy(parts.noisy), torch.from_numpy(parts.validation_labels)
    rows = torch.cat(inputs).numpy(), torch.cat(labels).numpy()
    first = uniform_start(rng.child("start"), rows[0].shape[1])
    best, soon = (descended(first, *rows, how.decay, parts.held, parts.held_labels, k) for k in (steps, EARLY))
    weight, test = best.view(CLASSES, -1), torch.from_numpy(parts.test_labels)
    scores = torch.from_numpy(parts.test) @ weight.T + weight[:, -1]
    hits = (scores.argmax(1) == test).double().mean()
    return Start(float(cross_entropy(scores, test)), float(hits), bool(torch.equal(best, soon)))


def main(draws: int = 16, steps: int = 100) -> None:
    """A line for each draw, then what they say together."""
    found = []
    for seed in range(draws):
        found.append(drawn(seed, "mnist", steps))
        print(seed, *(f"{value:.4f}" for value in found[-1][:2]), "" if found[-1].early else "LATER", flush=True)
    for name, values in zip(("loss", "accuracy"), list(zip(*found, strict=True))[:2], strict=True):
        mean, apart = statistics.mean(values), statistics.stdev(values)
        half = float(student.ppf(0.975, draws - 1)) * apart / math.sqrt(draws)
        print(f"{name}: {mean:.4f} [{mean - half:.4f}, {mean + half:.4f}], one draw apart by {apart:.4f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
