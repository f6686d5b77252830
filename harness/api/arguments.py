"""What may be given for an argument. Anything else is one sentence, a ``RequestError`` that names the argument."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sized
from numbers import Real
from pathlib import Path
from typing import Any

from bilevelbench.core.errors import RequestError


def wrong(name: str, value: Any, takes: str) -> RequestError:
    """The error for a value that an argument does not take."""
    text = repr(value)
    return RequestError(f"{name}={text if len(text) <= 60 else text[:57] + '...'} is not valid; {name} takes {takes}")


def whole(name: str, value: Any, low: int = 1) -> int | None:
    """A whole number that is at least ``low``, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= int(value) < 1e15:
        raise wrong(name, value, f"a whole number from {low} on")
    return int(value)


def positive(name: str, value: Any) -> float | None:
    """A number above 0, or None."""
    if value is None:
        return None
    if isinstance(value, bool | str) or not hasattr(value, "__float__") or not 0 < float(value) < 1e15:
        raise wrong(name, value, "a number above 0")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong(name, value, "True or False")
    return value


def word(name: str, value: Any, example: str) -> str | None:
    """A text, or None."""
    if value is not None and not isinstance(value, str):
        raise wrong(name, value, f"a text, such as {example!r}")
    return value


def weights(value: Any) -> dict[str, float]:
    """Numbers by family; none for None."""
    if value is None:
        return {}
    sound = isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(weight, Real) and not isinstance(weight, bool)
        for name, weight in value.items()
    )
    if not sound:
        raise wrong("weights", value, "numbers by family, such as {'bome_toys': 0.5}")
    return dict(value)


def path(name: str, value: Any) -> Path:
    """A path, as text or as a ``Path``."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise wrong(name, value, "a path, such as 'results'")
    return Path(os.fsdecode(value))


def kept(value: Any) -> tuple[str, ...]:
    """Which of x and y are kept: a text such as ``x,y``, or several."""
    if value is None:
        return ()
    several = value.split(",") if isinstance(value, str) else value
    if not isinstance(several, Iterable) or not set(several := list(several)) <= {"x", "y"}:
        raise wrong("keep", value, "'x', 'y' or 'x,y'")
    return tuple(sorted(set(several)))


def seeds(value: Any) -> tuple[int, ...] | None:
    """Seeds in increasing order: a number, several, or a text such as ``0-4``; None for those of the suite."""
    from bilevelbench.core.spec import parse_seeds

    if value is None:
        return None
    if isinstance(value, str):
        return parse_seeds(value)
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping) else [value]
    if not several or any(
        isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= int(seed) < 1e9 for seed in several
    ):
        raise wrong("seeds", value, "whole numbers from 0 on, such as range(5), 3 or '0-4'")
    return tuple(sorted({int(seed) for seed in several}))


def named(name: str, value: Any) -> list[tuple[str, Any]]:
    """One thing or several, each with the name that a dictionary gives it, or ''."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not key.isidentifier():
                raise wrong(name, value, f"names of letters, digits and '_', and {key!r} is none")
        return list(value.items())
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    return [("", one) for one in (value if several else [value])]


def some(name: str, value: Any) -> None:
    """Refuse an empty list: whoever has computed one does not mean all."""
    if isinstance(value, Sized) and not isinstance(value, str | bytes) and not len(value):
        raise wrong(name, value, "one or several; leave it out for those of the suite")


def options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options, each of the type that it has to be of."""
    wholes = {name: whole(name, given.get(name)) for name in ("steps", "calls", "rows", "threads")}
    words = {"device": "cpu", "dtype": "float64", "engine": "eager", "judge": "figures"}
    texts = {name: word(name, given.get(name), example) for name, example in words.items()}
    flags = {name: flag(name, given.get(name) or False) for name in ("batch_seeds", "in_process")}
    iterates = given.get("iterates")
    return {
        **wholes, **texts, **flags, "seconds": positive("seconds", given.get("seconds")),
        "seeds": seeds(given.get("seeds")),
        "iterates": None if iterates is None else flag("iterates", iterates),
    }  # fmt: skip


def unknown(argument: str, value: Any, known: Iterable[str]) -> RequestError:
    """What to raise for a value that is none of those known."""
    names = list(known)
    if not names:
        return RequestError(f"{argument}={value!r} is not valid here: there is nothing to choose from")
    near = difflib.get_close_matches(str(value), names, n=3, cutoff=0.5) or names
    return RequestError(f"{argument}={value!r} is not valid here; choose from {', '.join(map(repr, near))}")
