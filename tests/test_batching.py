"""Seeds in one pass: what cannot go together is refused in a sentence, in the file of each seed."""

import math
import sys
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from bilevelbench import Unsupported
from bilevelbench.core.draw import Draw
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point
from bilevelbench.measure.budget import Budget
from bilevelbench.run import batched
from bilevelbench.run import together as stepping
from bilevelbench.run.batched import execute_together, trace_together
from bilevelbench.run.job import Job, Order
from bilevelbench.run.together import CLOSE, LONG, Oracles, Together, _stack, one_of
from bilevelbench.store.journal import read
from tests.results_factory import key


def several(text="quadratic(d=3)", seeds=(0, 1)):
    draws = [Draw(seed) for seed in seeds]
    return [build_problem(text, rng) for rng in draws], [rng.data for rng in draws]


class Odd(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor
    n: int


class Starts:
    """A solver whose state holds another number for each seed."""

    name = "starts"

    def __init__(self, differs):
        self.differs = differs

    def init(self, o, x, y):
        return Odd(x, y, int(x[0] > -math.inf) + (o.seed if self.differs else 0))

    def step(self, o, s):
        return Odd(s.x, s.y - 0.1 * o.dg_y(s.x, s.y), s.n)


@pytest.fixture(autouse=True)
def by_torch(monkeypatch):
    """As where JAX is not installed: by JAX is what test_engines and test_jaxed hold."""
    monkeypatch.setattr(batched, "missing", lambda package: "it is not installed")


def test_states_may_differ_in_their_tensors_alone():
    problems, data = several()
    state = Together(Starts(False), problems, data).start(Oracles(problems, (0, 1)))
    assert state.x.shape == (2, 3)
    assert one_of(state, 1).n == 1
    assert torch.equal(one_of(state, 1).y, problems[1].y0)
    with pytest.raises(Unsupported, match="the states of starts differ between seeds in more than their tensors"):
        Together(Starts(True), problems, data).start(Oracles(problems, (0, 1)))


def test_data_of_one_shape_are_stacked():
    a, b = torch.zeros(2), torch.ones(2)
    assert _stack([a, b]).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    with pytest.raises(Unsupported, match="their data have different shapes"):
        _stack([a, torch.zeros(3)])


def test_draws_are_those_of_each_seed_and_counted_once():
    problems, _ = several("finite_sum_quadratic(n=12)", (0, 5))
    o = Oracles(problems, (0, 5))
    o.begin(3)
    drawn, normal = o.draw_g(4), o.normal(2)
    for k, seed in enumerate((0, 5)):
        alone = stepping.Oracle(problems[k], seed)
        alone.begin(3)
        assert torch.equal(drawn[k], alone.draw_g(4))
        assert torch.equal(normal[k], alone.normal(2))
    assert o.calls["draw_g"] == 1


def rows_of(solver, judges, seeds=(0, 1), **limits):
    problems, data = several(seeds=seeds)
    looks = trace_together(problems, data, make_solver(solver), seeds, Budget(**limits), judges, False)
    return [[row for row in mine if row is not None] for mine in zip(*looks, strict=True)]


def test_a_seed_that_fails_at_a_look_ends_alone_and_the_others_go_on():
    def bad(x, y, step, last):
        if step == 2:
            raise ZeroDivisionError("in metrics")
        return {"phi": 0.0}

    first, second = rows_of("first_order", [lambda *look: {"phi": 0.0}, bad], steps=4)
    assert [row.step for row in first] == [0, 1, 2, 3, 4]
    assert (first[-1].status, first[-1].ended_by) == ("done", "steps")
    assert [row.step for row in second] == [0, 1, 2]
    assert (second[-1].status, second[-1].fault) == ("error", "problem")


def test_looks_and_ends_are_those_of_the_budget():
    lasts = []
    judge = lambda x, y, step, last: lasts.append((step, last)) or {"phi": 0.0}  # noqa: E731
    (rows,) = rows_of("first_order(T=1)", [judge], (0,), calls=7)
    assert (rows[-1].status, rows[-1].ended_by) == ("done", "calls")
    assert [last for _, last in lasts] == [False] * (len(lasts) - 1) + [True]
    assert rows[-1].total_calls <= 7


def jobs(folder, problem="quadratic(d=3)", solver="first_order", **fields):
    found = []
    for seed in (3, 4):
        made = key(problem, solver, seed, engine="batched", steps=2, **fields)
        found.append(Job(made, problem, solver, folder / f"{made.stem}.jsonl", place="0" * 8))
    return found


def test_each_seed_has_its_file_and_phases_are_told(tmp_path):
    said = []
    made = jobs(tmp_path, iterates=True)
    execute_together(made, Order(made, {"cpu": "c"}), lambda **message: said.append(message["phase"]))
    assert said[:5] == ["solver", "problem", "references", "guards", "solver"]
    for job in made:
        record = read(job.path)
        assert record.status == "cut off" or record.ended == "done"
        assert [row["step"] for row in record.rows] == [0, 1, 2]
        assert record.header["key"]["seed"] == job.key.seed
        assert record.header["problem"]["judged"]
        assert record.header["problem"]["digest"]["drawn"]
        assert len(record.rows[0]["x"]) == 3
        assert record.rows[-1].get("seconds") is None


@pytest.mark.parametrize(("most", "kept"), [(6, True), (5, False)])
def test_iterates_are_kept_of_small_problems(tmp_path, monkeypatch, most, kept):
    monkeypatch.setattr(batched, "MOST_ITERATES", most)
    made = jobs(tmp_path, iterates=True)
    execute_together(made)
    assert [bool(read(job.path).rows[0].get("x")) for job in made] == [kept] * 2


@pytest.mark.parametrize(("failing", "rows"), [(1, [1, 1]), (2, [1, 1])])
def test_what_one_seed_cannot_none_can(tmp_path, monkeypatch, failing, rows):
    guard, asked = batched.guard, []

    def fails(*arguments):
        asked.append(1)
        if len(asked) == failing:
            raise Unsupported("g changes its data", "problem")
        return guard(*arguments)

    monkeypatch.setattr(batched, "guard", fails)
    made = jobs(tmp_path)
    execute_together(made)
    records = [read(job.path) for job in made]
    assert [len(record.rows) for record in records] == rows
    assert [record.ended for record in records] == ["unsupported"] * 2
    assert [record.rows[0]["fault"] for record in records] == ["problem"] * 2
    assert [record.header["key"]["seed"] for record in records] == [3, 4]


def test_a_step_together_is_held_to_the_steps_alone():
    assert {torch.float64, torch.float32} == set(CLOSE)
    problems, data = several()
    made, o = Together(Starts(False), problems, data), Oracles(problems, (0, 1))
    state = made.start(o)
    new = made.step(o, state)
    made._check(o, state, new)
    off = new._replace(y=new.y * torch.tensor([[1.0], [1.0 + 3e-6]]).double())
    with pytest.raises(Unsupported, match="seed 1 gets another step of starts than alone"):
        made._check(o, state, off)
    made._check(o, state, new._replace(y=new.y * (1 + 3e-7)))
    checked = []
    made._check = lambda *arguments: checked.append(1)
    o.begin(1)
    made.step(o, new)
    assert checked == []  # of each recording the first step alone
    assert isinstance(one_of(new, 0), Odd)
    assert isinstance(one_of(Point(new.x, new.y), 0), Point)


def missing(graph, inputs):
    raise Unsupported("the compiled engines need a C++ compiler, and this machine has none")


@pytest.mark.parametrize("compiler", [lambda graph, inputs: graph, missing], ids=["compiler", "none"])
@pytest.mark.parametrize(("steps", "asked"), [(LONG, 1), (3, 0)])
def test_a_long_run_has_its_graph_compiled_where_there_is_a_compiler(monkeypatch, compiler, steps, asked):
    problems, data = several()
    made = []
    monkeypatch.setattr(stepping, "compile_graph", lambda graph, inputs: made.append(graph) or compiler(graph, inputs))
    solver = make_solver("first_order")
    rows = trace_together(problems, data, solver, (0, 1), Budget(steps), [lambda *look: {"phi": 0.0}] * 2, False)
    for _ in zip(range(3), rows, strict=False):
        pass
    assert len(made) == asked


def test_a_graph_that_a_compiler_does_not_take_ends_the_run(monkeypatch):
    """It is no machine without a compiler, and is not passed over in silence."""

    def fails(graph, inputs):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(stepping, "compile_graph", fails)
    problems, data = several()
    rows = trace_together(
        problems, data, make_solver("first_order"), (0, 1), Budget(LONG), [lambda *look: {"phi": 0.0}] * 2, False
    )
    assert [row.status for row in list(rows)[-1]] == ["error"] * 2


@pytest.mark.compile(sibling="test_a_long_run_has_its_graph_compiled_where_there_is_a_compiler")
def test_a_compiled_graph_steps_as_the_graph_does():
    problems, data = several("penalty_example(example=4)")
    states = []
    for long in (False, True):
        together, o = Together(make_solver("penalty(T=2)"), problems, data, long), Oracles(problems, (0, 1))
        state = together.start(o)
        for k in range(20):
            o.begin(k)
            state = together.step(o, state)
        states.append(state)
    assert torch.allclose(states[0].x, states[1].x, 1e-12, 1e-12)
    assert torch.allclose(states[0].y, states[1].y, 1e-12, 1e-12)


@pytest.mark.parametrize(
    ("raised", "words"), [(Unsupported("no such operation"), batched.TORCH), (ZeroDivisionError("its own"), "by JAX")]
)
def test_what_jax_does_not_take_goes_by_torch_and_the_record_says_so(raised, words, tmp_path, monkeypatch):
    class Strided(Together):
        def __init__(self, solver, problems, data):
            super().__init__(solver, problems, data, False)

        def step(self, o, s):
            raise raised

    there = SimpleNamespace(Strided=Strided, way=lambda data, seeds: "by JAX")
    monkeypatch.setitem(sys.modules, "bilevelbench.run.strided", there)
    monkeypatch.setattr(batched, "missing", lambda package: "")
    made = jobs(tmp_path)
    execute_together(made, Order(made, {"cpu": "c"}))
    for record in map(read, (job.path for job in made)):
        assert record.header["solver"]["seeds"] == words
        assert record.rows[-1]["status"] == ("done" if words == batched.TORCH else "error")
        assert len(record.rows) == (3 if words == batched.TORCH else 2)
