"""Definitions that have no file: what a notebook or a script has made, for the process that makes a run of it.

The file's name holds a digest of what is in it (see ``run.send``), which stands in the run's key. It is made by whoever
asks for the run, for the process that makes it, and is gone when the command is over: none comes from somebody else.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .draw import Draw
from .errors import RequestError
from .problem import Problem


def read(path: Path) -> tuple[dict[str, Any], Callable[..., Any]]:
    """What is said of a definition (kind, name, doc, version, shows, family), and what makes the solver or the problem.

    The folders that its maker imports from are searched, too, after this process's own.
    """
    with path.open("rb") as file:
        told: dict[str, Any] = pickle.load(file)
    sys.path += [folder for folder in told["path"] if folder not in sys.path]
    made = pickle.loads(told["made"])
    return told, fixed(made) if isinstance(made, Problem) else made


def fixed(made: Problem) -> Callable[[Draw], Problem]:
    """What builds a problem that is there already. It has one seed, one device and one dtype."""

    def build(rng: Draw) -> Problem:
        if rng.dtype != torch.float64 or torch.device(rng.device).type != "cpu":
            raise RequestError(
                f"a problem that is built already stays in float64 on the CPU, and {rng.dtype} on {rng.device} was "
                "asked for; give the function that builds it, which takes a Draw"
            )
        return made

    return build
