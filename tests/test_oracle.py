"""The counted door: everything asked is counted, right, detached and, where it is random, a function of the step."""

import contextlib
import inspect
import keyword

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench import Oracle, Problem, RequestError, Unsupported, box, make_solver, solver
from bilevelbench.core.batches import minibatch
from bilevelbench.core.door import WORTH, total
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.spec import Spec, parse

N_F, N_G = 6, 9
X, Y, V, U, W = (
    torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (3, 4, 4, 3, 2)
)


def _data(n, d):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def finite_sum(**changes):
    """Not quadratic, so that second derivatives move with the point."""
    F, G = _data(N_F, 7), _data(N_G, 7)

    def f(x, y, rows=None):
        return torch.tanh((F if rows is None else F[rows]) @ torch.cat([x, y])).mean()

    def g(x, y, rows=None):
        return torch.cosh((G if rows is None else G[rows]) @ torch.cat([x, y]) / 4).mean() + 0.5 * y @ y

    return Problem(**{"f": f, "g": g, "x0": X, "y0": Y, "n_f": N_F, "n_g": N_G, **changes})


def h(x, y):
    """Two constraints, curved in both variables."""
    return torch.stack([(x**3).sum() + y @ y - 1, torch.sin(x[0] * y[1])])


BOUNDED = {
    "project_x": box(-0.5, 0.5), "project_y": box(-0.5, 0.5), "h_f": h, "h_g": h, "y_star": lambda x: Y,
    "project_xy": lambda x, y: (x.clamp(-0.5, 0.5), y.clamp(-0.5, 0.5)),
}  # fmt: skip
ROWS = torch.tensor([0, 2, 5])
QUESTIONS = {  # everything public but `begin`, with arguments
    **dict.fromkeys(("f", "df", "df_x", "df_y", "g", "dg", "dg_x", "dg_y"), (X, Y)),
    **dict.fromkeys(("d2f", "d2g", "d2g_xy", "d2g_yy"), (X, Y, V)), "d2g_yx": (X, Y, U),
    **dict.fromkeys(("h_f", "h_g"), (X, Y)), **dict.fromkeys(("dh_f", "dh_g", "dh_g_x", "dh_g_y"), (X, Y, W)),
    "draw_f": (2,), "draw_g": (2,), "normal": (3,), "integer": (5,),
    "project_x": (X,), "project_y": (Y,), "project_y_back": (Y, V), "project_xy": (X, Y),
}  # fmt: skip
CONSTRAINTS = ["h_f", "h_g", "dh_f", "dh_g", "dh_g_x", "dh_g_y"]
FREE = ("draw", "project", "normal", "integer")
DIFFERENTIABLE = [name for name in QUESTIONS if not name.startswith(FREE) and name not in CONSTRAINTS]


def _parts(answer):
    return answer if isinstance(answer, tuple) else (answer,)


# -- counting


def test_every_public_method_is_asked_here():
    """A method added to the oracle is counted, priced and in this file, or it does not come in."""
    public = {name for name, _ in inspect.getmembers(Oracle, inspect.isfunction) if not name.startswith("_")}
    assert public - {"begin", "at"} == set(QUESTIONS) == set(WORTH)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_method_counts_itself_once_and_nothing_else(name):
    oracle = Oracle(finite_sum(**BOUNDED))
    for n in (1, 2):
        getattr(oracle, name)(*QUESTIONS[name])
        assert oracle.calls == {name: n}
        assert total(oracle.calls) == n * WORTH[name]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_rows_of_data_are_counted(name):
    """All of them without a minibatch, those of the minibatch with one."""
    oracle = Oracle(finite_sum())
    getattr(oracle, name)(*QUESTIONS[name])
    assert oracle.rows == {name: N_G if "g" in name else N_F}
    getattr(oracle, name)(*QUESTIONS[name], ROWS)
    assert oracle.rows == {name: (N_G if "g" in name else N_F) + len(ROWS)}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_none_for_rows_is_all_rows(name):
    """Said or left out, to functions that take rows and to functions that take none."""
    plain = {kind: lambda x, y: torch.cosh(x.sum() + y).sum() * x.prod() for kind in "fg"}
    for problem in (finite_sum(), finite_sum(**plain, n_f=1, n_g=1)):
        oracle = Oracle(problem)
        ask = getattr(oracle, name)
        wanted = _parts(ask(*QUESTIONS[name]))
        counted = dict(oracle.rows)
        for found in (ask(*QUESTIONS[name], None), ask(*QUESTIONS[name], rows=None)):
            assert all(torch.equal(a, b) for a, b in zip(_parts(found), wanted, strict=True))
        assert (oracle.calls, oracle.rows) == ({name: 3}, {name: 3 * counted[name]})


def test_the_price_of_both_second_order_products_is_that_of_each():
    assert WORTH["d2g"] == WORTH["d2g_xy"] + WORTH["d2g_yy"] == WORTH["d2f"] == 2


def test_projections_of_an_unbounded_problem_are_the_identity_and_free():
    oracle = Oracle(finite_sum())
    assert oracle.project_x(X) is X
    assert oracle.project_y(Y) is Y
    assert oracle.project_y_back(Y, V) is V
    assert not oracle.calls


def test_begin_neither_counts_nor_forgets_counts():
    oracle = Oracle(finite_sum())
    oracle.f(X, Y)
    oracle.begin(3)
    assert oracle.calls == {"f": 1}


# -- answers


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", [*DIFFERENTIABLE, *CONSTRAINTS, "project_y_back"])
def test_answers_cannot_be_differentiated(name, grad):
    """Neither for plain points nor for points that ask for gradients: there is no way around the counters."""
    points = tuple(p.clone().requires_grad_(grad) for p in QUESTIONS[name])
    for part in _parts(getattr(Oracle(finite_sum(**BOUNDED)), name)(*points)):
        assert not part.requires_grad
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.autograd.grad(part.sum(), points, allow_unused=True)


@pytest.mark.parametrize("rows", [(), (ROWS,)])
def test_answers_are_the_derivatives(rows):
    """Every answer against torch's dense derivatives of the function itself, on all rows and on a minibatch."""
    problem = finite_sum()
    oracle = Oracle(problem)
    for kind in "fg":
        function = getattr(problem, kind)
        x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
        gx, gy = torch.autograd.grad(function(x, y, *rows), (x, y))
        for found, wanted in [
            (getattr(oracle, kind)(X, Y, *rows), function(X, Y, *rows)),
            (getattr(oracle, f"d{kind}")(X, Y, *rows), (gx, gy)),
            (getattr(oracle, f"d{kind}_x")(X, Y, *rows), gx),
            (getattr(oracle, f"d{kind}_y")(X, Y, *rows), gy),
        ]:
            torch.testing.assert_close(_parts(found), _parts(wanted), rtol=1e-13, atol=1e-14)
    (_, _), (yx, yy) = torch.autograd.functional.hessian(lambda x, y: problem.g(x, y, *rows), (X, Y))
    products = oracle.d2g(X, Y, V, *rows)
    torch.testing.assert_close(products, (yx.T @ V, yy @ V), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(oracle.d2g_xy(X, Y, V, *rows), products[0], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(oracle.d2g_yy(X, Y, V, *rows), products[1], rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(oracle.d2g_yx(X, Y, U, *rows), yx @ U, rtol=1e-12, atol=1e-13)
    (_, _), (yx, yy) = torch.autograd.functional.hessian(lambda x, y: problem.f(x, y, *rows), (X, Y))
    torch.testing.assert_close(oracle.d2f(X, Y, V, *rows), (yx.T @ V, yy @ V), rtol=1e-12, atol=1e-13)


def test_answers_about_constraints_are_their_values_and_jacobians():
    oracle = Oracle(finite_sum(**BOUNDED))
    in_x, in_y = torch.autograd.functional.jacobian(h, (X, Y))
    for which in ("h_f", "h_g"):
        torch.testing.assert_close(getattr(oracle, which)(X, Y), h(X, Y), rtol=0, atol=0)
        torch.testing.assert_close(getattr(oracle, f"d{which}")(X, Y, W), (W @ in_x, W @ in_y), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(oracle.dh_g_x(X, Y, W), W @ in_x, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(oracle.dh_g_y(X, Y, W), W @ in_y, rtol=1e-13, atol=1e-14)


def test_without_constraints_there_is_nothing_to_ask_and_nothing_is_counted():
    oracle = Oracle(finite_sum())
    none = torch.zeros(0).double()
    assert oracle.h_f(X, Y).shape == oracle.h_g(X, Y).shape == (0,)
    for answer in (oracle.dh_f(X, Y, none), oracle.dh_g(X, Y, none)):
        assert not any(bool(part.any()) for part in answer)
    assert not oracle.dh_g_x(X, Y, none).any()
    assert not oracle.dh_g_y(X, Y, none).any()
    assert oracle.project_xy(X, Y) == (X, Y)
    assert not oracle.calls
    with pytest.raises(Unsupported, match="no projection"):
        Oracle(finite_sum(h_g=h, y_star=lambda x: Y)).project_xy(X, Y)


def test_random_numbers_depend_on_seed_step_and_how_many_came_before():
    one, other = Oracle(finite_sum(), seed=3), Oracle(finite_sum(), seed=4)
    drawn = []
    for oracle, step in ((one, 0), (one, 1), (other, 0)):
        oracle.begin(step)
        drawn += [oracle.normal(3), oracle.normal(3)]
    assert len({tuple(v.tolist()) for v in drawn}) == 6
    one.begin(1)
    assert torch.equal(one.normal(3), drawn[2])
    many = torch.stack([torch.as_tensor(Oracle(finite_sum(), seed=s).integer(4)) for s in range(400)])
    assert set(many.tolist()) == {0, 1, 2, 3}
    assert Oracle(finite_sum(x0=X.float(), y0=Y.float())).normal(2).dtype == torch.float32


CONSTANT = {  # functions that leave out variables, and what is left of their derivatives
    "in x": lambda x, y, rows=None: (y**3).sum(),
    "in y": lambda x, y, rows=None: (x**3).sum(),
    "in both": lambda x, y, rows=None: torch.ones((), dtype=x.dtype),
    "but for a product with zero": lambda x, y, rows=None: 0 * (x.sum() + y.sum()),
    "in y, linear in x": lambda x, y, rows=None: x.sum(),
    "apart": lambda x, y, rows=None: (x**2).sum() + (y**2).sum(),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_functions_constant_in_a_variable_have_zero_derivatives_there(name):
    function = CONSTANT[name]
    oracle = Oracle(finite_sum(f=function, g=function, n_f=1, n_g=1))
    dx = {"in y": 3 * X**2, "in y, linear in x": torch.ones_like(X), "apart": 2 * X}.get(name, torch.zeros_like(X))
    dy = {"in x": 3 * Y**2, "apart": 2 * Y}.get(name, torch.zeros_like(Y))
    hv = {"in x": 6 * Y * V, "apart": 2 * V}.get(name, torch.zeros_like(Y))
    for found, wanted in [
        (oracle.df(X, Y), (dx, dy)), (oracle.dg(X, Y), (dx, dy)),
        (oracle.dg_x(X, Y), dx), (oracle.dg_y(X, Y), dy), (oracle.df_x(X, Y), dx), (oracle.df_y(X, Y), dy),
        (oracle.d2g(X, Y, V), (torch.zeros_like(X), hv)),
        (oracle.d2g_xy(X, Y, V), torch.zeros_like(X)), (oracle.d2g_yy(X, Y, V), hv),
    ]:  # fmt: skip
        torch.testing.assert_close(_parts(found), _parts(wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_have_the_points_dtype_and_shape(dtype):
    weights = _data(7, 1).to(dtype)[:, 0]
    smooth = lambda x, y, rows=None: torch.cosh(weights @ torch.cat([x, y]))  # noqa: E731
    x, y, v = (t.to(dtype) for t in (X, Y, V))
    oracle = Oracle(finite_sum(f=smooth, g=smooth, x0=x, y0=y))
    answers = [(oracle.f(x, y), ()), *zip(oracle.df(x, y), [(3,), (4,)], strict=True)]
    answers += [*zip(oracle.d2g(x, y, v), [(3,), (4,)], strict=True)]
    for answer, shape in answers:
        assert answer.dtype == dtype
        assert answer.shape == shape


def test_the_jacobian_of_a_projection_on_a_box_keeps_what_is_inside():
    oracle = Oracle(finite_sum(**BOUNDED))
    inside = Y.abs() < 0.5
    assert 0 < int(inside.sum()) < len(Y)
    assert torch.equal(oracle.project_y_back(Y, V), torch.where(inside, V, 0.0))
    assert torch.equal(oracle.project_y(Y), Y.clamp(-0.5, 0.5))
    assert torch.equal(oracle.project_x(X), X.clamp(-0.5, 0.5))


# -- minibatches


@given(
    seed=st.integers(0, 2**32), stream=st.sampled_from("fg"), step=st.integers(0, 10**9),
    k=st.integers(0, 100), n=st.integers(2, 300), data=st.data(),
)  # fmt: skip
def test_a_minibatch_is_a_pure_function_of_its_arguments(seed, stream, step, k, n, data):
    size = data.draw(st.integers(1, n))
    rows = minibatch(seed, stream, step, k, n, size)
    assert torch.equal(rows, minibatch(seed, stream, step, k, n, size))
    assert rows.shape == (size,)
    assert rows.dtype == torch.int64
    assert len(set(rows.tolist())) == size
    assert 0 <= int(rows.min()) <= int(rows.max()) < n


def test_each_part_of_a_minibatch_s_address_matters():
    base = minibatch(0, "f", 0, 0, 1000, 20)
    for address in [(1, "f", 0, 0), (0, "g", 0, 0), (0, "f", 1, 0), (0, "f", 0, 1)]:
        assert not torch.equal(base, minibatch(*address, 1000, 20)), address


@pytest.mark.parametrize("size", [0, -1, 11])
def test_impossible_minibatches_are_refused(size):
    with pytest.raises(ValueError, match="cannot be drawn"):
        minibatch(0, "f", 0, 0, 10, size)


def test_draws_depend_on_the_step_and_on_nothing_that_was_asked_before():
    """A solver that asks more, or that starts later, meets the minibatches of every other."""
    busy, late = Oracle(finite_sum(), seed=3), Oracle(finite_sum(), seed=3)
    for step in range(4):
        busy.begin(step)
        busy.df(X, Y)
        busy.draw_f(5)
        drawn = [busy.draw_g(4), busy.draw_g(4), busy.draw_g(4)]
    late.begin(3)
    again = [late.draw_g(4), late.draw_g(4), late.draw_g(4)]
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_a_minibatch_larger_than_the_data_is_all_of_them():
    assert sorted(Oracle(finite_sum()).draw_f(100).tolist()) == list(range(N_F))


def test_all_rows_take_no_draw():
    """Neither counted nor taken from the stream, and to be had where the functions are no sums."""
    oracle, other = Oracle(finite_sum()), Oracle(finite_sum())
    for alone in (oracle, Oracle(finite_sum(n_f=1, n_g=1))):
        assert alone.draw_f(None) is alone.draw_g(None) is None
        assert not alone.calls
    assert torch.equal(oracle.draw_f(3), other.draw_f(3))
    assert torch.equal(oracle.draw_g(3), other.draw_g(3))


def test_no_minibatches_where_the_functions_are_no_sums():
    oracle = Oracle(finite_sum(n_f=1, n_g=1))
    for draw in (oracle.draw_f, oracle.draw_g):
        with pytest.raises(Unsupported, match="no finite sum"):
            draw(2)
    assert not oracle.calls


# -- specs and knobs


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)
names = st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True)
knob_names = names.filter(lambda name: not keyword.iskeyword(name))


@given(
    name=names, arguments=st.dictionaries(knob_names, literals, max_size=4), file=st.sampled_from(["", "a/my_one.py"])
)
def test_a_spec_survives_being_written_and_read(name, arguments, file):
    spec = Spec(name, arguments, file)
    assert parse(str(spec)) == spec


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(RequestError):
        assert isinstance(parse(text), Spec)


@pytest.mark.parametrize(
    "text",
    ["bome(", "bome(1)", "bome(lr=0.1))", "bome(lr=x)", "bome(lr=print())", "bome(**{})", "bome(lr=1, lr=2)"],
)
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(RequestError, match="cannot be read"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bome(T=0)", "T is at least 1"),
        ("bome(T=2.5)", "takes a whole number"),
        ("bome(T=True)", "takes a whole number"),
        ("bome(lr=-0.1)", "lr is at least 0"),
        ("bome(lr=True)", "takes a finite number"),
        ("bome(lr='fast')", "takes a finite number"),
        ("bome(lr=1e999)", "takes a finite number"),
        ("bome(lr_y=-1)", "lr_y is at least 0"),
        ("bome(phi='max')", "one of 'norm', 'gap'"),
        ("itd(warm=1)", "takes True or False"),
        ("soba(batch=0)", "batch is at least 1"),
        ("soba(batch=2.5)", "takes a whole number or None"),
        ("bome(learning_rate=0.1)", "has no knob"),
        ("bomb", "did you mean bome"),
        ("bome)", "did you mean bome"),
    ],
)
def test_bad_knobs_are_refused_in_one_sentence(text, words):
    with pytest.raises(RequestError) as refused:
        make_solver(text)
    assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_knobs_are_kept_in_their_type():
    made = make_solver("bome(lr=1, lr_y=2)")
    assert (type(made.lr), type(made.lr_y), made.lr_y) == (float, float, 2.0)
    assert make_solver("soba(batch=4)").batch == 4
    assert make_solver("soba(batch=None)").batch is None


def test_a_solver_may_move_the_lower_bounds_of_its_knobs():
    @solver("test_oracle_bounds")
    class Bounds:
        burn_in: int = 0
        growth: float = 1.5
        at_least = {"burn_in": 0, "growth": 1.0}  # noqa: RUF012

        def step(self, o, s):
            return s

    try:
        assert Bounds(burn_in=0).burn_in == 0
        for arguments, words in (({"burn_in": -1}, "at least 0"), ({"growth": 0.5}, "at least 1.0")):
            with pytest.raises(RequestError, match=words):
                Bounds(**arguments)
    finally:
        del SOLVERS.entries["test_oracle_bounds"]
