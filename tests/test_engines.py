"""The engines: all give the numbers and the counts of the eager one, or say why they cannot."""

import dataclasses
import math

import pytest
import torch
from torch.utils._pytree import tree_leaves

from bilevelbench.asv import with_compiler
from bilevelbench.asv.with_compiler import over_eager
from bilevelbench.cli import cli
from bilevelbench.contract.quadratic import finite_sum, quadratic
from bilevelbench.core import derive, engines, functional
from bilevelbench.core.answers import Answers
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.problem import Problem
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point, require, start
from bilevelbench.core.spec import missing
from bilevelbench.core.traced import Traced
from bilevelbench.measure.audit import replay
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.marks import Marks
from bilevelbench.measure.trace import trace
from bilevelbench.measure.windows import windows
from bilevelbench.run import batched, strided
from bilevelbench.run.batched import execute_together, trace_together
from bilevelbench.run.passes import together as together_jobs
from bilevelbench.run.plan import expand
from bilevelbench.run.suite import Block, Suite
from bilevelbench.run.worker import execute
from bilevelbench.store.journal import read

NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]
WITH_JAX = pytest.mark.skipif(bool(missing("jax")), reason="the extra jax is not installed: .ci/nightly has it")
SMALL = {"T": 2, "K": 2, "Q": 2}


def small(name):
    """The solver with few inner steps, so that its graph is small."""
    fields = {field.name for field in dataclasses.fields(SOLVERS.entries[name].make)}
    return make_solver(f"{name}({','.join(f'{k}={v}' for k, v in SMALL.items() if k in fields)})")


def steps(solver, problem, n=3, seed=0, derivatives=None):
    oracle = Oracle(problem, seed, *([] if derivatives is None else [derivatives]))
    state = start(solver, problem, oracle)
    for k in range(n):
        oracle.begin(k)
        state = solver.step(oracle, state)
    return state, oracle


def assert_same(one, other, tolerance=1e-12):
    for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True):
        if isinstance(b, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        else:
            assert a == b


TOY = "bounded_sine"  # bounds on both levels, and not quadratic


def problems():
    return {"quadratic": finite_sum(quadratic(3, 3, 3.0)), TOY: build_problem(TOY, Draw(0))}


@pytest.mark.parametrize("name", NAMES)
def test_functional_equals_eager(name):
    solver = small(name)
    for where, problem in problems().items():
        try:
            require(solver, problem)
        except Unsupported:
            assert where == TOY
            continue
        eager, counted = steps(solver, problem)
        other, again = steps(solver, problem, derivatives=functional)
        assert_same(other, eager)
        assert (again.calls, again.rows) == (counted.calls, counted.rows)


UNRECORDED = {
    "iaptt": "decides in Python by the value of a tensor",  # where the lower loop is cut depends on the values of f
    "nystrom": "makes a tensor of numbers that it draws",  # the columns
}


@pytest.mark.parametrize("name", NAMES)
def test_graphs_equal_eager(name):
    """A recorded step is the eager step; compiling it is torch's affair."""
    solver, problem = small(name), finite_sum(quadratic(3, 3, 3.0))
    eager, counted = steps(solver, problem)
    driven = Traced(solver, problem, lambda recording: recording.graph)
    if name in UNRECORDED:
        with pytest.raises(Unsupported, match=UNRECORDED[name]):
            steps(driven, problem)
        return
    graph, again = steps(driven, problem)
    assert_same(graph, eager)
    assert (again.calls, again.rows) == (counted.calls, counted.rows)


# -- what is not a tensor


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("soba(decay=0.5)", 1),
        ("bome(T=1,update='adam')", 1),
        ("f2sa(T=1,growth=0.3)", 1),
        ("vpbgd(ramp=3)", 2),  # min(1, (k + 1) / ramp) is decided by Python
        ("soba(batch=2)", 1),
        ("srba(batch=2,period=3)", 2),  # every third step takes all rows
    ],
)
def test_numbers_and_draws_are_inputs_of_a_graph(text, ways):
    """The count of steps and the minibatch change at every step, and nothing is recorded anew for them."""
    solver, problem = make_solver(text), finite_sum(quadratic(3, 3, 3.0))
    recordings = []
    driven = Traced(solver, problem, lambda recording: recordings.append(recording) or recording.graph)
    eager, counted = steps(solver, problem, n=7, seed=3)
    graph, again = steps(driven, problem, n=7, seed=3)
    assert_same(graph, eager)
    assert (again.calls, again.rows) == (counted.calls, counted.rows)
    assert len(recordings) == ways


class Mixed:
    """All rows of f and a minibatch of g."""

    name, size = "mixed", 2

    def init(self, o, x, y):
        return Point(x, y)

    def step(self, o, s):
        x, y = s
        return Point(x - 0.1 * o.df_x(x, y, o.draw_f(None)), y - 0.1 * o.dg_y(x, y, o.draw_g(self.size)))


def test_all_rows_are_no_input_of_a_graph():
    problem, recordings = finite_sum(quadratic(3, 3, 3.0)), []
    driven = Traced(Mixed(), problem, lambda recording: recordings.append(recording) or recording.graph)
    eager, counted = steps(Mixed(), problem)
    graph, again = steps(driven, problem)
    assert_same(graph, eager)
    assert (again.calls, again.rows) == (counted.calls, counted.rows)
    assert [feed.method for feed in recordings[0].feeds] == ["draw_g"]


def test_batched_seeds_are_asked_for_all_rows_together():
    draws = [Draw(seed) for seed in (0, 1)]
    problems = [build_problem("finite_sum_quadratic(n=12,m=10,d=3,d_x=2)", rng) for rng in draws]
    judges = [lambda x, y, *look: {}] * 2
    looks = trace_together(problems, [rng.data for rng in draws], Mixed(), [0, 1], Budget(steps=3), judges, True)
    for i, row in enumerate(list(looks)[-1]):
        oracle, state = Oracle(problems[i], i), Point(problems[i].x0, problems[i].y0)
        for k in range(3):
            oracle.begin(k)
            state = Mixed().step(oracle, state)
        assert (row.status, row.calls, row.rows) == ("done", oracle.calls, oracle.rows)
        assert row.x == pytest.approx(state.x.tolist(), rel=1e-9)
        assert row.y == pytest.approx(state.y.tolist(), rel=1e-9)


def test_a_batched_run_is_audited_like_any_other(tmp_path):
    """A window of one seed, made again alone and eagerly; another solver, or another seed, would be found."""
    spec, seeds = "finite_sum_quadratic(n=12,m=10,d=3,d_x=2)", [3, 4, 5]
    draws = [Draw(seed) for seed in seeds]
    problems, judges = [build_problem(spec, rng) for rng in draws], [lambda x, y: {}] * 3
    data, solver = [rng.data for rng in draws], make_solver("soba(batch=2)")
    list(
        trace_together(problems, data, solver, seeds, Budget(steps=8), judges, False, marks=Marks(tmp_path), audited=1)
    )

    def audit(seed, knobs):
        rng = Draw(seed)
        return replay(
            build_problem(spec, rng), make_solver(knobs), seed, tmp_path, windows(tmp_path)[-1], rng.data, True
        )

    assert audit(4, "soba(batch=2)")["ok"]
    assert "ends elsewhere" in audit(4, "soba(batch=2,lr=0.02)")["reason"]
    assert not audit(5, "soba(batch=2)")["ok"]
    assert "rows" in audit(4, "soba(batch=3)")["reason"]


def test_a_graph_in_float32_stays_in_float32():
    problem = build_problem("quadratic(d=3)", Draw(0, dtype=torch.float32))
    solver = make_solver("soba(decay=0.5)")
    graph, _ = steps(Traced(solver, problem, lambda recording: recording.graph), problem)
    assert {leaf.dtype for leaf in tree_leaves(graph) if isinstance(leaf, torch.Tensor)} == {torch.float32}
    assert_same(graph, steps(solver, problem)[0], 1e-5)


class Floats:
    """A solver that freezes the count of its steps."""

    name = "floats"

    def step(self, o, s):
        return Point(s.x - math.sqrt(1 + s.y) * o.df_x(s.x, s.x), s.y + 1)


def test_what_would_be_frozen_is_refused():
    problem = finite_sum(quadratic(3, 3, 3.0))
    driven = Traced(Floats(), problem, lambda recording: recording.graph)
    with pytest.raises(Unsupported, match="Python float"):
        driven.step(Oracle(problem), Point(problem.x0, 1))


# -- which engine


def test_unknown_engines_are_refused_with_the_nearest():
    with pytest.raises(RequestError, match=r"no engine 'compild'; did you mean compiled or compiled_oracle\?"):
        Block(("quadratic",), ("bome",), steps=1, engine="compild")
    with pytest.raises(RequestError, match="no seconds of their own"):
        Block(("quadratic",), ("bome",), seconds=1.0, engine="batched")


def test_a_cuda_graph_needs_a_device():
    problem = finite_sum(quadratic(3, 3, 3.0))
    with pytest.raises(Unsupported, match="needs a CUDA device, and this run is on cpu"):
        engines.driven("cuda_graph", make_solver("bome"), problem)


# -- all seeds at once


def together(problem, solver, seeds, **limits):
    draws = [Draw(seed) for seed in seeds]
    made = [build_problem(problem, rng) for rng in draws]
    looks = trace_together(
        made, [rng.data for rng in draws], make_solver(solver), seeds, Budget(**limits), [Judge(p) for p in made], True
    )
    rows = zip(*looks, strict=True)
    return [[row for row in mine if row is not None] for mine in rows]


def alone(problem, solver, seed, **limits):
    made = build_problem(problem, Draw(seed))
    watch = Stopwatch(lambda: None)
    return list(trace(made, make_solver(solver), seed, Budget(**limits), Judge(made), watch, True))


@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        ("coreset", "bome(T=2)"),
        ("quadratic(d=3)", "itd(T=2)"),  # every seed has a matrix of its own
        ("finite_sum_quadratic(n=12,m=10,d=3,d_x=2)", "soba(batch=4,decay=0.5)"),  # and minibatches of its own
        ("quadratic(d=3)", "soba"),  # all rows, of functions that take none
        ("quadratic(d=3)", "pzobo(T=1,Q=2)"),  # and directions
        ("quadratic(d=3)", "penalty(T=2,update='adam',update_y='adam')"),  # and numbers that grow
    ],
)
@pytest.mark.parametrize(
    "by", ["torch", pytest.param("side by side", marks=WITH_JAX), pytest.param("in turn", marks=WITH_JAX)]
)
def test_batched_seeds_are_the_sequential_runs(monkeypatch, by, problem, solver):
    monkeypatch.setattr(batched, "missing", lambda engine: "it is" if by == "torch" else "")
    monkeypatch.setattr(strided, "CACHE", 0 if by == "in turn" else 1 << 20)
    seeds = [0, 5, 2]
    for seed, rows in zip(seeds, together(problem, solver, seeds, calls=100), strict=True):
        expected = alone(problem, solver, seed, calls=100)
        assert [row.step for row in rows] == [row.step for row in expected]
        for row, other in zip(rows, expected, strict=True):
            assert row.seconds is row.cpu_seconds is None
            assert (row.calls, row.rows, row.status, row.ended_by) == (
                other.calls, other.rows, other.status, other.ended_by
            )  # fmt: skip
            assert row.x == pytest.approx(other.x, rel=1e-9, abs=1e-12)
            assert row.y == pytest.approx(other.y, rel=1e-9, abs=1e-12)
            assert row.metrics["phi"] == pytest.approx(other.metrics["phi"], rel=1e-9)


def test_a_seed_that_diverges_ends_alone():
    """The step is too long for the second quadratic only."""
    seeds = [0, 1]
    rows = together("quadratic(d=2,start=1.0)", "bome(lr=1e6,T=1)", seeds, steps=60)
    for seed, mine in zip(seeds, rows, strict=True):
        expected = alone("quadratic(d=2,start=1.0)", "bome(lr=1e6,T=1)", seed, steps=60)
        assert [row.status for row in mine] == [row.status for row in expected]
        assert mine[-1].status == "diverged"


def test_data_that_were_not_put_are_found():
    """Otherwise all seeds would run on the first one's data."""
    draws = [Draw(seed) for seed in (0, 1)]
    hidden = [rng.normal(2) for rng in draws]  # read by f, and not handed over

    def made(c):
        return Problem(lambda x, y: ((y - c) ** 2).sum(), lambda x, y: ((y - x) ** 2).sum(), c * 0, c * 0)

    problems = [made(c) for c in hidden]
    rows = list(trace_together(
        problems, [rng.data for rng in draws], small("itd"), [0, 1], Budget(steps=3), [lambda *look: {}] * 2, False
    ))  # fmt: skip
    assert [row.status for row in rows[-1]] == ["unsupported"] * 2
    assert "did not put" in rows[-1][0].reason


def test_seeds_that_decide_for_themselves_cannot_be_batched():
    rows = together("quadratic(d=2)", "iaptt(T=2)", [0, 1], steps=3)
    assert [mine[-1].status for mine in rows] == ["unsupported"] * 2
    assert "by the value of a tensor" in rows[0][-1].reason


# -- compiled: each graph takes seconds of a C++ compiler, so only two here; asv/with_compiler.py walks all solvers


@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        ("coreset", "first_order(T=1)"),
        pytest.param(
            "quadratic(d=3)", "soba(decay=0.5)", marks=pytest.mark.compile(sibling="test_compiled_equals_eager")
        ),
    ],
)
def test_compiled_equals_eager(problem, solver):
    made, made_solver = build_problem(problem, Draw(0)), make_solver(solver)
    watch = Stopwatch(lambda: None)
    driven = engines.driven("compiled", made_solver, made, watch)
    compiled, again = steps(driven, made, n=5)
    eager, counted = steps(made_solver, made, n=5)
    assert_same(compiled, eager)
    assert (again.calls, again.rows) == (counted.calls, counted.rows)
    taken = watch.accounts["compile"]
    assert taken > 0
    steps(driven, made, n=5)
    assert watch.accounts["compile"] == taken, "a step that was compiled is compiled again"


def test_compiled_answers_equal_eager():
    """Of a loop of any length, one gradient is compiled."""
    made, made_solver = build_problem("quadratic(d=3)", Draw(0)), make_solver("first_order(T=50)")
    watch = Stopwatch(lambda: None)
    compiled, again = steps(made_solver, made, derivatives=engines.derivatives("compiled_oracle", watch))
    eager, counted = steps(made_solver, made)
    assert_same(compiled, eager)
    assert (again.calls, again.rows) == (counted.calls, counted.rows)
    assert watch.accounts["compile"] > 0


def test_a_step_that_is_too_long_to_compile_is_refused(monkeypatch):
    monkeypatch.setattr(engines, "LONGEST", 10)
    problem = finite_sum(quadratic(2, 2, 3.0))
    with pytest.raises(Unsupported, match="--engine compiled_oracle"):
        steps(engines.driven("compiled", make_solver("itd(T=3)"), problem), problem, n=1)


@pytest.mark.parametrize("name", ["value", "grad", "grad_x", "grad_y", "second", "cross_transposed", "pullback"])
def test_answers_are_the_eager_ones(name):
    """Recorded, not compiled: every answer, with data of its own and with constants."""
    answers = Answers(lambda graph, inputs: graph, None)
    A = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()
    x, y, v = torch.tensor([0.3, -1.0]).double(), torch.tensor([2.0, 0.5]).double(), torch.tensor([1.0, -2.0]).double()
    functions = [lambda x, y: (x @ (A @ y)) ** 2 + torch.sin(y).sum(), lambda x, y: (x**3).sum()]
    if name == "pullback":
        functions = [lambda x, y: x * (A @ y)]
    more = (v,) if name in ("second", "cross_transposed", "pullback") else ()
    for fn in functions:
        for options in ({"wrt": "x"}, {"wrt": "y"}, {"wrt": "xy"}) if name in ("second", "pullback") else ({},):
            for engine in (answers, functional):
                found = getattr(engine, name)(fn, x, y, *more, **options)
                expected = getattr(derive, name)(fn, x, y, *more, **options)
                assert_same(found, expected)


def test_without_a_compiler_a_run_is_unsupported():
    import torch._inductor.config as config

    problem = finite_sum(quadratic(2, 2, 3.0))
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(Unsupported, match=r"need a C\+\+ compiler"):
        steps(engines.driven("compiled", make_solver("lower_only(T=1)"), problem), problem, n=1)


# -- runs


def made_runs(tmp_path, **options):
    block = Block(("coreset",), ("first_order(T=1)", "iaptt(T=1)"), seeds=(3, 4), steps=5, **options)
    jobs = expand(Suite("", "", (block,)), tmp_path)
    return jobs, lambda: [read(job.path) for job in jobs]


def test_a_compiled_run_books_its_compiling(tmp_path):
    jobs, records = made_runs(tmp_path, engine="compiled")
    for job in (jobs[0], jobs[1]):
        execute(job)
    good, bad, *_ = records()
    assert good.status == "done"
    assert good.header["key"]["engine"] == "compiled"
    assert good.rows[0]["compile_seconds"] > 10 * good.rows[-1]["seconds"]
    assert (bad.status, len(bad.rows)) == ("unsupported", 1)
    assert "by the value of a tensor" in bad.rows[0]["reason"]


def test_batched_runs_are_files_like_those_of_sequential_runs(tmp_path):
    jobs, records = made_runs(tmp_path, engine="batched")
    passes = together_jobs(jobs)
    assert [[job.key.seed for job in batch] for batch in passes] == [[3, 4], [3, 4]]
    for batch in passes:
        execute_together(batch)
    eager_jobs, eager = made_runs(tmp_path)
    assert not {job.path for job in jobs} & {job.path for job in eager_jobs}, "the key tells them apart"
    for job in eager_jobs:
        execute(job)
    for mine, other in zip(records(), eager(), strict=True):
        assert mine.header["key"]["seed"] == other.header["key"]["seed"]
        assert mine.header["solver"]["seeds"] == f"all seeds side by side, by {'torch' if missing('jax') else 'JAX'}"
        if mine.header["solver"]["name"] == "iaptt":
            assert (mine.status, other.status) == ("unsupported", "done")
            continue
        assert mine.status == other.status == "done"
        for row, another in zip(mine.rows, other.rows, strict=True):
            assert (row["step"], row["calls"], row["seconds"]) == (another["step"], another["calls"], None)
            assert row["metrics"] == pytest.approx(another["metrics"], rel=1e-9)


def test_the_benchmark_of_batched_seeds_runs():
    assert over_eager("coreset", "lower_only(T=1)", "batched", seeds=3, steps=1) > 0


def test_the_walk_finds_an_engine_that_differs(monkeypatch):
    """Its words on a solver that is one thing eagerly and another when it is recorded."""
    problem = finite_sum(quadratic(2, 2, 3.0))
    monkeypatch.setattr(functional, "grad_y", lambda fn, x, y, *rows: torch.ones_like(y))
    monkeypatch.setattr(with_compiler, "compiled", lambda problem, solver: with_compiler.eager(problem, solver))
    wrong, right = with_compiler.walk(problem, make_solver("lower_only(T=1)")).split("; ")
    assert wrong.startswith("functional")
    assert float(wrong.split()[1].rstrip(",")) > 1e-3
    assert right.startswith("compiled 0e+00, counts equal")


def test_batched_seeds_are_an_engine_of_their_own():
    request = ["run", "-p", "coreset", "--engine", "compiled", "--batch-seeds"]
    with pytest.raises(RequestError, match="batch_seeds is the engine batched, and the engine compiled was asked for"):
        cli.main(request, standalone_mode=False)
