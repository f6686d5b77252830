"""Specs: a name and its knobs as people write them, ``bome(lr=0.05, T=10)``."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .errors import RequestError

DEFINITION = ".definition"  # ends the name of a file that ``core.definition`` reads
# ``core.engines`` says what they are; the names stand here for whoever has no torch.
ENGINES = ("eager", "functional", "compiled", "compiled_oracle", "cuda_graph", "jax", "batched", "in_process")
UNTIMED = ("batched", "in_process")


def missing(engine: str) -> str:
    """What an engine lacks here, in a sentence with the command that installs it; or ''."""
    if engine != "jax" or importlib.util.find_spec("jax"):
        return ""
    return "the engine jax needs another package: pip install 'bilevelbench[jax]'"


class Spec(NamedTuple):
    """A name and the arguments given to it, as in ``bome(lr=0.05, T=10)``. ``file`` is the loose file's path, or ''."""

    name: str
    arguments: dict[str, Any]
    file: str = ""

    def __str__(self) -> str:
        target = f"{self.file}:{self.name}" if self.file else self.name
        arguments = ",".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return (f"{target}({arguments})" if arguments else target).replace(", ", ",")


def parse(text: str) -> Spec:
    """Read ``name``, ``name(knob=value, ...)``, ``file.py`` or ``file.py:name(...)``. Values are Python literals."""
    if not isinstance(text, str):
        raise RequestError(f"{text!r:.60} is no text; write a name with its knobs, such as 'bome(lr=0.05, T=10)'")
    target, bracket, rest = text.strip().partition("(")
    try:
        call = ast.parse(f"f({rest}" if bracket else "f()", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError
        arguments = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        if len(arguments) < len(call.keywords):  # a knob given twice
            raise ValueError
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise RequestError(
            f"{text!r} cannot be read; write a name with knobs as Python literals, such as 'bome(lr=0.05, T=10)'"
        ) from None
    file, colon, name = target.strip().rpartition(":")
    if colon and file.endswith(".py"):
        return Spec(name, arguments, file)
    if target.strip().endswith(".py"):
        return Spec("", arguments, target.strip())
    return Spec(target.strip(), arguments)


def suggest(name: str, known: Iterable[str]) -> str:
    """'did you mean ...?' with the nearest of the known names, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(known)}"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``0-4``, ``0,2,5`` or ``3`` as seeds in increasing order."""
    seeds: set[int] = set()
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise RequestError(f"seeds {text!r} cannot be read; write 0-4, or 0,2,5, or 3")
        seeds.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(seeds))


def spelled(seeds: Iterable[int]) -> str:
    """Seeds as ``parse_seeds`` reads them, a run of them as its ends: 0-4,7."""
    parts: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if parts and parts[-1][-1] == seed - 1:
            parts[-1][1:] = [seed]
        else:
            parts.append([seed])
    return ",".join("-".join(map(str, ends)) for ends in parts)
