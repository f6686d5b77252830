"""Tuning: where it looks, what it chooses, what it keeps; and that the shipped suites are what their grids lead to."""

import json
import math
import os
import re
import threading
import time
import tomllib
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevelbench.api.prepare import Comparison
from bilevelbench.api.tune import tune as tune_
from bilevelbench.core.errors import RequestError
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import check_attributes
from bilevelbench.core.space import Axis
from bilevelbench.core.spec import parse
from bilevelbench.measure.budget import Budget, Used, looks
from bilevelbench.measure.plan import Plan as Judging
from bilevelbench.measure.plan import planned
from bilevelbench.run import score, tune
from bilevelbench.run import scores as kept
from bilevelbench.run.choices import Found, suite_text
from bilevelbench.run.grid import Part, Plan, read_grid
from bilevelbench.run.lattice import Grid, Lattice
from bilevelbench.run.plan import expand
from bilevelbench.run.score import outcome, survey
from bilevelbench.run.search import MORE, search
from bilevelbench.run.suite import SUITES, Block, Suite, load_suite
from bilevelbench.run.worth import aims, cost

from .results_factory import write_run
from .test_cli import here

STEP, T = Grid("lr", 1.0, 2.0), Grid("T", 5, 4.0, whole=True, low=1)
TUNED = ["reference", "stochastic", "methods", "scale", "constrained", "closed-form", "deep", "learning", "traps"]


class Threadless:
    """Stands for a pool of processes: calls at once, in this one."""

    def __init__(self, *arguments, **named):
        self._processes = {}

    def submit(self, call, *arguments):
        future = kept.Future()
        future.set_result(call(*arguments))
        return future

    def map(self, call, several):
        return map(call, several)

    def shutdown(self, **named):
        pass


@pytest.fixture
def inside(monkeypatch):
    monkeypatch.setattr(kept, "ProcessPoolExecutor", Threadless)


def sought(score, lattice=None, configs=24, seeds=(0, 1, 2)):
    """What a search leads to where a configuration is worth ``score(knobs, seed)``."""
    lattice = lattice or Lattice("x", (STEP,), {})
    steps = search(lattice, configs, seeds)
    asked = next(steps)
    try:
        while True:
            asked = steps.send([score(lattice.knobs(point), seed) for point, seed in asked])
    except StopIteration as end:
        return end.value, lattice.knobs(end.value.point)


@given(best=st.integers(-50, 50))
@settings(max_examples=25, deadline=None)
def test_a_best_step_outside_of_the_first_grid_is_found(best):
    far = abs(best) > 3 * MORE + 9 + 3 * 10
    choice, knobs = sought(lambda knobs, seed: 1 / (1 + abs(math.log2(knobs["lr"]) - best)), configs=24)
    assert abs(math.log2(knobs["lr"]) - best) < 1e-2 or far
    assert not choice.edges or far


def test_a_knife_edge_loses_to_what_is_robust():
    def score(knobs, seed):
        k = round(math.log2(knobs["lr"]))
        return 1.0 if k == 3 else 0.8 if -6 <= k <= -2 else 0.0

    choice, knobs = sought(score)
    assert choice.scores[(3,), 0] == 1.0
    assert -5 <= math.log2(knobs["lr"]) <= -3


def test_what_is_good_on_one_instance_alone_loses_on_the_others():
    def score(knobs, seed):
        k = round(math.log2(knobs["lr"]))
        return {0: 0.9, 3: 0.8}.get(3 * round(k / 3), 0.0) if seed == 0 else float(2 <= k <= 4)

    assert abs(math.log2(sought(score)[1]["lr"]) - 3) < 1.5


@given(
    peak=st.tuples(st.integers(-12, 12), st.integers(0, 3)), slope=st.floats(0.1, 2),
    unset=st.booleans(), configs=st.integers(14, 40),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_all_have_the_same_number_of_configurations_but_for_those_beyond_an_edge(peak, slope, unset, configs):
    lattice = Lattice("x", (STEP, T, Grid("lr_y", 1.0, 4.0, unset=unset)), {})

    def score(knobs, seed):
        away = abs(math.log2(knobs["lr"]) - peak[0]) + abs(math.log(knobs["T"] / 5, 4) - peak[1])
        return math.exp(-slope * away)

    choice, _ = sought(score, lattice, configs)
    assert configs <= choice.tried <= configs + MORE
    assert len({point for point, seed in choice.scores if seed == 0}) == choice.tried


def test_where_no_number_of_configurations_is_enough_the_edge_is_named():
    choice, _ = sought(lambda knobs, seed: math.atan(math.log2(knobs["lr"])) + 2, configs=12)
    assert choice.edges == ("lr",)
    lattice = Lattice("x", (STEP, T), {})
    choice, knobs = sought(lambda knobs, seed: math.log(knobs["T"]) / (1 + abs(math.log2(knobs["lr"]))), lattice, 12)
    assert "T" in choice.edges, knobs
    choice, knobs = sought(lambda knobs, seed: 1 / knobs["T"], lattice, configs=24)
    assert (choice.edges, knobs["T"]) == ((), 1), "there is no T below 1"


def test_a_target_counts_where_it_is_held():
    looks = [{"phi_gap": value} for value in (1.0, 0.05, 0.3, 0.09, 0.19, 0.01)]
    first, second, *_ = aims(looks, {})
    assert cost(first, range(6)) == 3, "at 1 it was passed through, and at 4 it is within twice the target"
    assert cost(second, range(6)) == 5
    assert aims([{"phi_gap": 0.0}, {"phi_gap": 0.0}], {}) == [], "a start at the optimum gives nothing to anybody"
    unjudged = [{"phi_gap": 1.0}, {"phi_gap": 0.05}, {}, {"phi_gap": 0.05}]
    assert cost(aims(unjudged, {})[0], range(4)) == 1, "what could not be judged says nothing against it"
    figure = [{"accuracy": value} for value in (0.5, 0.91, 0.72, 0.69, 0.9)]
    (own,) = aims(figure, {"accuracy": (0.9, "higher", "target")})
    assert cost(own, range(5)) == 4, "at 3 it was more than half of the way back"


def test_failed_configurations_score_nothing_and_the_better_step_more():
    def worth(lr):
        return outcome("quadratic(d=3)", f"itd(lr={lr},lr_inner=1.0)", 1000, {"calls": 500})

    assert (worth(1e9)["score"], worth(1e9)["status"]) == (0.0, "diverged")
    slow, fast = worth(1e-6), worth(0.02)
    assert 0 < slow["score"] < 0.2 < fast["score"] < 1
    assert (slow["share"], slow["cost"]) == (0, math.inf)
    assert fast["share"] > 0.3


def test_a_solver_says_where_it_is_tuned_and_what_is_given_is_kept():
    axes = {name: rest for name, *rest in survey("quadratic(d=3)", "bome(T=3)", 0)["axes"]}
    assert list(axes) == ["lr", "lr_y"]
    assert axes["lr_y"][-1], "leaving it out is tried, too"
    assert survey("simplex_projection", "bome", 0)["unsupported"]
    still = survey("quadratic(d=3)", "lower_only", 0)
    assert (still["axes"], list(still["fixed"])) == ([], ["lr_inner", "T"])
    with pytest.raises(RequestError, match="no knob"):
        survey("quadratic", "bome(K=3)", 0)


@pytest.mark.parametrize("name", SOLVERS.names())
def test_every_solver_s_grids_are_of_values_that_it_takes(name):
    space = SOLVERS.entries[name].make.space
    assert all(axis is None or isinstance(axis, Axis) for axis in space.values())
    found = survey("box_quadratic(d=2)" if name in ("bic_gaffa", "lv_hba") else "finite_sum_quadratic(d=3)", name, 0)
    lattice = Lattice(name, tuple(Grid(*axis) for axis in found["axes"]), found["fixed"])
    for start in lattice.starts():
        SOLVERS.entries[name].make(**lattice.knobs(start))


PLAN = Plan(
    (Part(("quadratic(d=3)", "quadratic(d=4)"), ("itd(T=2)", "lower_only"), (("calls", 30),), suite={"calls": 90}),),
    12,
    (7, 8),
)


def test_a_tuning_that_was_interrupted_goes_on_and_changed_code_is_scored_anew(inside, tmp_path, monkeypatch):
    path = tmp_path / "scores"
    with kept.Scores(path, 1) as scores:
        whole, made = tune.tuned(PLAN, scores), scores.made
    lines = path.read_text(encoding="utf-8").splitlines()
    assert made == len(lines) > 2 * 12
    path.write_text("\n".join(lines[:20]) + '\n{"task": ["quad', encoding="utf-8")
    with kept.Scores(path, 1) as scores:
        again = tune.tuned(PLAN, scores)
    assert scores.made == made - 20
    assert [one.solver for one in again.values()] == [one.solver for one in whole.values()]
    changed = lambda asked: {**kept._called(asked), **({"code": "other"} if asked[0] == "survey" else {})}  # noqa: E731
    monkeypatch.setattr(Threadless, "map", lambda self, call, several: map(changed, several))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with kept.Scores(path, 1) as scores:
        tune.tuned(PLAN, scores)
    assert scores.made == made


HANGS = """
import time
from bilevelbench import Point, solver

@solver("sleepy")
class Sleepy:
    lr: float = 1.0

    def step(self, o, s):
        while self.lr > 1:
            time.sleep(1)
        return Point(s.x, s.y - 0.1 * o.dg_y(s.x, s.y))
"""


@pytest.fixture
def slow_to_note(monkeypatch):
    """A pool's own thread, which waits for its processes as this one does, is slow to note how one ended."""
    told = os.waitpid

    def waitpid(*arguments):
        found = told(*arguments)
        if found[0] and threading.current_thread() is not threading.main_thread():
            time.sleep(0.5)
        return found

    monkeypatch.setattr(os, "waitpid", waitpid)


def test_a_configuration_that_hangs_is_given_up(tmp_path, slow_to_note):
    (tmp_path / "sleepy.py").write_text(HANGS)
    tasks = [
        kept.Task("quadratic(d=3)", f"{tmp_path}/sleepy.py(lr={lr})", 0, (("calls", 20),), "") for lr in (2.0, 1.0)
    ]

    def search():
        yield tasks

    with kept.Scores(None, 1, timeout=20.0) as scores:  # of the wall, in which a busy machine must import torch
        scores.drive({"one": search()}, lambda name, found: None)
        assert [scores[task]["status"] for task in tasks] == ["timeout", "done"]


MISSES = """
import os, pathlib
from bilevelbench import problem

@problem("missing")
def missing(d: int = 1):
    begun = pathlib.Path(__file__).with_suffix(".begun")
    if begun.exists():
        raise OSError("no data here")
    begun.touch()
    os._exit(3)
"""


def test_what_a_problem_says_is_heard_in_the_process_of_a_second_try_as_well(tmp_path):
    (tmp_path / "misses.py").write_text(MISSES)
    task = kept.Task(f"{tmp_path}/misses.py", "first_order(lr=1.0)", 0, (("calls", 20),), "")

    def search():
        yield [task]

    with kept.Scores(None, 1) as scores, pytest.raises(RequestError, match="cannot be tuned: OSError: no data here"):
        scores.drive({"one": search()}, lambda name, found: None)


def test_a_changed_file_has_another_code(tmp_path):
    source = (SOLVERS.entries["first_order"].file).read_text().replace('"first_order"', '"lonely"')
    (tmp_path / "lonely.py").write_text(source)
    (tmp_path / "other.py").write_text(source.replace('"lonely"', '"lonelier"'))
    codes = [survey("quadratic(d=3)", f"{tmp_path}/{name}.py", 0)["code"] for name in ("lonely", "lonely", "other")]
    assert codes[0] == codes[1] != codes[2]


def test_a_suite_is_written_that_says_how_it_was_tuned(inside, tmp_path):
    with kept.Scores(None, 1) as scores:
        found = tune.tuned(PLAN, scores)
    first, *_ = found.values()
    first.edges = ("lr",)
    (tmp_path / "made.toml").write_text(suite_text(PLAN, found, "a command"), encoding="utf-8")
    suite = load_suite(str(tmp_path / "made.toml"))
    assert [block.problems for block in suite.blocks] == [("quadratic(d=3)",), ("quadratic(d=4)",)]
    tuned, still = suite.blocks[0].solvers
    assert parse(tuned).arguments["T"] == 2
    assert [suite.blocks[0].is_tuned(solver) for solver in (tuned, still)] == ["edge", True]
    joined = SimpleNamespace(**vars(suite.blocks[0]) | {"joined": (still,)})
    assert not type(suite.blocks[0]).is_tuned(joined, still)


def test_solvers_that_join_are_tuned_as_the_suite_s_own(inside, tmp_path):
    text = '[[block]]\nproblems = ["quadratic(d=3)", "quadratic(d=4)"]\nsolvers = ["bome"]\ncalls = 90\nseeds = "0"\n'
    (tmp_path / "own.toml").write_text(text + 'tuned = { configs = 13, calls = 30, seeds = "5" }\n', encoding="utf-8")
    suite = load_suite(str(tmp_path / "own.toml"))
    suite = tune.replace(
        suite, blocks=tuple(tune.replace(b, solvers=("bome", "itd"), joined=("itd",)) for b in suite.blocks)
    )
    plans = []

    def make(plan):
        plans.append(plan)
        with kept.Scores(None, 1) as scores:
            return tune.tuned(plan, scores)

    made = tune.with_tuned(suite, ["itd"], make)
    assert (plans[0].configs, plans[0].seeds, plans[0].parts[0].limits) == (13, (5,), (("calls", 30),))
    assert [block.problems for block in made.blocks] == [("quadratic(d=3)",), ("quadratic(d=4)",)]
    assert all(block.solvers[0] == "bome" and "itd(lr=" in block.solvers[1] for block in made.blocks)
    assert all(block.is_tuned(solver) for block in made.blocks for solver in block.solvers)
    untuned = tune.replace(suite, blocks=tuple(tune.replace(block, tuned={}) for block in suite.blocks))
    chosen = Found("itd(lr=1.0)", (), 16, 0.5, 0.0)
    found = tune.with_tuned(
        untuned, ["itd"], lambda plan: {(i, p.problems[0], "itd"): chosen for i, p in enumerate(plan.parts)}
    ).blocks[0]
    assert found.is_tuned("bome") is False


GRID = '[[block]]\nproblems = ["quadratic(d=3)"]\nsolvers = ["itd"]\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no [[block]]"),
        (GRID + "call = 3\n", "has a wrong key 'call'; did you mean calls"),
        ("configs = 3\n" + GRID, "configs 3 is not valid; a search needs at least 12"),
        (GRID + 'suite = { seeds = "1001" }\n', "seed 1001 is both tuned on and used by the suite"),
        ('[[block]]\nproblems = ["quadratic"]\n', "a grid names at least one problem and one solver"),
        ("block = 3\n", "block = 3 is not valid; it takes a list of tables, each under [[block]]"),
    ],
)
def test_a_wrong_grid_is_one_sentence(text, words, tmp_path):
    (tmp_path / "grid.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=re.escape(words)):
        read_grid(tmp_path / "grid.toml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("tune", "tune takes problems with solvers (-s), or a grid file"),
        ("tune quadratic", "tune takes problems with solvers (-s), or a grid file"),
        ("tune grid.toml -s bome", "says what is tuned and how; give it alone"),
        ("tune grid.toml", "the grid grid.toml cannot be read"),
        ("tune quadratic -s bome -o out.txt", "out out.txt is no suite; name a file that ends in .toml"),
        ("tune quadratic -s bome -o there.toml", "was not made by `tune`; name another file"),
        ("tune quadratic -s bome --configs 3", "configs 3 is not valid"),
        ("tune quadratic -s bome --scores there.toml", "there.toml, line 1: no score"),
        ("run -p quadratic -s bome(T=3) --tune", "tune has no solver without settings to tune; name one (-s)"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, tmp_path, monkeypatch, capfd):
    (tmp_path / "there.toml").write_text("mine\nmine\n")
    code, _, error = here(arguments.split(), tmp_path, monkeypatch, capfd)
    assert code == 2
    assert words in error
    assert error.count("\n") == 1


def test_a_solver_that_ends_its_process_scores_nothing(tmp_path, monkeypatch):
    ends = (
        "import os\nfrom bilevelbench import Oracle, Outer, Point, solver\n\n@solver('ends')\nclass Ends(Outer):\n"
        "    def step(self, o, s):\n        os._exit(3) if self.lr > 1 else None\n        return s\n"
    )
    (tmp_path / "ends.py").write_text(ends)
    monkeypatch.setattr(kept, "get_context", lambda way: get_context("fork"))  # which saves many imports of torch
    (found,) = tune_("quadratic(d=3)", str(tmp_path / "ends.py"), configs=12, calls=20, seeds=5, progress=False)
    assert parse(found.solver).arguments["lr"] <= 1


def test_a_grid_s_solvers_stand_for_all_but_those_without(tmp_path):
    text = 'solvers = ["itd", "bome"]\n[[block]]\nproblems = ["quadratic"]\nwithout = ["bome"]\nrows = 500\n'
    (tmp_path / "grid.toml").write_text(text)
    (part,) = read_grid(tmp_path / "grid.toml").parts
    assert (part.solvers, part.limits) == (("itd",), (("rows", 500),))
    assert part.suite == {"seeds": "0-4", "rows": 2500}


def names():
    return sorted(path.name.removesuffix(".toml") for path in (SUITES / "grids").iterdir())


@pytest.mark.parametrize("name", names())
def test_a_suite_is_what_its_grid_leads_to(name):
    content, suite = (SUITES / "grids" / f"{name}.toml").read_text(encoding="utf-8"), load_suite(name)
    plan = read_grid(SUITES / "grids" / f"{name}.toml")
    parts = [(part, problem) for part in plan.parts for problem in part.problems]
    assert tomllib.loads(content)["about"] == suite.about
    own = suite.blocks[sum(len(load_suite(part).blocks) for part in plan.include) :]
    assert not any(block.tuned for block in own[len(parts) :]), "what no grid leads to says that it is not tuned"
    for (part, problem), block in zip(parts, own[: len(parts)], strict=True):
        assert block.problems == (problem, *part.also)
        assert block.tuned
        assert not {*plan.seeds} & {*block.seeds}
        for asked, chosen in zip(part.solvers, block.solvers, strict=True):
            given, found = parse(asked), parse(chosen)
            assert given.name == found.name
            assert found.arguments | given.arguments == found.arguments


@pytest.mark.parametrize("name", TUNED)
def test_what_came_of_the_steps_is_kept_for_every_choice(name):
    lines = (SUITES / "scores" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    told = {(said["problem"], said["solver"]): said for said in map(json.loads, lines)}
    for block in load_suite(name).blocks:
        for solver in block.solvers:
            said = told.get((block.problems[0], solver))
            if said is not None:
                assert sum(step["chosen"] for step in said["steps"]) == 1
                assert (solver in block.tuned.get("edges", {})) == bool(said["edges"])
                assert said["configs"] >= block.tuned["configs"]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"lam": Axis(1.0)}, "space has 'lam'"),
        ({"lr": Axis(-1.0)}, "is not valid; it takes an Axis"),
        ({"lr": 3.0}, "is not valid; it takes an Axis"),
        ([], "space = [] is not valid; it takes knobs with an Axis each"),
    ],
)
def test_a_wrong_space_is_one_sentence(space, words):
    made = SOLVERS.entries["itd"].make
    wrong = type("Wrong", (made,), {"space": space})()
    with pytest.raises(RequestError, match=re.escape(words)):
        check_attributes(wrong)


@given(limit=st.integers(1, 10**6), price=st.integers(1, 1000))
@settings(deadline=None)
def test_rows_are_not_exceeded_after_the_first_step(limit, price):
    budget, step, schedule = Budget(rows=limit), 0, looks()
    while not budget.spent(step, Used(rows=price * step)):
        step = min(next(schedule), step + budget.room(step, Used(rows=price * step)))
    assert step == max(1, limit // price)


def test_a_run_ends_by_its_rows_and_its_key_says_so(tmp_path):
    block = Block(("finite_sum_quadratic(d=3,n=64,m=64)",), ("soba(batch=8)",), rows=640)
    (job,) = expand(Suite("", "", (block,)), tmp_path)
    assert job.key.as_json()["rows"] == 640
    (without,) = expand(Suite("", "", (tune.replace(block, rows=None, steps=3),)), tmp_path)
    assert "rows" not in without.key.as_json(), "keys from before there were rows keep their digest"
    found = outcome(block.problems[0], block.solvers[0], 0, {"rows": 640})
    assert found["status"] == "done"


@pytest.mark.parametrize(
    ("status", "fault", "good"),
    [("done", "", True), ("diverged", "solver", True), ("error", "solver", False), ("timeout", "solver", False),
     ("lost", "machine", False), ("diverged", "problem", False)],
)  # fmt: skip
def test_a_solver_that_diverges_is_a_finding_and_no_failure_of_the_command(tmp_path, status, fault, good):
    path = write_run(tmp_path, status=status, fault=fault)
    job = SimpleNamespace(published=lambda there: path)
    assert Comparison.good(SimpleNamespace(jobs=[job], out=tmp_path)) is good


def test_a_grid_s_judge_is_that_of_its_runs(inside, tmp_path):
    """By own figures alone: no Phi is asked for, and the scores are kept as such."""
    part = Part(("policy",), ("itd(T=2)",), (("calls", 30),), suite={"seeds": "0", "judge": "figures"})
    with kept.Scores(tmp_path / "scores", 1) as scores:
        tune.tuned(Plan((part,), 12, (7, 8)), scores)
        assert {task.judge for task in scores._known} == {"figures"}
    with kept.Scores(tmp_path / "scores", 1) as again:
        assert again._known == scores._known
    plan = score._at_doublings(planned(score._instance("policy", 7).problem, Budget(calls=30), "figures"))
    begun = score._Begun("policy", 7, plan)
    assert "phi" not in begun._metrics
    assert "figures" in begun.unjudged


def test_the_start_of_an_instance_is_judged_once_and_says_the_same(monkeypatch):
    """Scores of runs that share a start are those of runs that do not."""
    asked = [("fair", solver, 1000, {"calls": 60}) for solver in ("itd(lr=1.0,T=5)", "bome(lr=1.0,lr_inner=0.1)")]
    score._start.cache_clear()
    shared = [outcome(*one) for one in asked]
    assert score._start.cache_info().misses == 1
    monkeypatch.setattr(score, "_start", score._start.__wrapped__)
    assert [one | {"cpu": 0} for one in shared] == [outcome(*one) | {"cpu": 0} for one in asked]


def test_a_solver_that_begins_elsewhere_is_judged_there():
    plan = Judging()
    begun = score._Begun("fair", 1000, plan)
    problem = begun._judge.problem
    elsewhere = problem.y0 + 1.0
    assert begun(problem.x0, elsewhere, 0, False)["f"] == pytest.approx(float(problem.f(problem.x0, elsewhere)))
    assert begun._judge is not score._start("fair", 1000, plan)[0]
