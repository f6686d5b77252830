"""Results of any size without a run: for timing the report.

    python -m bilevelbench.asv.rows 1000000 FOLDER

writes about a million rows to FOLDER; `bilevelbench report FOLDER` is then what is timed.
"""

import math
import sys
from functools import lru_cache
from pathlib import Path

from bilevelbench.store.schema import End, Header, Row, RunKey, dumps

PROBLEMS, SOLVERS, LOOKS = 5, 40, 100  # a million rows are then fifty seeds
PRICES = {"f": 1e-5, "dg_y": 1e-5, "df": 2e-5, "dg": 2e-5}


def write(folder: Path, rows: int) -> int:
    """Files with at least so many rows, and at least a seed for each of 5 problems and 40 solvers; how many rows."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = max(1, math.ceil(rows / (PROBLEMS * SOLVERS * LOOKS)))
    for seed in range(seeds):  # first of all: few rates have its looks
        for p in range(PROBLEMS):
            for s in range(SOLVERS):
                _run(folder, f"problem{p}", f"solver{s}", seed, 0.9 + 0.09 * ((7 * s + p + seed) % 11) / 11)
    return PROBLEMS * SOLVERS * LOOKS * seeds


def _run(folder: Path, problem: str, solver: str, seed: int, rate: float) -> None:
    key = RunKey(problem, 1, solver, seed, "cpu", "float64", "eager", 1, LOOKS, None, None, False, "made")
    about = {
        "name": problem, "given": problem, "about": "Made up.", "n_x": 2, "n_y": 2, "n_f": 1, "n_g": 1,
        "flags": ["strongly_convex"], "phi_star": 0.0, "phi_star_source": "made up", "seeded": True, "references": {},
    }  # fmt: skip
    made = {"name": solver, "given": solver, "knobs": {}, "choices": {}, "order": 1 + ord(solver[-1]) % 2}
    prices = {kind: [seconds, 0.0] for kind, seconds in PRICES.items()}
    header = Header(key, about, made, {"cpu": "made up", "cores": 2}, created="2026-01-01T00:00:00Z", prices=prices)
    lines = [dumps(header), *_looks(seed, rate), dumps(End())]
    (folder / f"{key.stem}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@lru_cache(maxsize=11)
def _looks(seed: int, rate: float) -> list[str]:
    lines = []
    for k in range(LOOKS):
        step = round(1.1**k) + k
        gap = rate**k * (1 + 0.1 * math.sin(k + seed))
        metrics: dict[str, float | None] = {
            "phi": gap, "phi_gap": gap, "gap": gap / 2, "grad_phi": math.sqrt(gap), "stationarity": gap, "f": gap,
        }  # fmt: skip
        calls = {"df": step, "dg": step, "dg_y": 10 * step}
        row = Row(step, 1e-4 * step, 1e-4 * step, calls, 12 * step, calls, metrics)
        row.judge_seconds, row.overhead_seconds = 1e-3 * k, 1e-3 * k
        if k == 0:
            row.setup_seconds = row.warmup_seconds = row.first_seconds = row.audit_seconds = 0.1
            row.memory = {"peak_bytes": 4096, "solver_bytes": 2048, "problem_bytes": 2048, "state_bytes": 32}
        if k == LOOKS - 1:
            row.status, row.ended_by = "done", "steps"
        lines.append(dumps(row))
    return lines


if __name__ == "__main__":
    print(f"{write(Path(sys.argv[2]), int(sys.argv[1]))} rows")
