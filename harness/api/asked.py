"""The problem, the solver and the start that ``solve`` is given, as what they are; what is wrong is one sentence."""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any

import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.problem import Problem
from bilevelbench.core.resolve import build_problem, built, make_solver
from bilevelbench.store import files, points

from . import arguments
from .solution import Solution

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def problem(given: Any, seed: int, device: str, dtype: str) -> tuple[Problem, Problem]:
    """The problem to be solved, and in float64 for the judge."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise arguments.wrong("dtype", dtype, "'float32' or 'float64'")
    if not isinstance(device, str) or device.partition(":")[0] not in ("cpu", "cuda"):
        raise arguments.wrong("device", device, "'cpu' or 'cuda'")
    if device != "cpu" and not torch.cuda.is_available():
        raise RequestError(f"device {device}: this machine has no CUDA device; choose cpu")
    if isinstance(given, Problem):
        if given.x0.dtype != DTYPES[dtype]:
            own = str(given.x0.dtype).removeprefix("torch.")
            raise RequestError(
                f"dtype={dtype!r}: this problem is made already, in {own}; give dtype={own!r} or its name"
            )
        return given, given
    rngs = [Draw(seed, device, DTYPES[kind]) for kind in dict.fromkeys([dtype, "float64"])]
    try:
        if isinstance(given, str):
            made = [build_problem(given, rng) for rng in rngs]
        elif isinstance(given, types.FunctionType | functools.partial):
            name = getattr(given, "__name__", "problem")
            made = [built(given, {}, rng, f"problem {name}") for rng in rngs]
        else:
            raise arguments.wrong(
                "problem", given, "a text such as 'quadratic(kappa=100)', a function of a Draw, or a Problem"
            )
    except Unsupported as reason:
        raise RequestError(f"problem: {reason}") from None
    return made[0], made[-1]


def solver(given: Any) -> Any:
    """The solver."""
    if isinstance(given, str):
        return make_solver(given)
    cls = given if isinstance(given, type) else type(given)
    if not hasattr(cls, "declares") or not is_dataclass(cls):
        raise arguments.wrong(
            "solver", given, "a text such as 'bome(lr=0.01)', or a class under @bilevelbench.solver or its object"
        )
    return given() if isinstance(given, type) else given


def started(problem: Problem, start: Any) -> Problem:
    """The problem with another start."""
    if start is None:
        return problem
    takes = "a Solution, a pair (x, y), {'x': ..., 'y': ...}, or the path of a safetensors file with x and y"
    if isinstance(start, str | os.PathLike):
        path = arguments.path("start", start)
        try:
            start = points.read(path)[0]
        except files.Unreadable as error:
            raise RequestError(f"start {path} {error}; it takes {takes}") from None
    if isinstance(start, Solution):
        start = start.x, start.y
    if isinstance(start, Mapping) and {"x", "y"} <= set(start):
        start = start["x"], start["y"]
    if not isinstance(start, tuple | list) or len(start) != 2:
        raise arguments.wrong("start", start, takes)
    both = []
    for name, own, value in zip(("x", "y"), (problem.x0, problem.y0), start, strict=True):
        try:
            point = torch.as_tensor(value, dtype=own.dtype).detach().to(own.device)
        except (TypeError, ValueError, RuntimeError):
            raise arguments.wrong("start", value, takes) from None
        if point.shape != own.shape:
            raise RequestError(f"start: {name} has the shape {tuple(point.shape)}, this problem's {tuple(own.shape)}")
        both.append(point.clone())
    return replace(problem, x0=both[0], y0=both[1])
