"""What is kept at a point: the same answers and calls as without, fewer passes, and those accounted for to the unit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevelbench import At, Draw, Oracle, Unsupported, build_problem
from bilevelbench.contract.layers import problem_of
from bilevelbench.core import autograd, derive, functional, kept
from bilevelbench.core.engines import derivatives
from bilevelbench.core.meter import PASSES, Meter, Tally, difference, metered
from bilevelbench.core.resolve import make_solver
from bilevelbench.core.solver import Point, start, stretch
from bilevelbench.measure.failure import Foul
from bilevelbench.measure.marks import pack
from bilevelbench.measure.prices import answer, questions
from tests.test_oracle import CONSTANT, DIFFERENTIABLE, QUESTIONS, ROWS, X, Y, finite_sum

ENGINES = {"eager": derive, "functional": functional}


def parts(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def ask(at, kind, *rows):
    return parts(getattr(at, kind)(*QUESTIONS[kind][2:], *rows))


def books(engine=derive, **changes):
    """An oracle, and what says where its two books differ."""
    tally, meter = Tally(), Meter()
    oracle = Oracle(metered(finite_sum(**changes), meter), 0, ENGINES.get(engine, engine), tally)
    return oracle, lambda: difference(tally, meter)


@pytest.mark.parametrize("engine", ENGINES)
@given(asked=st.lists(st.tuples(st.sampled_from(DIFFERENTIABLE), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_answers_and_calls_are_those_without(engine, asked):
    """In any order, of all rows and of a minibatch; detached; the forward passes are those that were made."""
    (oracle, differ), plain = books(engine), Oracle(finite_sum())
    at = oracle.at(X, Y)
    for kind, batch in asked:
        rows = (ROWS,) if batch else ()
        found, wanted = ask(at, kind, *rows), parts(getattr(plain, kind)(*QUESTIONS[kind], *rows))
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)
        assert not any(part.requires_grad for part in found)
    assert (oracle.calls, oracle.rows) == (plain.calls, plain.rows)
    assert differ() == ""
    assert oracle.passes["forward"] <= plain.passes["forward"]
    assert oracle.passes["double"] == plain.passes["double"]


@given(kinds=st.lists(st.sampled_from(DIFFERENTIABLE), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_passes_are_those_that_ran(kinds):
    """Backward passes by a count of the calls of torch's engine: those that make a graph, and double ones."""
    oracle, ran = Oracle(finite_sum()), []

    def watched(name, work):
        return lambda *arguments, **options: (ran.append(name), work(*arguments, **options))[1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "gradients", watched("backward", autograd.gradients))
        patch.setattr(kept, "products", watched("double", autograd.products))
        at = oracle.at(X, Y)
        for kind in kinds:
            ask(at, kind)
    for name in ("backward", "double"):
        assert oracle.passes[name] == ran.count(name)


def test_what_one_step_saves():
    oracle = Oracle(finite_sum())
    at = oracle.at(X, Y)
    for ask_first in (at.dg_y, at.g, at.g):
        ask_first(), at.d2g_yy(Y), at.d2g_xy(Y)
    assert oracle.calls == {"dg_y": 1, "d2g_yy": 3, "d2g_xy": 3, "g": 2}
    assert oracle.passes == {"forward": 1, "backward": 1, "double": 6}
    at.dg_y()
    assert oracle.passes["forward"] == 2, "the numbers of a gradient are not kept once they were asked for"
    other = Oracle(finite_sum())
    other.dg_y(X, Y), other.d2g_yy(X, Y, Y), other.g(X, Y)
    assert other.passes == {"forward": 3, "backward": 2, "double": 1}


@pytest.mark.parametrize("kind", DIFFERENTIABLE)
def test_a_first_answer_takes_the_passes_of_a_plain_one(kind):
    oracle, plain = Oracle(finite_sum()), Oracle(finite_sum())
    ask(oracle.at(X, Y), kind), getattr(plain, kind)(*QUESTIONS[kind])
    assert oracle.passes == plain.passes
    assert derive.keep(None, X, Y, order=2).passes(kind) == PASSES[kind]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_point_of_order_1_keeps_the_function_s_own_graph(engine):
    """Value and both gradients by one forward pass, and nothing that second derivatives need."""
    oracle, differ = books(engine)
    at, plain = oracle.at(X, Y, order=1), Oracle(finite_sum())
    found = at.g(), at.dg_y(), at.dg_x(), *at.dg(), at.g()
    torch.testing.assert_close(found[1:5], (plain.dg_y(X, Y), plain.dg_x(X, Y), *plain.dg(X, Y))[:2] + plain.dg(X, Y))
    torch.testing.assert_close((found[0], found[5]), (plain.g(X, Y),) * 2)
    assert not any(part.requires_grad for part in found)
    assert differ() == ""
    assert oracle.passes == {"forward": 1, "backward": 3 if engine == "eager" else 1}
    with pytest.raises(
        ValueError, match=r"d2g_yy is a product with second derivatives, which at\(x, y, order=1\) does not"
    ):
        at.d2g_yy(Y)


def test_other_rows_begin_another_graph():
    oracle = Oracle(finite_sum())
    at = oracle.at(X, Y)
    at.dg_y(ROWS), at.d2g_yy(Y, ROWS)
    assert oracle.passes["forward"] == 1
    at.d2g_yy(Y), at.d2g_yy(Y, ROWS)
    assert oracle.passes["forward"] == 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CONSTANT)
def test_constant_functions_have_zero_derivatives_there(name, engine):
    function = CONSTANT[name]
    (oracle, differ), plain = (
        books(engine, f=function, g=function, n_f=1, n_g=1),
        Oracle(finite_sum(f=function, g=function)),
    )
    at = oracle.at(X, Y)
    for kind in ("d2g", "dg", "d2g_yx", "d2f", "df_x", "g"):
        torch.testing.assert_close(ask(at, kind), parts(getattr(plain, kind)(*QUESTIONS[kind])))
    assert differ() == ""


def test_answers_hold_where_graphs_are_switched_off():
    with torch.no_grad():
        at = Oracle(finite_sum()).at(X, Y)
        found = at.dg_y(), at.d2g_yy(Y), Oracle(finite_sum()).dg_y(X, Y)
    plain = Oracle(finite_sum())
    torch.testing.assert_close(found, (plain.dg_y(X, Y), plain.d2g_yy(X, Y, Y), plain.dg_y(X, Y)))


def test_nan_stays_nan():
    at = Oracle(finite_sum(g=lambda x, y, rows=None: torch.nan * (x.sum() + y.sum()))).at(X, Y)
    assert at.g().isnan()
    assert all(part.isnan().all() for part in at.dg())


def test_a_vector_of_another_shape_is_torch_s_to_refuse():
    with pytest.raises(
        RuntimeError, match=r"like the point, torch.float64 of shape \(4,\), not torch.float64 of shape \(7,\)"
    ):
        Oracle(finite_sum()).at(X, Y).d2g_yy(torch.ones(7).double())


def attention(x, y, rows=None):
    """Fused attention, of which torch has no second derivative."""
    q = y.float().expand(1, 1, 4, 4)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        return torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().double() + x.sum()


def test_what_can_be_differentiated_once_is_refused_where_it_matters():
    problem, solver = finite_sum(g=attention), make_solver("aid_cg")
    oracle = Oracle(problem)
    at = oracle.at(X, Y)
    assert at.dg_y().shape == Y.shape
    with pytest.raises(Unsupported, match="cannot be differentiated twice"):
        at.d2g_yy(Y)
    with pytest.raises(Unsupported, match="cannot be differentiated twice"):
        solver.step(oracle, start(solver, problem, oracle))


def test_a_point_is_of_no_use_after_its_step():
    oracle = Oracle(finite_sum())
    at = oracle.at(X, Y)
    at.dg_y()
    oracle.begin(1)
    with pytest.raises(RuntimeError, match=r"no use after its step; ask the oracle for it anew: at\(x, y\)"):
        at.dg_y()
    assert oracle.calls == {"dg_y": 1}


def test_a_state_cannot_hold_a_point():
    at = Oracle(finite_sum()).at(X, Y)
    with pytest.raises(Foul, match="its state holds a At"):
        pack(Point(X, at))


def test_an_engine_that_keeps_nothing_says_so_in_its_passes():
    class Forgetful:
        keep = staticmethod(lambda *asked, order: None)
        grad_y, second = staticmethod(derive.grad_y), staticmethod(derive.second)

    oracle, differ = books(Forgetful)
    at = oracle.at(X, Y)
    at.dg_y(), at.d2g_yy(Y)
    assert oracle.passes == {"forward": 2, "backward": 2, "double": 1}
    assert differ() == ""
    assert derivatives("compiled_oracle").keep(None, X, Y, order=2) is None


def test_a_pass_that_is_not_accounted_for_is_found():
    """An engine that says it keeps a graph, and works everything out anew."""

    class Nothing:
        def passes(self, kind, said=iter(("fb", "d"))):  # noqa: B008, one after the other
            return next(said)

        grad_y, second = staticmethod(derive.grad_y), staticmethod(derive.second)

    class Wasteful:
        keep = staticmethod(lambda *asked, order: Nothing())

    oracle, differ = books(Wasteful)
    at = oracle.at(X, Y)
    at.dg_y(), at.d2g_yy(Y)
    assert differ() == "g was asked 2 times and the oracle accounts for 1"


@pytest.mark.parametrize("name", ["itd", "aid_cg", "soba", "penalty", "bda", "fmd", "nystrom", "saba"])
def test_steps_make_the_same_calls_by_both_engines(name):
    """To the same place; each accounts for its own passes."""
    problem, solver, ends = build_problem("quadratic(d=4)", Draw(0)), make_solver(name), []
    for engine in ENGINES.values():
        tally, meter = Tally(), Meter()
        o = Oracle(metered(problem, meter), 0, engine, tally)
        ends.append((stretch(solver, o, start(solver, problem, o), 0, 3), o.calls, o.passes["double"]))
        assert difference(tally, meter) == ""
    torch.testing.assert_close((ends[0][0].x, ends[0][0].y), (ends[1][0].x, ends[1][0].y), rtol=1e-10, atol=1e-12)
    assert ends[0][1:] == ends[1][1:]


@pytest.mark.parametrize("name", ["itd", "aid_cg", "fmd", "bda", "soba(batch=2)", "saba(batch=2)", "bome", "bvfsm"])
def test_a_solver_s_questions_are_asked_again_as_they_were(name):
    """The floor of a solver without a loop by hand keeps what its steps keep."""
    problem, solver, meters = problem_of(""), make_solver(name), (Meter(), Meter())
    asked, _ = questions(metered(problem, meters[0]), solver, 2)
    start(solver, problem, o := Oracle(problem)), answer(metered(problem, meters[1]), asked)
    begun = sum(n for (_, _, passes), n in o._tally.read().items() if "f" in passes)
    forwards = [sum(n for (name, _), n in meter.read().items() if name in "fg") for meter in meters]
    assert forwards[0] - begun == forwards[1] > 0


def test_every_question_about_f_and_g_can_be_asked_at_a_point():
    asked = {name for name, value in vars(At).items() if callable(value) and not name.startswith("_")}
    assert asked == set(DIFFERENTIABLE)
