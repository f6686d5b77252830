"""Problems that change with the step: what a step is about, what the oracle answers on it, and what a run shows."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench import Draw, Oracle, Problem, RequestError, Stream, Unsupported, build_problem, make_solver, run
from bilevelbench.core.solver import start, stretch
from bilevelbench.core.stream import refuse_stream
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.plan import CHANGES, planned
from bilevelbench.measure.trace import trace
from bilevelbench.problems.continual_stream import transfers

STREAMS = ["few_shot_stream", "continual_stream", "hyper_cleaning(protocol='penalty_small_released')"]
TARGETS = torch.tensor([1.0, 2.0, 5.0, 7.0]).double()


def toy(**changes):
    """g = (y - x - t_k)^2 with another t at every step; f = y^2."""

    def g(x, y, rows=None):
        return ((y - x - TARGETS[torch.tensor([0]) if rows is None else rows]) ** 2).sum()

    def rows(step):
        one = torch.tensor([step % 4])
        return one, one

    fields = {
        "f": lambda x, y, rows=None: (y**2).sum(), "g": g, "x0": torch.zeros(1).double(),
        "y0": torch.zeros(1).double(), "stream": Stream(rows), "metrics": lambda x, y: {"y": float(y[0])},
    }  # fmt: skip
    return Problem(**fields | changes)


def test_every_question_of_a_step_is_answered_on_its_rows():
    problem = toy()
    o = Oracle(problem)
    x, y = problem.x0, problem.y0
    for step in range(6):
        o.begin(step)
        slope = -2 * TARGETS[step % 4]
        assert float(o.dg_y(x, y)) == pytest.approx(float(slope))
        here = o.at(x, y)
        assert float(here.dg_y()) == pytest.approx(float(slope))
        assert float(here.d2g_yy(torch.ones(1).double())) == pytest.approx(2.0)
    assert o.rows["dg_y"] == 12  # one row each


def test_y_starts_anew_where_the_problem_says_so():
    problem = toy()
    fresh = dataclasses.replace(problem.stream, renew=lambda step, x, y: (x, torch.full_like(y, float(step))))
    solver = make_solver("lower_only(lr_inner=0.0,T=1)")
    for stream, expected in ((problem.stream, 0.0), (fresh, 4.0)):
        made = dataclasses.replace(problem, stream=stream)
        o = Oracle(made)
        assert float(stretch(solver, o, start(solver, made, o), 0, 5).y) == expected


@pytest.mark.parametrize("text", STREAMS)
def test_a_step_is_a_function_of_seed_and_step(text):
    one, again, other = (build_problem(text, Draw(seed)) for seed in (0, 0, 1))
    for step in (7, 0, 3):
        rows = one.stream.rows(step)
        for mine, same in zip(rows, again.stream.rows(step), strict=True):
            assert torch.equal(mine, same)
        x = one.x0 + 0.1
        y = one.stream.renew(step, x, one.y0)[1] if one.stream.renew else one.y0
        assert float(one.g(x, y, rows[1])) == pytest.approx(float(again.g(x, y, rows[1])), rel=1e-9)
        assert float(one.g(x, y, rows[1])) != pytest.approx(float(other.g(x, y, other.stream.rows(step)[1])), rel=1e-9)
    first = one.stream.rows(0)
    assert float(one.f(one.x0, one.y0)) == pytest.approx(float(one.f(one.x0, one.y0, first[0])), rel=1e-12)
    assert float(one.g(one.x0, one.y0)) == pytest.approx(float(one.g(one.x0, one.y0, first[1])), rel=1e-12)
    assert not all(torch.equal(a, b) for a, b in zip(first, one.stream.rows(1), strict=True))


def test_solvers_meet_the_same_tasks_and_a_resumed_run_goes_on_as_one_that_never_stopped():
    problem = build_problem("few_shot_stream(tasks=2,width=4)", Draw(0))
    solver = make_solver("penalty(lr=0.01,lr_inner=0.01,T=2,update='adam',update_y='adam')")
    o = Oracle(problem)
    whole = stretch(solver, o, start(solver, problem, o), 0, 4)
    o = Oracle(problem)
    half = stretch(solver, o, start(solver, problem, o), 0, 2)
    late = stretch(solver, Oracle(problem), half, 2, 4)
    torch.testing.assert_close((late.x, late.y), (whole.x, whole.y), rtol=1e-9, atol=1e-12)


def test_there_is_no_one_phi():
    problem = toy()
    assert planned(problem, Budget(steps=9)).without == CHANGES
    judge = Judge(problem, planned(problem, Budget(steps=9)))
    found = judge(problem.x0, problem.y0, 3, True)
    assert set(found) == {"f", "y"}
    assert CHANGES in judge.unjudged


@pytest.mark.parametrize("changes", [{"metrics": None}, {"n_g": 4}, {"n_f": 2}])
def test_what_a_stream_needs_is_said(changes):
    with pytest.raises(ValueError, match="a problem with a stream needs metrics, and n_f and n_g are 1"):
        toy(**changes)


def test_engines_that_record_a_step_refuse_it():
    for engine in ("compiled", "compiled_oracle", "cuda_graph", "jax", "batched"):
        refuse_stream(False, engine)
        with pytest.raises(Unsupported, match=f"the engine {engine} runs steps that it has recorded"):
            refuse_stream(True, engine)
    for engine in ("eager", "functional", "in_process"):
        refuse_stream(True, engine)


def rows_of(problem, steps, text="lower_only(lr_inner=0.1,T=1)"):
    judge, solver = Judge(problem, planned(problem, Budget(steps=steps))), make_solver(text)
    return list(trace(problem, solver, 0, Budget(steps=steps), judge, Stopwatch(lambda: None), False))


def test_a_stream_is_looked_at_where_it_says():
    problem = toy()
    usual = [row.step for row in rows_of(problem, 12)]
    own = dataclasses.replace(problem, stream=dataclasses.replace(problem.stream, looks=(5, 7, 10)))
    assert [row.step for row in rows_of(own, 12)] == sorted({*usual, 5, 7, 10})


def test_figures_of_a_whole_run_are_told_by_its_looks():
    problem = toy()
    over = dataclasses.replace(
        problem.stream, over=lambda trail: {"looks": len(trail), "rise": trail[max(trail)]["y"] - trail[0]["y"]}
    )
    rows = rows_of(dataclasses.replace(problem, stream=over), 12)
    assert [row.metrics["looks"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1].metrics["rise"] == pytest.approx(rows[-1].metrics["y"])


def test_a_solver_shows_figures_of_its_state_at_every_look():
    """gamma rises by a tenth with every step whose gradients are small enough, as all are for an eps of 1e9."""
    problem = build_problem("quadratic(d=3)", Draw(0))
    rows = rows_of(problem, 6, "penalty(lr=0.01,lr_inner=0.01,T=1,eps=1e9,c_eps=1.0,gamma=2.0,lam=0.5)")
    for row in rows:
        assert row.metrics["state.gamma"] == pytest.approx(2.0 * 1.1**row.step)
        assert row.metrics["state.lambda"] == pytest.approx(0.5 * 0.9**row.step)
    assert rows[0].metrics["state.nu"] == 0.0 < rows[-1].metrics["state.nu"]
    assert "phi" in rows[-1].metrics
    assert not any(name.startswith("state.") for row in rows_of(problem, 3) for name in row.metrics)


def test_dear_figures_are_judged_at_the_last_look_alone():
    problem = dataclasses.replace(toy(), final=lambda x, y: {"dear": 1.0})
    rows = rows_of(problem, 12)
    assert [("dear" in row.metrics) for row in rows] == [False] * (len(rows) - 1) + [True]


@given(st.integers(2, 5), st.integers(1, 7), st.data())
def test_transfers_are_those_of_the_matrix_of_accuracies(tasks, each, data):
    """acc, bwt and fwt from a matrix a[i][k]: accuracy on task k after the i-th task, a[0] untrained."""
    shares = st.lists(st.floats(0, 1), min_size=tasks, max_size=tasks)
    a = data.draw(st.lists(shares, min_size=tasks + 1, max_size=tasks + 1))
    trail = {each * i: {f"task_{k}": a[i][k] for k in range(tasks)} for i in range(tasks + 1)}
    found = transfers(trail, tasks, each)
    assert found["acc"] == pytest.approx(sum(a[tasks]) / tasks)
    assert found["bwt"] == pytest.approx(sum(a[tasks][k] - a[k + 1][k] for k in range(tasks - 1)) / (tasks - 1))
    assert found["fwt"] == pytest.approx(sum(a[k][k] - a[0][k] for k in range(1, tasks)) / (tasks - 1))
    early = transfers({0: trail[0], each: trail[each]}, tasks, each)
    assert early == {"acc": pytest.approx(a[1][0])}
    del trail[each]
    assert set(transfers(trail, tasks, each)) == {"acc"}, "a look that is missing is not made up"


def test_a_continual_step_sees_its_task_and_memory_of_the_earlier_ones():
    problem = build_problem("continual_stream(tasks=3,per_task=50,memory=4,batch=10)", Draw(0))
    seen = []
    for step in range(15):
        upper, lower = problem.stream.rows(step)
        task = step // 5
        fresh = lower[:10]
        assert (fresh // 50 == task).all()
        seen.append(fresh)
        assert len(lower) == (20 if task else 10)
        assert (lower[10:] // 50 < max(task, 1)).all()
        assert (lower[10:] % 50 < 4).all()
        assert (upper // 4 <= task).all()
    for task in range(3):
        assert torch.cat(seen[5 * task : 5 * task + 5]).unique().numel() == 50  # each image once
    assert problem.stream.looks == (5, 10, 15)


def test_episodes_have_other_characters_for_tests_and_are_turned():
    from bilevelbench.data.drawings import Episodes

    train, test = (Episodes.of(Draw(0), "planted", 14, 5, 2, test=test) for test in (False, True))
    assert len(train.images) == 4 * 40 * 20
    assert len(test.images) == 4 * 20 * 20
    known = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in known for image in test.images)
    assert torch.equal(torch.rot90(train.images[0], 1, (0, 1)), train.images[40 * 20])
    support, labels = train("support", torch.arange(3), torch.float64)
    query, marks = train("query", torch.arange(3), torch.float64)
    assert support.shape == (3, 10, 14, 14)
    assert query.shape == (3, 75, 14, 14)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert marks.bincount().tolist() == [15] * 5
    images = torch.cat([support[0], query[0]]).flatten(1)
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_wrong_knobs_are_one_sentence():
    for text in ("few_shot_stream(ways=1)", "few_shot_stream(shots=20)", "continual_stream(batch=500)"):
        with pytest.raises(RequestError):
            build_problem(text, Draw(0))


def test_a_run_on_a_stream_is_audited_and_says_why_it_has_no_phi(tmp_path):
    """Through the whole house, by a child process, with the replay that watches the problem's own code."""
    text = "continual_stream(tasks=2,per_task=40)"
    results = run([text], ["bome(lr=0.1,lr_inner=0.1,T=1)"], steps=8, out=tmp_path, progress=False)
    (path,) = tmp_path.glob("*.jsonl")
    *_, last, end = (json.loads(line) for line in path.read_text().splitlines())
    assert last["status"] == "done"
    assert end["audit"]["ok"]
    assert {"acc", "bwt", "fwt", "state.lambda"} <= set(last["metrics"])
    assert "phi" not in last["metrics"]
    assert CHANGES in last["unjudged"]
    assert "phi" not in results.looks or results.looks["phi"].isna().all()
