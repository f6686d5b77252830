"""Words that sentences of a report are made of."""

from __future__ import annotations

import numpy as np

MOST_NAMED = 6


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
