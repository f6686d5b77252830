"""Result files made by hand, for tests of what reads them."""

from pathlib import Path

from bilevelbench.store.journal import Journal
from bilevelbench.store.schema import End, Header, Row, RunKey

FAULT = {"unsupported": "problem", "lost": "machine"}


def key(problem="quadratic", solver="bome", seed=0, **changes):
    fields = {
        "problem": problem, "problem_version": 1, "solver": solver, "seed": seed, "device": "cpu", "dtype": "float64",
        "engine": "eager", "threads": 1, "steps": 10, "seconds": None, "calls": None, "iterates": False, "code": "c",
    }  # fmt: skip
    return RunKey(**{**fields, **changes})


def write_run(
    folder: Path, problem="quadratic", solver="bome", seed=0, gaps=(1.0, 0.05, 1e-5), status="done", reason="",
    traceback="", metric="phi_gap", extra=None, references=None, picture=None, knobs=None, choices=None, order=1,
    price=10, better=None, bar=None, selection="", fault=None, attempts=1, memory=None, digest=None, kind="dg_y",
    files=(), phi_star=0.0, target=None,
):  # fmt: skip
    """One run whose looks at steps 0, 1, 2, ... have the given values of a metric. Returns its path.

    A status other than done is the solver's fault where nothing else is said, and one that is lost the machine's.
    """
    made = key(problem, f"{solver}{knobs or ''}{choices or ''}", seed)
    journal = Journal(folder / f"{made.stem}.jsonl")
    about = {
        "name": problem.partition("(")[0], "given": problem, "about": "A problem.", "n_x": 2, "n_y": 2, "n_f": 1,
        "n_g": 1, "flags": ["strongly_convex"], "phi_star": phi_star, "seeded": True,
        "phi_star_source": "" if phi_star is None else "by construction",
        "selection": selection, "references": references or {}, "better": better or {}, "bar": bar, "picture": picture,
        "target": target or {},
        **({"digest": digest} if digest else {}),
    }  # fmt: skip
    described = {
        "name": solver, "given": f"{solver}({knobs})" if knobs else solver, "knobs": knobs or {},
        "choices": choices or {}, "order": order,
    }  # fmt: skip
    environment = {"torch": "2", "commit": "abc", "dirty": False, "cores": 2, "load": [0.1, 0.1, 0.1]}
    header = Header(made, about, described, environment, "test", "bilevelbench run", "2026-01-01T00:00:00Z", 60.0)
    journal.begin(header)
    for step, value in enumerate(gaps):
        row = Row(
            step, 0.001 * step, 0.001 * step, {kind: price * step}, price * step, {}, {metric: value, **(extra or {})}
        )
        if step == 0:
            row.memory = {"peak_bytes": 1024, "state_bytes": 32, **(memory or {})}
            row.setup_seconds, row.warmup_seconds = 0.1, 0.2
        if picture:
            row.x, row.y = [float(step), 0.0], [float(step), 1.0]
        if step == len(gaps) - 1 and status == "done":
            row.status, row.ended_by = "done", "steps"
        journal.append(row)
    if status not in ("done", "cut off"):
        step, whose = max(len(gaps) - 1, 0), FAULT.get(status, "solver") if fault is None else fault
        row = Row(step, 0.001 * step, None, {}, price * step, status=status, reason=reason, traceback=traceback)
        row.fault = whose
        journal.append(row)
    if status != "cut off":
        journal.end(End(attempts, dict.fromkeys(files, "sha256:0")))
    journal.close()
    return journal.path
