"""Words that sentences of a report are made of."""

from __future__ import annotations

import numpy as np

MOST_NAMED = 6
TERMS = {  # what a reader finds when resting on a word
    "cost": "Oracle calls to hold the same targets, over the first solver's; geometric mean, unsolved as ten budgets.",
    "leads": "Share of resamples of families, problems and instances in which it is cheaper than all others by more "
    "than a tenth; a winner is named from 95 % on.",
    "targets held": "Share of the targets that it reached and kept to the end, families alike, with its 95 % interval.",
    "passed, not held": "Targets that some look met and a later one lost.",
    "gradients ÷ best": "Gradient equivalents to a target over the cheapest solver's, the median over targets; ∞ where "
    "the median target is not held.",
    "seconds ÷ best": "The same in seconds.",
    "step ÷ floor": "Seconds of its steps over those of a loop written by hand or of the bare answers it asks for.",
    "peak memory": "The most live tensor bytes of a step, the largest of all problems.",
    "vectors of y": "Peak memory on the problem with the most lower variables, in vectors of the size of y.",
    "failed runs": "Runs that ended badly through the solver's own fault.",
    "class": "What was asked for: no derivatives, first order, or products with second derivatives.",
    "calls": "Oracle calls: each value, gradient and second-order product is one.",
    "gradients": "Gradient equivalents: calls weighed by what they take here, one gradient of g in y as the unit.",
    "phi_gap": "Φ(x) − Φ*: the outcome, y solved anew by the judge, less the least value known.",
    "phi": "Φ(x) = f(x, y*(x)), y* solved anew by the judge in float64.",
    "grad_phi": "Norm of the true hypergradient; small wherever Φ is flat, so it is no target.",
    "gap": "g(x, y) − min g(x, ·): how far y is from solving the lower problem.",
    "stationarity": "BOME's measure |∇f + λ∇q|² + q.",
    "f": "f(x, y), which alone says nothing: it falls when y is left unsolved.",
    "violation": "The largest violation of the constraints.",
    "status": "done, diverged, error, timeout, oom, unsupported, lost or cut off.",
}


def count(n: int, word: str) -> str:
    """So many of something."""
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{n} {word if n == 1 else plural}"


def plain(ratio: float) -> str:
    """A ratio in two digits, without an exponent where it is large."""
    return f"{ratio:.2g}" if ratio < 100 else f"{ratio:.0f}"


def times(ratio: float, low: float, high: float) -> str:
    """A ratio with its interval."""
    spread = "" if np.isnan(low) else f" ({plain(low)} to {plain(high)})"
    return f"{plain(ratio)}{spread} times"


def title(solver: str) -> str:
    """A solver's name in a sentence."""
    return "BOME" if solver == "bome" else solver


def both(words: list[str], last: str = "and") -> str:
    """Some words as a list in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def either(words: list[str]) -> str:
    """The same with or."""
    return both(words, "or")


def some(names: list[str], word: str = "problem") -> str:
    """Names, or how many where a reader would not read them all; the table below shows which."""
    return both(names) if len(names) <= MOST_NAMED else count(len(names), word)
