"""What a tuning has led to, as a suite and as a table of what came of every step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .grid import Plan


@dataclass
class Found:
    """What a search led to: the solver's text, the knobs at the end of what was tried, how many configurations.

    ``steps``: of the chosen configuration, every step tried with its median score, share and cost.
    """

    solver: str
    edges: tuple[str, ...]
    tried: int
    worth: float
    cpu: float
    unsupported: str = ""
    steps: list[dict[str, float | None]] = field(default_factory=list)


Name = tuple[int, str, str]  # place of the part, problem, solver as it was asked for
Chosen = dict[Name, Found]


def blocks(plan: Plan, found: Chosen) -> list[dict[str, Any]]:
    """The blocks of the suite that a plan has led to, as they stand in its file."""
    made = []
    for place, part in enumerate(plan.parts):
        for problem in part.problems:
            own = [found[place, problem, solver] for solver in part.solvers]
            record = {
                "configs": plan.configs, "seeds": f"{min(plan.seeds)}-{max(plan.seeds)}", **dict(part.limits),
                "edges": {one.solver: list(one.edges) for one in own if one.edges},
                "more": {one.solver: one.tried - plan.configs for one in own if one.tried > plan.configs},
            }  # fmt: skip
            block = {"problems": [problem, *part.also], "solvers": [one.solver for one in own]}
            made.append(block | part.suite | {"tuned": record} | ({"note": part.note} if part.note else {}))
    return made


def suite_text(plan: Plan, found: Chosen, command: str) -> str:
    """The suite as a TOML file: a block for each problem, with how it was tuned."""
    cpu = sum(one.cpu for one in found.values())
    lines = [f"# Made by: {command}", f"# The runs of this tuning took {cpu / 3600:.2f} CPU hours."]
    lines += [f"about = {json.dumps(plan.about)}"] if plan.about else []
    lines += [f"include = {_toml(list(plan.include))}", ""] if plan.include else [""]
    for block in blocks(plan, found):
        lines += [f"# {line}" for line in block.pop("note", "").splitlines()]
        lines += ["[[block]]", f"problems = {_toml(block.pop('problems'))}", "solvers = ["]
        lines += [f"  {_toml(solver)}," for solver in block.pop("solvers")]
        lines += ["]", *(f"{name} = {_toml(value)}" for name, value in block.items()), ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        named = {name if name.isidentifier() else json.dumps(name): one for name, one in value.items() if one != {}}
        return f"{{ {', '.join(f'{name} = {_toml(inner)}' for name, inner in named.items())} }}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else json.dumps(value)


def sensitivity(plan: Plan, found: Chosen) -> str:
    """What came of every step beside the chosen ones, as JSON, a line for each problem and solver."""
    lines = [
        {"problem": problem, "asked": solver, "solver": one.solver, "cpu_seconds": round(one.cpu, 2),
         "configs": one.tried, "edges": list(one.edges), "steps": one.steps}
        for (_, problem, solver), one in found.items() if one.steps
    ]  # fmt: skip
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
