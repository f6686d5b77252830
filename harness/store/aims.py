"""What a target is, for those that rank (``stats.targets`` says how it is held) and those that tune alike; and what a
problem wants of its own figures, as its header says it."""

from __future__ import annotations

from typing import Any

DECADES = {"phi_gap": (1, 2, 3, 4, 6, 8), "phi": (1, 2, 3), "distance": (1, 2, 3, 4, 6, 8)}
REACHED = 1e-12  # of its own scale: what starts below has nothing left to reach
SLACK = 2.0  # times the target: what is above at a later look is not held
HALF = 0.5  # of the way from the start to an own figure's target
NOTHING = ("error", "diverged", "oom")  # statuses that hold nothing


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
