"""What grows with the size of a network: seconds and bytes of a step, and what a second of steps reaches.

    python -m bilevelbench.asv.scale --out reports/scale/scale.csv [--device cuda] [--most 1e8] [-s SOLVER ...] [-n mlp]
    python -m bilevelbench.report.scaled reports/scale/scale.csv          the figure and the table

A multilayer perceptron and a transformer of n_y parameters below, each in float32 on ``ROWS`` rows; one weight for each
row above. Every (network, size, solver) has a process of its own, so that one that does not fit takes nobody with it.
Rows of the CSV: CPU seconds of a step (of the device, elsewhere), their ratio to the loop by hand where there is one
(``measure.by_hand``; ``ROUNDS`` rounds, ``FEW`` where a step takes more than ``SLOW`` seconds), peak bytes without data
(``measure.memory``), the same in copies of y, and f at the x that ``REACH`` seconds of steps lead to, over f at the
start, the network trained anew by ``TRAINED`` steps of Adam at either; "nan" where the steps have diverged.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bilevelbench.core import derive
from bilevelbench.core.errors import RequestError
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS as REGISTERED
from bilevelbench.core.resolve import knobs, make_solver, resolve
from bilevelbench.core.solver import Solver, start
from bilevelbench.core.spec import parse
from bilevelbench.measure.by_hand import by_hand
from bilevelbench.measure.clock import drain
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import floor_of, paired, steps_of
from bilevelbench.run.names import check_device
from bilevelbench.run.score import curvature_of

from .networks import ROWS, problem

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
SOLVERS = (
    "bome(T=5)", "f2sa(T=5)", "penalty(T=5)", "soba", "aid_cg(T=5,K=5)", "nystrom(T=5)", "itd(T=5)",
)  # fmt: skip
NETWORKS = ("mlp", "transformer")
ROUNDS, FEW, SLOW = 7, 3, 1.0  # paired rounds; those where a step takes so many seconds
REACH, TRAINED, RATE = 5.0, 50, 3e-3  # seconds of steps whose outcome is read; steps of Adam, and their size
LONG = 1200.0  # seconds of one process


class Row(NamedTuple):
    """What one process measured; empty with a ``reason`` where it could not."""

    network: str
    asked: int
    n_y: int | str = ""
    solver: str = ""
    device: str = "cpu"
    step_seconds: float | str = ""
    over_hand: float | str = ""
    peak_bytes: int | str = ""
    copies: float | str = ""
    f_ratio: float | str = ""
    steps: int | str = ""
    reason: str = ""


class Start(NamedTuple):
    """What all solvers of a network share: the step below by one rule, and f after training at x0."""

    step: float
    f: float


def begin(made: Problem) -> Start:
    """A step of 1 / (4 curvature of g at the start), which leaves room for what curvature gains in training."""
    return Start(float(f"{0.25 / curvature_of(made, made.x0, made.y0):.3g}"), _trained(made, made.x0))


def measured(
    kind: str, size: int, text: str, device: str, at: Start | None = None, rounds: int = ROUNDS, reach: float = REACH
) -> Row:
    """One row, in this process."""
    made = problem(kind, size, device)
    at = at or begin(made)
    solver = make_solver(_with_steps(text, at.step))
    n_y = made.y0.numel()
    bytes_of = peak(made, solver, steps=2)["peak_bytes"]
    seconds, steps, x = _reach(made, solver, device, reach)
    ratio: float | str = ""
    if by_hand(made, solver) is not None:
        often = rounds if seconds <= SLOW else min(rounds, FEW)
        ratio = round(paired(steps_of(made, solver, 1, begun=True), floor_of(made, solver, 1), often, device).median, 3)
    f = _trained(made, x) / at.f
    copies = round(bytes_of / made.y0.nbytes, 2)
    return Row(
        kind, size, n_y, text, device, float(f"{seconds:.4g}"), ratio, bytes_of, copies, float(f"{f:.4g}"), steps
    )


def _with_steps(text: str, below: float) -> str:
    """The solver with steps by one rule for all, where it has them and the text names none: ``below``, and above one
    for each row, as f and g are means over rows."""
    entry, _ = resolve(REGISTERED, text)
    steps = {"lr": float(ROWS), "lr_inner": below, "lr_y": below}
    given = parse(text)
    ours = {name: value for name, value in steps.items() if name in knobs(entry)}
    return str(given._replace(arguments={**ours, **given.arguments}))


def _trained(made: Problem, x: Tensor) -> float:
    """f where Adam on g(x, .) leads from y0: what is asked of x, whatever a solver has made of its y."""
    y = made.y0.clone()
    adam = torch.optim.Adam([y], lr=RATE)
    for _ in range(TRAINED):
        y.grad = derive.grad_y(made.g, x, y)
        adam.step()
    return float(made.f(x, y).detach())


def _reach(made: Problem, solver: Solver, device: str, reach: float) -> tuple[float, int, Tensor]:
    """(median seconds of a step, steps, x at the end), within so many seconds of steps."""
    wait, clock = drain(device), time.process_time if device == "cpu" else time.perf_counter
    oracle = Oracle(made, 0)
    state = start(solver, made, oracle)
    state, took = solver.step(oracle, state), list[float]()
    while not took or sum(took) + took[-1] < reach:
        oracle.begin(len(took) + 1)
        wait()
        since = clock()
        state = solver.step(oracle, state)
        wait()
        took.append(clock() - since)
    return sorted(took)[len(took) // 2], len(took) + 1, state.x


def apart(kind: str, size: int, text: str, device: str, at: Start | None = None) -> Row:
    """The same in a process of its own."""
    said, reason = _said(device, "--one", kind, str(size), text, *(["--at", *map(str, at)] if at else []))
    return Row(*said) if said else Row(kind, size, solver=text, device=device, reason=reason)


def _said(device: str, *words: str) -> tuple[Any, str]:
    """What a process of this command says, and why where it says nothing."""
    command = [sys.executable, "-m", "bilevelbench.asv.scale", "--device", device, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)
    except subprocess.TimeoutExpired:
        return None, f"timeout: {LONG:g} s"
    if done.returncode == 0:
        return json.loads(done.stdout), ""
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    oom = done.returncode == -9 or "OutOfMemory" in last or "can't allocate memory" in last
    return None, "oom" if oom else last[:200]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--least", type=float, default=SIZES[0])
    parser.add_argument("--most", type=float, default=1e7)
    parser.add_argument("-s", "--solver", action="append")
    parser.add_argument("-n", "--network", action="append", choices=NETWORKS)
    parser.add_argument("--out", type=Path, default=Path("scale.csv"))
    parser.add_argument("--begin", nargs=2, metavar=("NETWORK", "N_Y"), help="what all solvers share there")
    parser.add_argument("--one", nargs=3, metavar=("NETWORK", "N_Y", "SOLVER"), help="one row")
    parser.add_argument("--at", nargs=2, type=float, metavar=("STEP", "F"), help="what --begin has said")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        check_device(given.device)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if given.begin:
        print(json.dumps(begin(problem(given.begin[0], int(given.begin[1]), given.device))))
        return
    if given.one:
        kind, size, text = given.one
        print(json.dumps(measured(kind, int(size), text, given.device, Start(*given.at) if given.at else None)))
        return
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for kind in given.network or NETWORKS:
            for size in (size for size in SIZES if given.least <= size <= given.most):
                at, reason = _said(given.device, "--begin", kind, str(size))
                for text in given.solver or SOLVERS:
                    bad = Row(kind, size, solver=text, device=given.device, reason=reason)
                    row = apart(kind, size, text, given.device, Start(*at)) if at else bad
                    writer.writerow(row)
                    file.flush()
                    print(*row, flush=True)


if __name__ == "__main__":
    main()
