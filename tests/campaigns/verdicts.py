"""What the verdict says where the truth is known.

    python -m tests.campaigns.verdicts [TRIALS] [RESULTS]

Solvers of which one is twice as cheap, two of one kind, one that is cheaper by a fifth in half of the families; and how
often the 95 % intervals hold the truth. Families, problems and instances have effects of their own. With a folder of
results the same is planted there: two solvers that pay what one of its solvers paid, times noise, on instances drawn
anew; and the verdict on the results themselves under other weights.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from bilevelbench.stats import compare, paired, targets
from bilevelbench.store.frame import load

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


def plant(hit: pd.DataFrame, runs: pd.DataFrame, base: str, case: str, seed: int) -> str:
    """Who is named winner of two solvers that pay what ``base`` did on instances that are drawn anew, times noise."""
    rng = np.random.default_rng(seed)
    own, known = hit[hit["solver"] == base], runs[runs["solver"] == base].set_index(["problem", "seed"])
    places = {family: k for k, family in enumerate(sorted(own["family"].unique()))}
    tables, made = [], []
    for problem, group in own.groupby("problem"):
        seeds = group["seed"].unique()
        for place, drawn in enumerate(rng.choice(seeds, len(seeds))):
            rows = group[group["seed"] == drawn].assign(seed=place)
            budget = known.loc[(problem, drawn), "calls"]
            for k in range(2):
                noise = np.exp(rng.normal(0, 0.3)) / CASES[case](places[rows["family"].iloc[0]], k)
                tables.append(rows.assign(solver=f"s{k}", calls=rows["calls"] * noise))
                made.append((problem, place, f"s{k}", float(budget), bool(known.loc[(problem, drawn), "seeded"])))
    table = pd.concat(tables, ignore_index=True)
    described = pd.DataFrame(made, columns=["problem", "seed", "solver", "calls", "seeded"])
    return paired.standing(paired.Field(table, described, "calls")).winner


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


def real(folder: Path, trials: int) -> None:
    """What is planted in results, and what their verdict hangs on."""
    data = load(folder)
    hit = targets.hits(data.runs, data.looks)
    counts = hit[np.isfinite(hit["calls"])].groupby("solver").size().sort_values()
    for base in counts.index[[-1, len(counts) // 2]]:
        for case in CASES:
            found = Counter(plant(hit, data.runs, str(base), case, k) or "none" for k in range(trials))
            print(f"what {base} paid, {case}: {dict(found)}", flush=True)
    found = compare.compare(data.runs, hit)
    standing = found.standings["calls"]
    print(f"winner: {standing.winner or 'none'}; may lead: {', '.join(standing.among)}")
    hanging = compare.stability(data.runs, hit, found)
    print(f"{hanging.tried} other ways of weighing; another verdict in {len(hanging.otherwise)}: {hanging.otherwise}")


def main() -> None:
    """The tables of all."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    if len(sys.argv) > 2:
        real(Path(sys.argv[2]), trials)
        return
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
