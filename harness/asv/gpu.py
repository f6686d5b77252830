"""What a machine with a GPU must show, in one call under ten minutes.

    python -m bilevelbench.asv.gpu --out reports/gpu.json

measures, and prints as one table: the drained clock's check of itself; agreement with the CPU over 50 steps in
float64; prices of the oracle's answers; each engine's step over the eager one on toys and on hyper_cleaning(mnist),
the CNN at batch 1024 and the linear model at 50000 samples; memory of ITD against BOME, by live tensors and by the
allocator. `--device cpu --tiny` runs the same code at toy sizes. What there was no time or no way for stands in the
table with the reason. Not yet run on a GPU: none was at hand when this was written.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bilevelbench.asv.command import obeyed
from bilevelbench.core import derive, engines
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import require, start
from bilevelbench.measure.clock import self_check
from bilevelbench.measure.env import environment
from bilevelbench.measure.memory import peak
from bilevelbench.measure.prices import prices
from bilevelbench.measure.ratio import paired
from bilevelbench.run.names import check_device

LIMIT = 540.0  # seconds; what does not begin before is left out
SOLVERS = ("bome", "itd", "aid_cg", "f2sa")
FULL: dict[str, Any] = {
    "agree": ("quadratic(d=100)", "coreset", "hyper_cleaning"), "steps": 50, "rounds": 9, "T": (5, 20, 80),
    "engines": (
        ("coreset", "bome"), ("quadratic(d=100)", "bome"),
        ("hyper_cleaning(data='mnist',protocol='as_in_bome')", "bome"),  # 50000 training rows
        ("hyper_cleaning(data='mnist',model='cnn')", "soba(batch=1024)"),
    ),
    "memory": "quadratic(d=2000)",
}  # fmt: skip
TINY: dict[str, Any] = {
    "agree": ("quadratic(d=3)",), "steps": 2, "rounds": 1, "T": (2, 4), "engines": (("quadratic(d=3)", "bome(T=1)"),),
    "memory": "quadratic(d=200)",
}  # fmt: skip


def after(problem: str, solver: str, steps: int, device: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """x and y after each of so many steps, a row per step, on the CPU."""
    p, s = build_problem(problem, Draw(0, device, dtype)), make_solver(solver)
    require(s, p)
    oracle = Oracle(p, 0)
    state, path = start(s, p, oracle), []
    for k in range(steps):
        oracle.begin(k)
        state = s.step(oracle, state)
        path.append(torch.cat([state.x, state.y]).cpu())
    return torch.stack(path)


def agreement(problem: str, solver: str, sizes: dict[str, Any], device: str) -> dict[str, float]:
    """The largest difference to the CPU's trajectory, relative to its largest number."""
    here, there = (after(problem, solver, sizes["steps"], place) for place in ("cpu", device))
    return {"relative_difference": float((here - there).abs().max() / here.abs().max())}


def price(problem: str, device: str) -> dict[str, float]:
    """Microseconds of each kind of answer by the eager engine on all rows, in float32."""
    p = build_problem(problem, Draw(0, device, torch.float32))
    rows = {True: p.n_f, False: p.n_g}
    return {
        kind: 1e6 * (call + each * rows["f" in kind.partition("_")[0]])
        for kind, (call, each) in prices(p, device).items()
    }


def engine(name: str, problem: str, solver: str, sizes: dict[str, Any], device: str) -> dict[str, float]:
    """Seconds of a step by an engine over those by the eager one, in float32; compiling is apart."""
    p, plain = build_problem(problem, Draw(0, device, torch.float32)), make_solver(solver)
    require(plain, p)
    driven = engines.driven(name, plain, p)

    def steps(s: Any, derivatives: derive.Derivatives) -> Callable[[], object]:
        oracle = Oracle(p, 0, derivatives)
        first = start(plain, p, oracle)

        def run() -> object:
            state = first
            for k in range(4):
                oracle.begin(k)
                state = s.step(oracle, state)
            return state

        return run

    fast = steps(driven, engines.derivatives(name))
    begin = time.perf_counter()
    fast()
    first = time.perf_counter() - begin
    ratio = paired(fast, steps(plain, derive), sizes["rounds"], device)
    return {"first_seconds": first, **ratio._asdict()}


def memory(solver: str, T: int, sizes: dict[str, Any], device: str) -> dict[str, float]:
    """Peaks in bytes, and the solver's own in vectors of the size of y."""
    p = build_problem(sizes["memory"], Draw(0, device))
    found = peak(p, make_solver(f"{solver}(T={T})"))
    return {**found, "own_vectors": found["solver_bytes"] / p.y0.nbytes}


def measure(device: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Everything, as one record; a line on stderr says what has been measured."""
    begin = time.perf_counter()
    found: dict[str, Any] = {"device": device, "environment": environment(device), "clock": self_check(device)}
    work: list[tuple[str, Callable[[], dict[str, float]]]] = []
    work += [
        (f"memory {solver}(T={T})", partial(memory, solver, T, sizes, device))
        for solver in ("itd", "bome") for T in sizes["T"]
    ]  # fmt: skip
    work += [
        (f"agreement {problem} {solver}", partial(agreement, problem, solver, sizes, device))
        for problem in sizes["agree"] for solver in SOLVERS
    ]  # fmt: skip
    work += [(f"prices {problem}", partial(price, problem, device)) for problem, _ in sizes["engines"]]
    work += [
        (f"engine {name} {problem} {solver}", partial(engine, name, problem, solver, sizes, device))
        for problem, solver in sizes["engines"] for name in ("functional", "cuda_graph", "compiled")
    ]  # fmt: skip
    for name, run in work:
        try:
            if time.perf_counter() - begin > LIMIT:
                raise Unsupported(f"{LIMIT:g} seconds were over")
            found[name] = run()
        except (Unsupported, RequestError, RuntimeError) as reason:
            found[name] = {"reason": str(reason).partition("\n")[0]}
        print(f"measured: {name}", file=sys.stderr, flush=True)
    found["seconds"] = time.perf_counter() - begin
    return found


def table(found: dict[str, Any]) -> str:
    """All that was measured, a line each: ratios below 1 are faster than eager steps."""
    shown = {name: value for name, value in found.items() if isinstance(value, dict) and name != "environment"}
    width = max(map(len, shown))
    lines = [f"{found['device']}: {found['environment'].get('gpu') or found['environment'].get('cpu')}"]
    for name, value in shown.items():
        parts = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items()]
        lines.append(f"{name:{width}}  {', '.join(parts)}")
    return "\n".join([*lines, f"{found['seconds']:.0f} s in all"])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    check_device(given.device)
    found = measure(given.device, TINY if given.tiny else FULL)
    print(table(found))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if found["clock"]["ok"] else 1)


if __name__ == "__main__":
    obeyed(main)
