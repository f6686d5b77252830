"""What a problem wants of its own figures, as its header says it."""

from __future__ import annotations

from typing import Any


def aims(problem: dict[str, Any]) -> dict[str, tuple[float, str, str]]:
    """What a problem wants of its own figures: by name the value, which way is better, and where it is from: "target",
    or "bar", the best of the lines that a solver must beat."""
    better, bar = problem.get("better") or {}, problem.get("bar") or {}
    found = {
        name: (float(value), better[name], "target") for name, value in (problem.get("target") or {}).items()
        if name in better and value is not None
    }  # fmt: skip
    figure, lines = bar.get("figure"), problem.get("references") or {}
    known = [value for line in bar.get("lines", ()) if (value := lines.get(line, {}).get(figure)) is not None]
    if known and figure not in found:
        way = better.get(figure, "lower")  # phi
        found[str(figure)] = (float(max(known) if way == "higher" else min(known)), way, "bar")
    return found
