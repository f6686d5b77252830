"""What the verdict says of simulated suites of which the truth is known: python -m tests.campaigns.verdicts [TRIALS]

Solvers of which one is twice as cheap, two of one kind, one that is cheaper by a fifth in half of the families; and how
often the 95 % intervals hold the truth. Families, problems and instances have effects of their own.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pandas as pd
from scipy import stats

from bilevelbench.stats import paired

SIBLING = "test_the_verdict_on_what_was_planted"
BUDGET = 1e4
CASES = {
    "twice as cheap": lambda family, solver: 2.0 if solver == 0 else 1.0,
    "two copies": lambda family, solver: 1.0,
    "1.2 in half": lambda family, solver: 1.2 if solver == 0 and family % 2 == 0 else 1.0,
}


def simulate(case: str, seed: int, families: int = 8, problems: int = 2, seeds: int = 5, targets: int = 6):
    """Targets and runs of two solvers: log-normal costs with effects of the instance, the run and the target; the
    hardest target is missed once in ten times."""
    rng, rows = np.random.default_rng(seed), []
    for f in range(families):
        for p in range(problems):
            for s in range(seeds):
                instance = rng.normal(0, 0.5)
                for k in range(2):
                    own = instance + rng.normal(0, 0.3)
                    cost = 10 * 2.5 ** np.arange(1, targets + 1) * np.exp(own + rng.normal(0, 0.1, targets))
                    cost /= CASES[case](f, k)
                    cost[-1] = np.inf if rng.random() < 0.1 else cost[-1]
                    cost[cost > BUDGET] = np.inf
                    rows += [(f"f{f}", f"p{f}{p}", s, f"s{k}", f"t{t}", c) for t, c in enumerate(cost)]
    hit = pd.DataFrame(rows, columns=["family", "problem", "seed", "solver", "target", "calls"])
    return hit, hit[["problem", "seed", "solver"]].drop_duplicates().assign(calls=BUDGET, seeded=True)


def winner(case: str, seed: int, **sizes: int) -> str:
    """Who is named winner of a simulated suite; '' where nobody is."""
    return paired.standing(paired.Field(*simulate(case, seed, **sizes), "calls")).winner


def _normal(rng, problems, seeds):
    centre = np.linspace(-1, 1, problems)
    return centre[:, None] + rng.normal(0, 0.5, (problems, seeds)), centre.mean()


def _skew(rng, problems, seeds):
    centre = np.linspace(-1, 1, problems)
    return centre[:, None] + rng.exponential(0.5, (problems, seeds)), centre.mean() + 0.5


def _unequal(rng, problems, seeds):
    return rng.normal(0, 1, (problems, seeds)) * np.geomspace(0.01, 1, problems)[:, None], 0.0


def _unsolved(rng, problems, seeds):
    missed = np.where(rng.random((problems, seeds)) < 0.3, np.log(1000) / 6, 0)
    return rng.normal(0, 0.3, (problems, seeds)) + missed, 0.3 * np.log(1000) / 6


def _shares(rng, problems, seeds):
    chance = np.linspace(0.1, 0.9, problems)
    return rng.binomial(6, chance[:, None], (problems, seeds)) / 6, chance.mean()


DRAWS = {"normal": _normal, "skew": _skew, "unequal": _unequal, "unsolved": _unsolved, "shares": _shares}


def coverage(kind: str, problems: int, seeds: int, trials: int) -> float:
    """How often a 95 % interval holds the truth."""
    table = pd.DataFrame([(f"p{p}", s) for p in range(problems) for s in range(seeds)], columns=["problem", "seed"])
    weight, held = np.full(len(table), 1 / len(table)), 0
    whole = paired.Instances(table.assign(family="f", fixed=False), weight)
    for seed in range(trials):
        values, truth = DRAWS[kind](np.random.default_rng(seed), problems, seeds)
        _, low, high = whole.mean(values.ravel())
        held += low <= truth <= high
    return held / trials


def band(share: float, trials: int) -> tuple[float, float]:
    """Wilson's 99.9 % interval of a share."""
    found = stats.binomtest(round(share * trials), trials).proportion_ci(0.999, "wilson")
    return found.low, found.high


def main() -> None:
    """The tables of both."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for seeds in (5, 20):
        for case in CASES:
            found = Counter(winner(case, k, seeds=seeds) or "none" for k in range(trials))
            print(f"{seeds} instances, {case}: {dict(found)}", flush=True)
    for problems in (1, 4, 16):
        for seeds in (5, 20):
            found = {kind: round(coverage(kind, problems, seeds, 20 * trials), 3) for kind in DRAWS}
            print(f"coverage, {problems} problems of {seeds} instances: {found}", flush=True)


if __name__ == "__main__":
    main()
