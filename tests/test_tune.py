"""Choosing step sizes: what is tried, what is kept, and that the shipped suites are what their grids lead to."""

import json
import math
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest

from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.trace import trace
from bilevelbench.run import tune
from bilevelbench.run.suite import SUITES, load_suite

GRIDS = sorted(path.name.removesuffix(".toml") for path in (SUITES / "grids").iterdir())
GRID = {
    "about": "a grid",
    "seed": 7,
    "solver": {"itd": {"T": [1, 2]}, "penalty": {"T": [1], "lr_inner": ["0.5", 0.1]}},
    "problem": [
        {
            "spec": ["quadratic(d=3)", "quadratic(d=4)"], "also": ["quadratic(d=5)"], "lr": [0.1, 1e9], "lr_inner": 0.4,
            "calls": 40, "suite": {"seeds": "0", "calls": 80}, "solvers": ["itd", "penalty"],
        }
    ],
}  # fmt: skip


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.setattr(tune, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(1))


@pytest.mark.parametrize("name", GRIDS)
def test_a_suite_is_what_its_grid_leads_to(name):
    grid, suite = tomllib.loads((SUITES / "grids" / f"{name}.toml").read_text(encoding="utf-8")), load_suite(name)
    parts = list(tune._parts(grid))
    assert len(parts) == len(suite.blocks)
    for (problem, text, tried), block in zip(parts, suite.blocks, strict=True):
        assert block.problems == (text, *problem.get("also", []))
        assert len(block.solvers) == len(tried)
        for chosen, specs in zip(block.solvers, tried.values(), strict=True):
            assert chosen in [str(spec) for spec in specs]
        assert grid["seed"] not in block.seeds
        steps = {len(specs) for solver, specs in tried.items() if solver != "lower_only"}
        assert len(steps) == 1, "every solver has the same number of configurations"


def test_a_value_in_quotes_is_a_multiple_of_the_lower_step():
    specs = tune.configurations("penalty", {"T": [1], "lr_inner": ["0.5", 0.1]}, [1.0, 2.0], 0.4)
    assert [spec.arguments["lr_inner"] for spec in specs] == [0.2, 0.1, 0.2, 0.1]
    assert [spec.arguments["lr"] for spec in specs] == [1.0, 1.0, 2.0, 2.0]
    longer = tune.configurations("vpbgd", {"lr_times": 10.0, "gamma": [30.0]}, [0.1, 0.3], 0.4)
    assert [spec.arguments["lr"] for spec in longer] == [1.0, 3.0]


def test_each_problem_has_its_block_and_a_diverging_step_is_not_chosen(threads, tmp_path):
    (tmp_path / "made.toml").write_text(tune.tune(GRID, 1), encoding="utf-8")
    suite = load_suite(str(tmp_path / "made.toml"))
    assert [block.problems[0] for block in suite.blocks] == ["quadratic(d=3)", "quadratic(d=4)"]
    assert all(block.problems[1] == "quadratic(d=5)" for block in suite.blocks)
    assert all("lr=0.1" in solver for block in suite.blocks for solver in block.solvers)


def test_a_tuning_that_was_interrupted_goes_on(threads, tmp_path, monkeypatch):
    path = tmp_path / "scores"
    whole = tune.tune(GRID, 1, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 16
    path.write_text("\n".join(lines[:11]) + "\n", encoding="utf-8")
    made = []
    monkeypatch.setattr(tune, "_score", lambda task, score=tune._score: made.append(task) or score(task))
    assert tune.tune(GRID, 1, path) == whole
    assert made == [tuple(json.loads(line)[:-1]) for line in lines[11:]]


def test_the_last_two_iterates_are_those_of_a_run():
    problem, solver = build_problem("quadratic(d=3)", Draw(0)), make_solver("itd(lr=0.1,T=3)")
    *_, row = trace(problem, solver, 0, Budget(calls=100), lambda x, y, *look: {}, Stopwatch(lambda: None), True)
    *_, after = trace(
        problem, solver, 0, Budget(steps=row.step + 1), lambda x, y, *look: {}, Stopwatch(lambda: None), True
    )
    assert [x.tolist() for x, _ in tune.last_two(problem, solver, 0, 100)] == [row.x, after.x]


def test_what_cannot_run_has_no_score_and_a_wrong_grid_is_said():
    assert tune.final_phi("simplex_projection", "bome", 0, 50) == math.inf
    with pytest.raises(RequestError, match="no knob"):
        tune.final_phi("quadratic", "bome(K=3)", 0, 50)
