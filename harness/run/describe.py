"""What a header says of a run's solver and problem, in words and numbers that need neither to be read."""

from __future__ import annotations

from typing import Any

import torch

from bilevelbench.core.problem import Picture, Problem
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import knobs, resolve
from bilevelbench.core.spec import parse
from bilevelbench.measure.env import repository

MOST_ITERATES = 1000  # variables; beyond that --iterates keeps none
GRID = 61  # points along each side of a picture's level sets


def describe_solver(given: str, tuned: bool | str = False) -> dict[str, Any]:
    """What a header says of the solver."""
    entry, spec = resolve(SOLVERS, given)
    defaults = {name: default for name, (_, default) in knobs(entry).items()}
    choices = {
        k: v for k, v in spec.arguments.items() if v != defaults[k] and isinstance(v, str | bool) and v is not None
    }
    asked, made = parse(given).arguments, entry.make(**spec.arguments)
    return {
        "name": entry.name, "given": given, "asked": asked, "knobs": spec.arguments, "choices": choices,
        "order": made.order, "family": made.family, "about": entry.doc.partition("\n")[0],
        "repository": repository(entry.file), "tuned": tuned,
    }  # fmt: skip


def describe_problem(given: str, problem: Problem, iterates: bool) -> dict[str, Any]:
    """What a header says of the problem."""
    entry, spec = resolve(PROBLEMS, given)
    references = problem.references() if problem.references else {}
    return {
        "name": entry.name, "family": entry.family or entry.name, "given": given, "knobs": spec.arguments,
        "about": entry.doc.partition("\n")[0],
        "n_x": problem.x0.numel(), "n_y": problem.y0.numel(), "n_f": problem.n_f, "n_g": problem.n_g,
        "flags": sorted(problem.flags), "phi_star": problem.phi_star, "phi_star_source": problem.phi_star_source,
        "constraints": [kind for kind in ("h_f", "h_g") if getattr(problem, kind) is not None],
        "selection": problem.chosen, "seeded": problem.seeded,
        "references": {k: dict(v) for k, v in references.items()},
        "better": dict(problem.better), "target": dict(problem.target),
        "bar": problem.bar._asdict() if problem.bar else None,
        "picture": _drawn(problem.picture) if problem.picture and iterates else None,
    }  # fmt: skip


def _drawn(picture: Picture) -> dict[str, Any]:
    left, right, bottom, top = picture.box
    u, v = torch.linspace(left, right, GRID).double(), torch.linspace(bottom, top, GRID).double()
    vv, uu = torch.meshgrid(v, u, indexing="ij")
    level = picture.level(uu, vv)
    return {
        "axes": [list(axis) for axis in picture.axes], "labels": [f"{name}[{i}]" for name, i in picture.axes],
        "box": list(picture.box), "label": picture.label, "u": _rounded(u), "v": _rounded(v),
        "level": [_rounded(line) for line in level], "outline": [list(point) for point in picture.outline],
        "solution": list(picture.solution) if picture.solution else None,
    }  # fmt: skip


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
