"""A run in one row."""

from __future__ import annotations

from typing import Any

from .aims import aims
from .journal import Record
from .text import clean, lines


def row(name: str, record: Record) -> dict[str, Any]:
    """A run's row: what its header, its last look and its end say."""
    header = record.header or {}
    key, problem, solver = header["key"], header["problem"], header["solver"]
    first, last = (record.rows[0], record.rows[-1]) if record.rows else ({}, {})
    memory, digest = record.end.get("memory") or first.get("memory") or {}, problem.get("digest") or {}
    threads, environment = key["threads"], header.get("environment", {})
    measured = order(last.get("calls") or {})
    phi_star = problem.get("phi_star")
    return {
        "run": name, "asked_problem": problem.get("given") or key["problem"],
        "family": clean(problem.get("family") or problem.get("name") or key["problem"].partition("(")[0]),
        "asked_solver": clean(solver.get("given") or key["solver"]), "spec": key["solver"],
        "seeded": problem.get("seeded", True), "phi_star": float("nan") if phi_star is None else phi_star,
        "aims": aims(problem),
        "name": solver.get("name") or (solver.get("given") or key["solver"]).partition("(")[0],
        "choices": solver.get("choices") or {}, "knobs": solver.get("knobs") or {},
        "tuned": solver.get("tuned"),
        "kind": clean(solver.get("family") or ""), "order": solver.get("order") if measured is None else measured,
        "seed": key["seed"], "device": clean(key["device"]), "dtype": clean(key["dtype"]), "threads": threads,
        "engine": clean(key.get("engine", "")), "machine": machine(environment),
        "version": f"version {key.get('problem_version')}", "on": f"{threads} thread{'s' if threads != 1 else ''}",
        "drawn": digest.get("drawn", ""), "computed": digest.get("computed", ""),
        "numbers": tuple(digest.get("numbers") or ()),
        "status": record.status, "fault": record.fault, "attempts": record.end.get("attempts"),
        "reason": clean(last.get("reason", "")), "traceback": lines(last.get("traceback", "")),
        "budget": ", ".join(f"{key[unit]} {unit}" for unit in ("steps", "seconds", "calls", "rows") if key.get(unit)),
        "unit": "rows" if key.get("rows") and not key.get("calls") else "calls",
        "rows": sum((last.get("rows") or {}).values()), "ended_by": last.get("ended_by", ""),
        "steps": last.get("step"), "seconds": last.get("seconds"),
        "cpu_seconds": last.get("cpu_seconds"), "calls": last.get("total_calls"),
        **{name: memory.get(name) for name in BYTES}, "n_x": problem.get("n_x"), "n_y": problem.get("n_y"),
        **{name: first.get(name) for name in ("setup_seconds", "first_seconds", "warmup_seconds", "audit_seconds")},
        **{name: last.get(name) for name in ("judge_seconds", "overhead_seconds")},
        "whole_cpu_seconds": whole(record.end.get("after") or {}),
        "load": (environment.get("load") or [None])[0],
    }  # fmt: skip


BYTES = (
    "peak_bytes", "solver_bytes", "problem_bytes", "state_bytes", "process_bytes", "cuda_bytes", "growth_bytes",
)  # fmt: skip


def whole(after: dict[str, Any]) -> float:
    """A run's share of what its process took; NaN where nobody has said."""
    seconds, runs = after.get("cpu_seconds"), after.get("runs")
    if not isinstance(seconds, int | float) or not isinstance(runs, int) or runs < 1:
        return float("nan")
    return seconds / runs


def machine(environment: dict[str, Any]) -> str:
    """What must be equal for seconds to be comparable: processor, cores, GPU."""
    parts = [environment.get("cpu"), f"{environment.get('cores')} cores", environment.get("gpu")]
    return clean(", ".join(part for part in parts if part))


def order(calls: dict[str, int]) -> int | None:
    """The highest order of derivative among the answers that were counted; None where none was."""
    counted = [kind for kind, n in calls.items() if n]
    if any(kind.startswith("d2") for kind in counted):
        return 2
    if any(kind.startswith(("df", "dg", "dh")) for kind in counted):
        return 1
    return 0 if any(kind in ("f", "g", "h_f", "h_g") for kind in counted) else None
