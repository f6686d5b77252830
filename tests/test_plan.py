"""What is judged when, and how much that may ask: fixed by problem and budget."""

import dataclasses

import pytest

from bilevelbench import Draw, Unsupported, build_problem
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.plan import EACH, FIGURES, NODE, START, UNKNOWN, WORK, Plan, _nodes, planned

FAIR = build_problem("fair", Draw(0))
SMALL = dataclasses.replace(build_problem("quadratic(d=4)", Draw(0)), y_star=None, phi_at="doublings")


@pytest.mark.parametrize(
    ("step", "last_due", "last", "due"),
    [(0, -1, False, True), (1, 0, False, True), (0, 0, False, False), (2, 1, False, True), (3, 2, False, False),
     (4, 2, False, True), (3, 2, True, True), (9, 4, False, True), (7, 4, False, False)],
)  # fmt: skip
def test_phi_is_due_at_doublings(step, last_due, last, due):
    assert Plan(sparse=True).due(step, last_due, last) is due
    assert Plan().due(step, last_due, last)


def test_gradients_are_shared_out_a_third_at_the_start():
    plan = Plan(True, 300, 5)
    assert pytest.approx(1 / 3) == START
    assert [plan.allowance(k, 0.0) for k in range(6)] == pytest.approx([100, 150, 200, 250, 300, 300])
    assert plan.allowance(2, 50.0) == pytest.approx(150)
    assert plan.allowance(2, 250.0) == 0.0
    assert Plan(True, 300, 1).allowance(0, 0.0) == pytest.approx(100)
    assert Plan(True, 300, 1).allowance(1, 0.0) == pytest.approx(300)
    assert Plan(True, 300, 2).allowance(1, 0.0) == pytest.approx(300)
    assert Plan(False, 300).allowance(7, 299.0) == 300


def test_defaults():
    assert Plan() == Plan(False, EACH, 1)
    assert EACH == 20_000
    assert planned(FAIR, Budget(steps=9)) == Plan()
    assert Plan().words == "phi at every look, with at most 20000 gradients of g each"
    assert Plan(gradients=0).words == "phi at every look, y* in closed form"
    assert Plan(True, 7).words.startswith(
        "phi at the start, each time the steps have doubled, and at the end, with at most 7"
    )


def gradients(problem, **limits):
    """Of a problem that does not ask for doublings itself, but is judged at them."""
    return planned(dataclasses.replace(problem, phi_at="", flags=frozenset()), Budget(**limits)).gradients


def test_a_small_problem_may_ask_more_than_a_run():
    least = gradients(SMALL, steps=1)
    work = 4 * SMALL.n_g + NODE * _nodes(SMALL)
    assert least == min(5000, max(100, int(WORK / work)))
    assert gradients(SMALL, steps=10**6) == 2 * 10**6
    assert gradients(SMALL, calls=10**6) == 10**6
    assert gradients(SMALL, steps=10**6, calls=10**5) == 10**5
    assert gradients(SMALL, steps=10**5, calls=10**6) == 2 * 10**5
    assert gradients(SMALL, seconds=1.0) == max(least, UNKNOWN)
    assert planned(SMALL, Budget(steps=1)).gradients == max(least, EACH)  # it says that this is what it is about
    assert gradients(SMALL, rows=10**6 * SMALL.n_g) == 10**6
    assert gradients(SMALL, rows=10**6 * SMALL.n_g, calls=10**5) == 10**5
    large = dataclasses.replace(SMALL, n_g=10**9)
    assert gradients(large, steps=1) == 100
    assert gradients(large, steps=51) == 102
    assert gradients(large, seconds=1.0) == UNKNOWN
    assert gradients(dataclasses.replace(SMALL, n_g=10**5), steps=1) == int(WORK / (4 * 10**5 + NODE * _nodes(SMALL)))


@pytest.mark.parametrize(
    ("limits", "looks"), [({"steps": 1}, 3), ({"steps": 1000}, 12), ({"calls": 1000}, 12), ({"seconds": 1.0}, 13)]
)
def test_looks_are_the_doublings_of_a_run(limits, looks):
    assert planned(SMALL, Budget(**limits)).looks == looks


def test_a_run_can_go_by_the_problems_own_figures():
    plan = planned(FAIR, Budget(steps=9), FIGURES)
    assert plan.words == "the problem's own figures alone, no phi: as was asked for (judge = 'figures')"
    assert not any(plan.due(step, -1, last) for step in (0, 1, 8) for last in (False, True))
    judge = Judge(FAIR, plan)
    found = judge(FAIR.x0, FAIR.y0, 8, True)
    assert set(found) == {"f", *FAIR.metrics(FAIR.x0, FAIR.y0)}
    assert judge.unjudged.startswith("phi is not judged: as was asked for")
    with pytest.raises(Unsupported, match="needs figures of the problem's own"):
        planned(dataclasses.replace(FAIR, metrics=None), Budget(steps=9), FIGURES)


def test_nodes_are_those_of_the_graph():
    def of(g):
        return _nodes(dataclasses.replace(SMALL, g=g))

    assert of(lambda x, y: y.sum()) == 2
    assert of(lambda x, y: (2 * y).sum()) == 3
    assert of(lambda x, y: (y + y).sum()) == 3  # a node that is met twice is one
    assert of(lambda x, y: x.sum()) == 0


def test_where_phi_is_judged_sparsely():
    assert not planned(dataclasses.replace(SMALL, phi_at="every look"), Budget(steps=1)).sparse
    assert planned(dataclasses.replace(SMALL, phi_at="", flags=frozenset()), Budget(steps=1)).sparse
    assert not planned(
        dataclasses.replace(SMALL, phi_at="", flags=frozenset({"strongly_convex"})), Budget(steps=1)
    ).sparse
