"""A step over the loop that a good user writes by hand (``measure.by_hand``), the same iterates, as a ratio.

Both sides are measured in one process, interleaved, in CPU seconds and by one thread.

    python -m bilevelbench.asv.hand [PROBLEM ...]     a table: solvers by problems, and how far classes lie apart
"""

import sys

import torch

from bilevelbench.asv.command import obeyed
from bilevelbench.asv.names import chosen
from bilevelbench.core.draw import Draw
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.measure.ratio import step_over_floor

PROBLEMS = ["quadratic(d=100)", "hyper_cleaning", "hyper_cleaning(data='mnist')"]
LOOPS = ["bome", "itd", "aid_cg", "aid_neumann", "soba", "penalty", "f2sa", "vpbgd"]
ROUNDS = 21


class Hand:
    """Ratios; lists that only grow, so that asv's indices keep their meaning."""

    params = (chosen(PROBLEMS[:2], PROBLEMS), LOOPS)
    param_names = ("problem", "solver")
    timeout = 600
    version = "1"
    unit = "ratio"

    def setup(self, problem: str, solver: str) -> None:
        if solver not in SOLVERS.names():
            raise NotImplementedError("not in this commit")  # asv's word for n/a
        torch.set_num_threads(1)  # an existing environment does not get the thread counts of asv.conf.json

    def track_step_over_hand(self, problem: str, solver: str) -> float:
        """Seconds of a step over those of the loop by hand."""
        return over_hand(problem, solver)


def over_hand(problem: str, solver: str) -> float:
    """The median over interleaved rounds; fewer where a step takes long."""
    return step_over_floor(
        build_problem(problem, Draw(0)), make_solver(solver), 7 if "mnist" in problem else ROUNDS
    ).median


def main() -> None:
    """Print the table, a line per problem as it is measured."""
    torch.set_num_threads(1)
    print(" ".join(f"{name:>11}" for name in ("", *LOOPS, "apart")))
    for problem in sys.argv[1:] or PROBLEMS:
        found = [over_hand(problem, solver) for solver in LOOPS]
        print(
            f"{problem}\n{'':11}", " ".join(f"{ratio:11.3f}" for ratio in [*found, max(found) - min(found)]), flush=True
        )


if __name__ == "__main__":
    obeyed(main)
