"""What grows with the size of a network: seconds and bytes of a step, and what a second of steps reaches.

    python -m bilevelbench.asv.scale --out reports/scale/scale.csv [--device cuda] [--most 1e8] [-s SOLVER ...]
    python -m bilevelbench.report.scaled reports/scale/scale.csv          the figure and the table

A multilayer perceptron and a transformer of n_y parameters below, each in float32 on 64 rows; one weight for each row
above. Every (network, size, solver) has a process of its own, so that one that does not fit takes nobody with it. Rows
of the CSV: CPU seconds of a step (of the device, elsewhere), their ratio to the loop by hand where there is one
(``measure.by_hand``), peak bytes without data (``measure.memory``), the same in copies of y, and f at the x that
``REACH`` seconds of steps lead to, over f at the start, the network trained anew by ``TRAINED`` steps at either.
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
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bilevelbench.core import derive
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError
from bilevelbench.core.modules import from_modules
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS as REGISTERED
from bilevelbench.core.resolve import built, knobs, make_solver, resolve
from bilevelbench.core.solver import Solver, start
from bilevelbench.core.spec import parse
from bilevelbench.measure.by_hand import by_hand
from bilevelbench.measure.clock import drain
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import floor_of, paired, steps_of
from bilevelbench.run.names import check_device
from bilevelbench.run.score import curvature_of

ROWS, CLASSES, PIXELS, TOKENS, WORDS = 64, 10, 64, 16, 64
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
SOLVERS = (
    "bome(T=5)", "f2sa(T=5)", "penalty(T=5)", "soba", "aid_cg(T=5,K=5)", "nystrom(T=5)", "itd(T=5)",
)  # fmt: skip
MEANS = 0.7  # of the classes, beside noise of 1
ROUNDS, REACH, TRAINED = 7, 5.0, 100  # paired rounds; seconds of steps whose outcome is read; steps of training anew
LONG = 600.0  # seconds of one process
LABELS = torch.arange(2 * ROWS) % CLASSES  # of all rows


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


class Attending(nn.Module):
    """Two blocks of attention and a perceptron over 16 tokens, their mean classified."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.heads, self.last = nn.Embedding(WORDS, width), max(1, width // 32), nn.Linear(width, CLASSES)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width), "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width),
                    "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width),
                    "second": nn.LayerNorm(width),
                }
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of (n, 16) tokens."""
        h = self.embed(tokens)
        for block in self.blocks:
            parts: Any = block
            n, length, width = h.shape
            q, k, v = parts["qkv"](parts["norm"](h)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            h = h + parts["out"]((weights @ v).transpose(1, 2).reshape(n, length, width))
            h = h + parts["down"](torch.tanh(parts["up"](parts["second"](h))))
        return self.last(h.mean(1))


def network(kind: str, size: int) -> tuple[nn.Module, Tensor]:
    """A network of about so many parameters, and its inputs."""
    torch.manual_seed(0)
    if kind == "mlp":
        width = max(4, round((-(PIXELS + CLASSES) + ((PIXELS + CLASSES) ** 2 + 4 * size) ** 0.5) / 2))
        made = nn.Sequential(
            nn.Linear(PIXELS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, CLASSES)
        )
        return made, MEANS * torch.randn(CLASSES, PIXELS)[LABELS] + torch.randn(2 * ROWS, PIXELS)
    width = max(4, round((size / 24) ** 0.5))
    heads = max(1, width // 32)
    common = torch.rand(CLASSES, WORDS).pow(6)[LABELS]  # each class has words that it prefers
    return Attending(max(4, width // heads * heads)), torch.multinomial(common, TOKENS, replacement=True)


class Weights(nn.Module):
    """One weight in (0, 1) for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(ROWS))

    def forward(self, rows: Tensor) -> Tensor:
        """Of some rows."""
        return torch.sigmoid(self.logit[rows])


def problem(kind: str, size: int, device: str) -> Problem:
    """Weights above, the network below; classes that can be learnt, and a third of the labels below are wrong."""
    return built(_problem, {"kind": kind, "size": size}, Draw(0, device, torch.float32), kind)


def _problem(rng: Draw, kind: str, size: int) -> Problem:
    lower, inputs = network(kind, size)
    wrong = LABELS[:ROWS].clone()
    wrong[::3] = (wrong[::3] + 1) % CLASSES
    return from_modules(
        rng, Weights(), lower, [(inputs[ROWS:], LABELS[ROWS:])],
        [(inputs[:ROWS], wrong, torch.arange(ROWS))],
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t),
        lower_loss=lambda upper, lower, a, t, rows: upper(rows) * cross_entropy(lower(a), t, reduction="none"),
    )  # fmt: skip


def measured(kind: str, size: int, text: str, device: str, rounds: int = ROUNDS, reach: float = REACH) -> Row:
    """One row, in this process."""
    made = problem(kind, size, device)
    step = float(f"{1 / curvature_of(made, made.x0, made.y0):.3g}")
    solver = make_solver(_with_steps(text, step))
    n_y = made.y0.numel()
    bytes_of = peak(made, solver, steps=2)["peak_bytes"]
    ratio: float | str = ""
    if by_hand(made, solver) is not None:
        ratio = round(
            paired(steps_of(made, solver, 1, begun=True), floor_of(made, solver, 1), rounds, device).median, 3
        )
    seconds, steps, x = _reach(made, solver, device, reach)
    f = _trained(made, x, step) / _trained(made, made.x0, step)
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


def _trained(made: Problem, x: Tensor, step: float) -> float:
    """f where gradient descent on g(x, .) leads from y0: what is asked of x, whatever a solver has made of its y."""
    y = made.y0
    for _ in range(TRAINED):
        y = y - step * derive.grad_y(made.g, x, y)
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


def apart(kind: str, size: int, text: str, device: str) -> Row:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "bilevelbench.asv.scale", "--device", device, "--one", kind, str(size), text]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONG)
    except subprocess.TimeoutExpired:
        return Row(kind, size, solver=text, device=device, reason=f"timeout: {LONG:g} s")
    if done.returncode == 0:
        return Row(**json.loads(done.stdout))
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    oom = done.returncode == -9 or "OutOfMemory" in last or "can't allocate memory" in last
    return Row(kind, size, solver=text, device=device, reason="oom" if oom else last[:200])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--least", type=float, default=SIZES[0])
    parser.add_argument("--most", type=float, default=1e7)
    parser.add_argument("-s", "--solver", action="append")
    parser.add_argument("--out", type=Path, default=Path("scale.csv"))
    parser.add_argument("--one", nargs=3, metavar=("NETWORK", "N_Y", "SOLVER"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        check_device(given.device)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if given.one:
        kind, size, text = given.one
        print(json.dumps(measured(kind, int(size), text, given.device)._asdict()))
        return
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        for kind in ("mlp", "transformer"):
            for size in (size for size in SIZES if given.least <= size <= given.most):
                for text in given.solver or SOLVERS:
                    row = apart(kind, size, text, given.device)
                    writer.writerow(row)
                    file.flush()
                    print(*row, flush=True)


if __name__ == "__main__":
    main()
