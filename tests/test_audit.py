"""Every shipped solver passes what is held against a run, and its replay; a replay tells what is not the same."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from bilevelbench.core import derive, functional
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.meter import Meter, Tally, difference, metered
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Point, require
from bilevelbench.measure import marks
from bilevelbench.measure.audit import replay
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.failure import Foul
from bilevelbench.measure.marks import Marks, pack, unpack
from bilevelbench.measure.trace import trace
from bilevelbench.measure.windows import draw, windows

BATCHED = "finite_sum_quadratic"
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]
CASES = [("quadratic(d=4)", ""), (BATCHED, "(batch=8)"), ("box_quadratic", ""), ("coupled_equality", "")]


def timed(problem, solver, folder, steps=14, engine=derive):
    run = trace(
        problem, solver, 3, Budget(steps=steps), lambda *look: {"phi": 0.0}, Stopwatch(lambda: None), False, engine,
        meter=Meter(), marks=Marks(folder),
    )  # fmt: skip
    *_, last = run
    return last


@pytest.mark.parametrize("name", NAMES)
def test_every_solver_that_is_shipped_passes(name, tmp_path):
    """Timed with all that is held against it at looks, then made again: with minibatches and bounds, too."""
    passed = 0
    for number, (text, knobs) in enumerate(CASES):
        try:
            solver = make_solver(name + knobs)
            random = Draw(3)
            problem = build_problem(text, random)
            require(solver, problem)
        except (RequestError, Unsupported):
            continue
        last = timed(problem, solver, tmp_path / str(number))
        assert last.status == "done", f"on {text}: {last.reason}"
        found = replay(problem, solver, 3, tmp_path / str(number), draw(tmp_path / str(number)), random.data)
        assert found["ok"], f"on {text}: {found['reason']}"
        passed += 1
    assert passed


@pytest.mark.parametrize("name", ["soba", "fmd", "aid_cg"])  # fmd: both engines keep graphs, not the same ones
def test_a_run_by_the_functional_engine_is_made_again_by_the_eager_one(name, tmp_path):
    problem, solver = build_problem("quadratic(d=4)", Draw(3)), make_solver(name)
    assert timed(problem, solver, tmp_path, engine=functional).status == "done"
    assert replay(problem, solver, 3, tmp_path, draw(tmp_path), loose=True)["ok"]


def rounded_otherwise(fn, x, y, *rows):
    """The gradient in y as an engine might round it that adds its terms in another order."""
    unit = torch.finfo(y.dtype).eps * torch.ones_like(y)
    unit[1::2] *= -1
    return functional.grad_y(fn, x, y * (1 + unit), *rows)


reordered = SimpleNamespace(**vars(functional) | {"grad_y": rounded_otherwise})


class Kept(NamedTuple):
    x: Tensor
    y: Tensor
    gradient: Tensor


class Descent:
    """Gradient descent that keeps the last gradient: noise, once it has arrived."""

    name = "descent"

    def __init__(self, off: float = 0.0):
        self._off = off

    def init(self, o, x, y):
        return Kept(x, y, torch.zeros_like(y))

    def step(self, o, s):
        gradient = o.dg_y(s.x, s.y)
        return Kept(s.x, s.y - 0.5 * gradient, gradient * (1 + self._off))


@pytest.mark.parametrize("steps", [40, 3000])
def test_what_has_vanished_is_compared_with_what_rounding_does_to_it(steps, tmp_path):
    """The engines' gradients differ by all of their size at y*(x); the same engine has to make the same again."""
    problem = build_problem("quadratic(d=30,kappa=10)", Draw(3))
    assert timed(problem, Descent(), tmp_path, steps, engine=reordered).status == "done"
    last = windows(tmp_path)[-1]
    assert replay(problem, Descent(), 3, tmp_path, last, loose=True)["ok"]
    told = replay(problem, Descent(), 3, tmp_path, last)
    assert steps == 40 or "gradient differs by" in told["reason"], "the case has to be one"


def test_a_difference_that_rounding_does_not_make_is_told_of_any_engine(tmp_path):
    problem = build_problem("quadratic(d=30,kappa=10)", Draw(3))
    assert timed(problem, Descent(), tmp_path, 40).status == "done"
    found = replay(problem, Descent(off=1e-5), 3, tmp_path, windows(tmp_path)[-1], loose=True)
    assert "gradient differs by" in found["reason"]


def test_a_run_in_float32_is_made_again(tmp_path):
    problem, solver = build_problem("quadratic(d=4)", Draw(3, dtype=torch.float32)), make_solver("bome")
    assert timed(problem, solver, tmp_path).status == "done"
    assert replay(problem, solver, 3, tmp_path, draw(tmp_path))["ok"]


# -- what a replay tells


class Steps:
    """A solver of nothing but a step."""

    name = "steps"

    def __init__(self, step):
        self._step = step

    def init(self, o, x, y):
        return Point(x, y)

    def step(self, o, s):
        return self._step(o, s)


def plain(o, s):
    return Point(s.x, s.y - 0.1 * o.dg_y(s.x, s.y))


def again(first, second, folder, steps=8):
    """What is found where the run's steps were others than those of the replay."""
    problem = build_problem(BATCHED, Draw(3))
    assert timed(problem, Steps(first), folder, steps).status == "done"
    return replay(problem, Steps(second), 3, folder, windows(folder)[-1])


def test_the_same_is_the_same(tmp_path):
    found = again(plain, plain, tmp_path)
    assert found == {"ok": True, "from": found["from"], "to": found["from"] + 1}


def test_another_number_of_answers_is_told(tmp_path):
    def more(o, s):
        o.dg_y(s.x, s.y)
        return plain(o, s)

    found = again(plain, more, tmp_path)
    assert (found["ok"], found["fault"]) == (False, "solver")
    assert found["reason"] == (
        f"step {found['to']}, made again from the same state, asks 2 dg_y of 1024 rows; in the run it was 1 dg_y of "
        "1024 rows"
    )
    found = again(plain, more, tmp_path / "long", 100)
    assert found["to"] - found["from"] > 1
    assert found["reason"].startswith(f"steps {found['from'] + 1} to {found['to']}, made again")


def test_start_and_first_step_are_made_again_whatever_window_is_drawn(tmp_path):
    def later(o, s):
        return plain(o, s) if o.step else Point(s.x, s.y - 0.2 * o.dg_y(s.x, s.y))

    assert again(plain, later, tmp_path)["reason"].startswith("its first step, made again")


def test_other_rows_are_told(tmp_path):
    def fewer(o, s):
        return Point(s.x, s.y - 0.1 * o.dg_y(s.x, s.y, torch.arange(3)))

    assert "of 3 rows" in again(plain, fewer, tmp_path)["reason"]


def test_another_iterate_is_told(tmp_path):
    def elsewhere(o, s):
        return Point(s.x, s.y - 0.1001 * o.dg_y(s.x, s.y))

    found = again(plain, elsewhere, tmp_path)
    assert "ends elsewhere: y differs by" in found["reason"]


def test_rounding_is_not(tmp_path):
    def nearly(o, s):
        return Point(s.x, plain(o, s).y * (1 + 1e-14))

    assert again(plain, nearly, tmp_path)["ok"]


def test_what_raises_is_told(tmp_path):
    def raises(o, s):
        raise SystemExit(3)

    found = again(plain, raises, tmp_path)
    assert "it raised SystemExit: 3" in found["reason"]


# -- marks


def test_windows_are_an_eighth_of_a_stretch_anywhere_in_it(tmp_path):
    kept = Marks(tmp_path)
    drawn = {kept.within(160, 240) for _ in range(2000)}
    assert {end - begin for begin, end in drawn} == {10}
    assert min(drawn)[0] == 160
    assert max(drawn)[1] == 240
    assert kept.within(5, 6) == (5, 6)
    begin, end = kept.within(0, 10**6)
    assert end - begin == marks.LONGEST


def test_a_window_is_drawn_by_its_steps(tmp_path):
    for window in ("0-1", "8-9", "10-20"):
        (tmp_path / f"{window}.pt").touch()
    (tmp_path / "0-0.pt").touch()
    drawn = [draw(tmp_path) for _ in range(600)]
    assert set(drawn) == {(0, 1), (8, 9), (10, 20)}
    assert drawn.count((10, 20)) > 400


def test_no_window_is_said(tmp_path):
    with pytest.raises(LookupError, match="no window"):
        draw(tmp_path)


def test_beyond_so_many_bytes_states_are_left_out(tmp_path, monkeypatch):
    problem = build_problem("quadratic(d=4)", Draw(3))
    monkeypatch.setattr(marks, "MOST", 300)  # a state is 64 bytes, a window two of them
    assert timed(problem, Steps(plain), tmp_path).status == "done"
    assert windows(tmp_path) == [(0, 0), (0, 1)]


class Whole(NamedTuple):
    x: Tensor
    parts: tuple
    more: list
    named: dict
    n: int
    none: None


def test_a_state_comes_back(tmp_path):
    x = torch.arange(3.0)
    state = Whole(x, (x, 1.5), [x + 1, Point(x, x)], {"a": x}, 7, None)
    torch.save(pack(state), tmp_path / "state.pt")
    made = unpack(torch.load(tmp_path / "state.pt", weights_only=True), {"Whole": Whole, "Point": Point}, x.device)
    assert str(made) == str(state)
    assert type(made) is Whole


def test_a_view_is_kept_without_what_it_is_a_view_of(tmp_path):
    torch.save(pack(Point(torch.zeros(10**6)[:2], torch.zeros(2))), tmp_path / "state.pt")
    assert (tmp_path / "state.pt").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (lambda: 1, "holds a function"),
        (object(), "holds a object"),
        ((k for k in ()), "holds a generator"),
        (torch.nn.Parameter(torch.zeros(1)), "holds a Parameter"),
        (torch.zeros(1, requires_grad=True), "carries a graph"),
    ],
)
def test_what_cannot_be_made_again_is_refused(leaf, words):
    with pytest.raises(Foul, match=words):
        pack(Point(torch.zeros(1), leaf))


# -- the two books


def books(work, text=BATCHED):
    """What is found after some work with (oracle, metered problem)."""
    problem, tally, meter = build_problem(text, Draw(0)), Tally(), Meter()
    problem = metered(problem, meter)
    work(Oracle(problem, 0, tally=tally), problem)
    return difference(tally, meter)


def test_the_books_agree_on_every_kind_of_answer():
    def work(o, p):
        x, y, rows = p.x0, p.y0, o.draw_g(5)
        for given in ((), (rows,)):
            o.f(x, y, *given), o.df(x, y, *given), o.df_x(x, y, *given), o.df_y(x, y, *given)
            o.g(x, y, *given), o.dg(x, y, *given), o.dg_x(x, y, *given), o.dg_y(x, y, *given)
            o.d2f(x, y, y, *given), o.d2g(x, y, y, *given), o.d2g_xy(x, y, y, *given)
            o.d2g_yy(x, y, y, *given), o.d2g_yx(x, y, x, *given)
        o.normal(3), o.integer(3), o.project_x(x), o.project_y(y), o.project_y_back(y, y), o.project_xy(x, y)
        h = o.h_g(x, y)
        o.dh_g(x, y, h), o.dh_g_x(x, y, h), o.dh_g_y(x, y, h), o.h_f(x, y)

    assert books(work) == ""
    assert (
        books(lambda o, p: (o.project_x(p.x0), o.project_y(p.y0), o.project_y_back(p.y0, p.y0)), "box_quadratic") == ""
    )


def test_rows_are_counted_in_both():
    def work(o, p):
        o.dg_y(p.x0, p.y0, torch.arange(3))
        p.g(p.x0, p.y0, torch.arange(4))

    assert books(work) == "g was asked 2 times and the oracle accounts for 1"


def test_fewer_rows_for_more_are_found():
    def work(o, p):
        o._engine = type(
            "Engine", (), {"grad_y": staticmethod(lambda fn, x, y, rows: derive.grad_y(fn, x, y, rows[:1]))}
        )
        o.dg_y(p.x0, p.y0, torch.arange(3))

    assert books(work) == "g was asked once for 1 rows and the oracle accounts for 0"
