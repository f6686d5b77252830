"""Steps at the size of networks that people train, over loops by hand; and what a record takes beside such a loop.

    OMP_NUM_THREADS=1 python -m tests.campaigns.at_size steps [ROUNDS]
    OMP_NUM_THREADS=1 python -m tests.campaigns.at_size record PROBLEM [STEPS [ROUNDS]]
    python -m tests.campaigns.at_size streamed [ROWS ...]

``steps``: a ResNet-18 of 11 million parameters on 8 rows of 32 x 32 (batch norm by the batch's statistics) and the
transformer of ten million of ``asv.networks``: CPU seconds of a step of BOME, F2SA and SOBA over those of the loop by
hand (``measure.ratio``), the median of ROUNDS; the peak bytes of BOME's step in copies of y, of all and of what the
solver holds (``measure.memory``: graph and activations of one answer are the problem's own). ``record``: CPU seconds of
solving and judging of a run over those of as many steps by hand, for BOME, SOBA and AID-CG. ``streamed``: megabytes
that the process of a run holds at most, by its own record, where a data set has so many rows, read when asked for.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import bilevelbench as bb
from bilevelbench import Draw, Problem, build_problem, from_modules, make_solver
from bilevelbench.asv import networks
from bilevelbench.core.resolve import built
from bilevelbench.measure.memory import peak
from bilevelbench.measure.ratio import floor_of, paired, steps_of
from tests.architectures import Residual
from tests.campaigns.price_of_judging import once

SIBLING = "test_a_small_residual_network_is_stepped_as_by_hand"
ROWS, CLASSES, STAGES, WIDTH = 8, 10, (1, 2, 4, 8), 1000
STEPS = ("bome(T=1,lr=0.01,lr_inner=0.01)", "f2sa(T=1,lr=0.01,lr_inner=0.01)", "soba(lr=0.01,lr_inner=0.01)")
RECORDS = ("bome(lr=0.01,lr_inner=0.1,lr_y=0.1,T=5)", "soba(lr=0.01,lr_inner=0.1)", "aid_cg(lr=0.01,lr_inner=0.1,T=5)")

STREAMED = Path(__file__).parents[1] / "streamed_rows.py"


def resnet(width: int = 64) -> Problem:
    """He, Zhang, Ren, Sun (CVPR 2016), two blocks in each of four stages, as for 32 x 32; one weight for each row."""
    return built(_resnet, {"width": width}, Draw(0, "cpu", torch.float32), "ResNet-18")


def _resnet(rng: Draw, width: int) -> Problem:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for k, stage in enumerate(STAGES):
        layers += [Residual(channels, stage * width, 1 if k == 0 else 2), Residual(stage * width, stage * width)]
        channels = stage * width
    lower = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    images, labels = torch.randn(2 * ROWS, 3, 32, 32), torch.arange(2 * ROWS) % CLASSES
    return from_modules(
        rng, networks.Weights(), lower, [(images[ROWS:], labels[ROWS:])],
        [(images[:ROWS], labels[:ROWS], torch.arange(ROWS))], batch_norm="batch",
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t),
        lower_loss=lambda upper, lower, a, t, rows: upper(rows) * cross_entropy(lower(a), t, reduction="none"),
    )  # fmt: skip


def of_step(problem: Problem, solver: str, rounds: int) -> float:
    """CPU seconds of a step over those by hand."""
    made = make_solver(solver)
    return paired(steps_of(problem, made, 1, begun=True), floor_of(problem, made, 1), rounds).median


def of_record(problem: Problem, solver: str, steps: int, rounds: int) -> float:
    """CPU seconds of solving and judging over those of as many steps by hand, taken in turns."""
    made, ratios = make_solver(solver), []
    hand = floor_of(problem, made, steps)
    hand()
    for _ in range(rounds):
        judging, solving, _ = once(problem, solver, steps)
        begun = time.process_time()
        hand()
        ratios.append((judging + solving) / (time.process_time() - begun))
    return statistics.median(ratios)


def copies(problem: Problem, solver: str) -> tuple[float, float]:
    """Peak bytes of two steps, data apart, in copies of y: of all, and of what the solver holds."""
    y: Tensor = problem.y0
    found = peak(problem, make_solver(solver), steps=2)
    return found["peak_bytes"] / y.nbytes, found["solver_bytes"] / y.nbytes


def streamed(sizes: list[int], steps: int = 200) -> dict[int, float]:
    """Megabytes of the process of a run, by the rows of its data set."""
    problems = [f"{STREAMED}(rows={size},width={WIDTH})" for size in sizes]
    with tempfile.TemporaryDirectory() as out:
        results = bb.run(
            problems, ["bome(lr=0.01,lr_inner=0.0003,lr_y=0.0003)"], seeds=[0], steps=steps, out=out, dtype="float32",
            progress=False,
        )  # fmt: skip
        assert list(results.runs["status"]) == ["done"] * len(sizes), results.runs["reason"]
        held = results.runs.set_index("problem")["process_bytes"] / 2**20
    return {size: float(held[problem]) for size, problem in zip(sizes, problems, strict=True)}


def main() -> None:
    """A line for each figure."""
    torch.set_num_threads(1)
    what, *words = sys.argv[1:]
    if what == "streamed":
        for size, held in streamed([int(float(word)) for word in words] or [10**6, 10**7, 10**8]).items():
            print(f"{size:.0e} rows, {size * (WIDTH + 1) * 8 / 1e9:.3g} GB: {held:.1f} MiB")
        return
    if what == "record":
        problem = build_problem(words[0], Draw(0))
        steps, rounds = int(words[1]) if words[1:] else 60, int(words[2]) if words[2:] else 3
        for solver in RECORDS:
            print(
                f"{words[0]}, {solver}, {steps} steps: record / by hand {of_record(problem, solver, steps, rounds):.2f}"
            )
        return
    rounds = int(words[0]) if words else 7
    for name, made in (("ResNet-18", resnet()), ("transformer", networks.problem("transformer", 10**7, "cpu"))):
        for solver in STEPS:
            ratio = of_step(made, solver, rounds)
            print(f"{name}, n_y {made.y0.numel():.3g}, {solver}: step / by hand {ratio:.3f}", flush=True)
        whole, own = copies(made, STEPS[0])
        print(f"{name}, {STEPS[0]}: {whole:.2f} copies of y, {own:.2f} of them the solver's", flush=True)


if __name__ == "__main__":
    main()
