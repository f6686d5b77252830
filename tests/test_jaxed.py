"""The engine jax: whole stretches in a call, with the numbers and counts of the eager one."""

import itertools
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch.utils._pytree import tree_leaves

jax = pytest.importorskip("jax", reason="the extra jax is not installed: .ci/nightly has it")

from bilevelbench import Problem, solver
from bilevelbench.asv import hand_jax
from bilevelbench.cli import cli
from bilevelbench.contract.quadratic import finite_sum, quadratic
from bilevelbench.core import aten, engines, jaxed, lowered
from bilevelbench.core.draw import Draw
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import build_problem, make_solver
from bilevelbench.core.solver import Stretching, require, start, stretch
from bilevelbench.core.stream import refuse_stream
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.run.suite import Block
from bilevelbench.run.worker import execute
from tests.test_engines import assert_same, made_runs, small

DRAWN = "finite_sum_quadratic(n=12,m=10,d=3,d_x=2)"


def run(made, problem, seed=0, looks=(0, 1, 3, 3, 20)):
    """The state after stretches from look to look, and the oracle."""
    oracle = Oracle(problem, seed)
    state = start(made, problem, oracle)
    for first, last in itertools.pairwise(looks):
        state = stretch(made, oracle, state, first, last)
    return state, oracle


def assert_as_eager(text, solver_text, dtype=torch.float64, tolerance=1e-11, **options):
    problem, plain = build_problem(text, Draw(0, dtype=dtype)), make_solver(solver_text)
    driven = engines.driven("jax", plain, problem)
    found, counted = run(driven, problem, 3, **options)
    eager, expected = run(plain, problem, 3, **options)
    assert_same(found, eager, tolerance)
    assert (counted.calls, counted.rows, counted.passes) == (expected.calls, expected.rows, expected.passes)
    return driven


@pytest.mark.parametrize(
    ("problem", "solver", "ways"),
    [
        ("quadratic(d=3)", "bome(T=2)", 1),  # nothing but a count of steps changes: a stretch is one call
        ("quadratic(d=3)", "bome(T=1,update='adam')", 1),  # numbers that change are made ahead
        (DRAWN, "soba(batch=4,decay=0.5)", 1),  # and minibatches
        ("quadratic(d=3)", "pzobo(T=1,Q=2)", 1),  # and directions
        ("quadratic(d=3)", "vpbgd(ramp=3)", 2),  # a step that Python decides otherwise ends a call
        (DRAWN, "srba(batch=2,period=3)", 2),
        ("bounded_sine", "itd(T=2)", 1),  # bounds
        ("hyper_cleaning", "aid_cg(T=1,K=1)", 1),  # losses
    ],
)
def test_stretches_equal_eager_steps(problem, solver, ways):
    driven = assert_as_eager(problem, solver)
    assert len(driven._made) == ways


def test_float32_stays_float32():
    driven = assert_as_eager("quadratic(d=3)", "soba(decay=0.5)", torch.float32, 1e-5)
    state, _ = run(driven, driven._problem)
    assert {leaf.dtype for leaf in tree_leaves(state) if isinstance(leaf, torch.Tensor)} == {torch.float32}


@pytest.mark.parametrize(("solver", "calls"), [("bome(T=1)", 1), ("soba(decay=0.5)", 4)])
def test_what_only_counts_its_steps_is_one_call(monkeypatch, solver, calls):
    """A stretch of 40 steps; where numbers are made ahead, ten at a time here."""
    monkeypatch.setattr(jaxed, "AHEAD", 10)
    driven = assert_as_eager("quadratic(d=3)", solver)
    ((recording, loop),), asked = driven._made, []
    driven._made[0] = recording, loop._replace(run=lambda n, *given: asked.append(n) or loop.run(n, *given))
    run(driven, driven._problem, looks=(0, 40))
    assert len(asked) == calls
    assert sum(asked) == 40


@pytest.mark.parametrize("ahead", [1, 4])
def test_draws_are_cut_where_they_need_to_be(monkeypatch, ahead):
    """However many steps are drawn ahead, each meets its own minibatch, and is counted once."""
    monkeypatch.setattr(jaxed, "AHEAD", ahead)
    assert_as_eager(DRAWN, "soba(batch=4,decay=0.5)", looks=(0, 1, 2, 6, 10, 11))


def test_draws_of_large_vectors_take_little_room(monkeypatch):
    monkeypatch.setattr(jaxed, "ROOM", 100)  # a step's two directions of three numbers are 48 bytes
    driven = assert_as_eager("quadratic(d=3)", "pzobo(T=1,Q=2)", looks=(0, 7))
    assert driven._made[0][1].most == 2


def test_nan_stays_nan():
    """A step that is far too long: infinities, then NaN, in the same entries."""
    problem, plain = build_problem("quadratic(d=3,start=1.0)", Draw(0)), make_solver("bome(lr=1e200,T=1)")
    found, _ = run(engines.driven("jax", plain, problem), problem)
    eager, _ = run(plain, problem)
    assert eager.x.isnan().any()
    assert torch.equal(found.x.isnan(), eager.x.isnan())


class Opens(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor
    v: object  # nothing, then a vector


class Changing:
    """A state that is another thing after its first step."""

    name = "changing"

    def init(self, o, x, y):
        return Opens(x, y, None)

    def step(self, o, s):
        v = o.dg_y(s.x, s.y) if s.v is None else 0.5 * s.v + o.dg_y(s.x, s.y)
        return Opens(s.x - 0.1 * o.df_x(s.x, s.y), s.y - 0.1 * v, v)


def test_a_state_may_change_its_form():
    problem = finite_sum(quadratic(3, 3, 3.0))
    driven = engines.driven("jax", Changing(), problem)
    found, counted = run(driven, problem)
    eager, expected = run(Changing(), problem)
    assert_same(found, eager)
    assert counted.calls == expected.calls
    assert [made.most for _, made in driven._made] == [1, jaxed.AHEAD]


def in_place(x, y):
    kept = torch.zeros_like(y)
    kept[:2] = y[:2]
    kept.mul_(2)
    return ((kept - x) ** 2).sum() + (y**2).sum()


def test_functions_that_fill_tensors_are_taken():
    zero = torch.ones(3, dtype=torch.float64)
    problem, plain = Problem(in_place, in_place, zero, zero), make_solver("itd(T=2)")
    found, _ = run(engines.driven("jax", plain, problem), problem)
    assert_same(found, run(plain, problem)[0])


# -- what it refuses


def test_a_wrong_lowering_is_found(monkeypatch):
    """The first step is held to torch's."""
    monkeypatch.setitem(aten.PRODUCTS, "mv", lambda *given, **named: 1.001 * aten._product(*given, **named))
    monkeypatch.setitem(aten.TABLE, "mv", aten.PRODUCTS["mv"])
    problem = build_problem("quadratic(d=3)", Draw(0))
    with pytest.raises(
        Unsupported, match=r"a step of itd by JAX is [\d.]+e-0\d of its largest entry from that by torch"
    ):
        run(engines.driven("jax", make_solver("itd(T=1)"), problem), problem)


def test_what_has_no_word_in_jax_is_named(monkeypatch):
    monkeypatch.delitem(aten.TABLE, "mv")
    monkeypatch.setattr(lowered, "decomposition_table", {})
    problem = build_problem("quadratic(d=3)", Draw(0))
    with pytest.raises(Unsupported, match=r"a step of itd cannot be lowered to JAX: it takes aten\.mv\.default, which"):
        run(engines.driven("jax", make_solver("itd(T=1)"), problem), problem)


def test_as_many_entries_as_a_condition_holds_for_are_refused():
    def f(x, y):
        return (y[y > 0] ** 2).sum() + x @ x

    zero = torch.ones(3, dtype=torch.float64)
    problem = Problem(f, f, zero, zero)
    with pytest.raises(Unsupported, match="itd cannot be"):
        run(engines.driven("jax", make_solver("itd(T=1)"), problem), problem)


def test_a_step_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(jaxed, "LONGEST", 10)
    problem = build_problem("quadratic(d=3)", Draw(0))
    with pytest.raises(Unsupported, match="would compile for minutes; --engine compiled_oracle"):
        run(engines.driven("jax", make_solver("itd(T=3)"), problem), problem)


def test_it_runs_on_the_cpu():
    elsewhere = SimpleNamespace(x0=torch.empty(0, device="meta"))
    with pytest.raises(Unsupported, match="runs on the CPU, and this run is on meta"):
        engines.driven("jax", make_solver("itd"), elsewhere)


def test_without_the_package_a_request_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = "the engine jax needs another package: pip install 'bilevelbench[jax]'"
    with pytest.raises(RequestError) as refused:
        Block(("quadratic",), ("bome",), steps=1, engine="jax")
    assert str(refused.value) == words
    with pytest.raises(Unsupported) as unsupported:
        engines.driven("jax", make_solver("itd"), build_problem("quadratic(d=3)", Draw(0)))
    assert str(unsupported.value) == words
    with pytest.raises(RequestError, match="pip install"):
        cli.main(["run", "-p", "quadratic", "-s", "bome", "--engine", "jax"], standalone_mode=False)


def test_a_solver_takes_steps_and_no_stretches():
    with pytest.raises(RequestError, match="'strides' is made of Stretching, which is for engines"):

        @solver("strides")
        class Strides(Stretching):
            def step(self, o, s):
                return s


# -- what it leaves alone


def test_jax_is_left_as_it_was():
    before = {name: os.environ.get(name) for name in ("NPROC", "XLA_FLAGS")}
    assert_as_eager("quadratic(d=3)", "soba")
    assert {name: os.environ.get(name) for name in before} == before
    assert jax.numpy.ones(3).dtype == "float32"
    assert not jax.config.jax_enable_x64


def test_jax_waits_until_it_is_asked_for():
    code = "import sys, bilevelbench, bilevelbench.run.worker; assert 'jax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_one_thread_does_the_work():
    problem, plain = build_problem("quadratic(d=300)", Draw(0)), make_solver("itd(T=2)")
    driven, oracle = engines.driven("jax", plain, problem), Oracle(problem)
    state = stretch(driven, oracle, start(plain, problem, oracle), 0, 2)
    mine, every = time.thread_time(), time.process_time()
    stretch(driven, oracle, state, 2, 3000)
    assert time.thread_time() - mine > 0.95 * (time.process_time() - every)


# -- runs


def test_a_run_books_its_compiling(tmp_path):
    jobs, records = made_runs(tmp_path, engine="jax")
    for job in jobs[:2]:
        execute(job)
    good, bad, *_ = records()
    assert good.status == "done"
    assert good.header["key"]["engine"] == "jax"
    assert good.rows[0]["compile_seconds"] > 0
    assert good.rows[-1]["compile_seconds"] == good.rows[0]["compile_seconds"], "compiled again within the run"
    assert (bad.status, len(bad.rows)) == ("unsupported", 1)
    assert "by the value of a tensor" in bad.rows[0]["reason"]


def test_what_was_compiled_is_not_compiled_again():
    problem, plain, watch = build_problem("quadratic(d=3)", Draw(0)), make_solver("itd(T=1)"), Stopwatch(lambda: None)
    driven = engines.driven("jax", plain, problem, watch)
    run(driven, problem)
    taken = watch.accounts["compile"]
    assert taken > 0
    run(driven, problem)
    assert watch.accounts["compile"] == taken


@pytest.mark.parametrize(("problem", "solver"), [("quadratic(d=20)", "bome"), ("hyper_cleaning", "soba")])
def test_the_loops_by_hand_make_the_same_iterates(problem, solver):
    """All four on both in the slower tier, by ``test_all_loops_by_hand``."""
    pair = hand_jax.Pair(problem, solver)
    pair.engine(5)
    pair.by_hand(5)
    assert pair.apart() < 1e-10
    assert pair.watch.accounts["compile"] > 0


@pytest.mark.full(sibling="test_the_loops_by_hand_make_the_same_iterates")
@pytest.mark.parametrize("problem", ["quadratic(d=20)", "hyper_cleaning"])
@pytest.mark.parametrize("solver", hand_jax.SOLVERS)
def test_all_loops_by_hand(problem, solver):
    test_the_loops_by_hand_make_the_same_iterates(problem, solver)


# -- all families


def swept(problem_text, solver_text):
    """Whether three steps were the eager ones; else why there are none."""
    problem, plain = build_problem(problem_text, Draw(0)), small(solver_text)
    try:
        require(plain, problem)
        refuse_stream(problem.stream is not None, "jax")
        driven = engines.driven("jax", plain, problem)
        found, counted = run(driven, problem, looks=(0, 1, 3))
    except Unsupported as reason:
        return str(reason)
    eager, expected = run(plain, problem, looks=(0, 1, 3))
    assert_same(found, eager, 1e-7)
    assert (counted.calls, counted.rows) == (expected.calls, expected.rows)
    return ""


REASONS = (  # all but the last are those of every engine that records
    "has no way with", "which this problem does not offer", "changes with the step", "decides in Python",
    "makes a tensor of numbers", "cannot be lowered to JAX: it picks as many entries",
)  # fmt: skip


@pytest.mark.parametrize("problem", ["coreset", "logistic", "pl_sine", "policy"])
def test_families_equal_eager(problem):
    """Every family in the slower tier, by ``test_every_family_equals_eager``."""
    assert swept(problem, "bome") == ""


@pytest.mark.full(sibling="test_families_equal_eager")
@pytest.mark.parametrize("problem", [*PROBLEMS.names(), "hyper_cleaning(model='cnn')", "hyper_cleaning(model='mlp')"])
def test_every_family_equals_eager(problem):
    refused = [reason for name in ("bome", "itd", "aid_cg", "penalty") if (reason := swept(problem, name))]
    assert not [reason for reason in refused if not any(words in reason for words in REASONS)]


@pytest.mark.full(sibling="test_stretches_equal_eager_steps")
@pytest.mark.parametrize("name", SOLVERS.names())
def test_every_solver_equals_eager(name):
    for problem in ("quadratic(d=3)", DRAWN, "bounded_sine"):
        reason = swept(problem, name)
        assert not reason or any(words in reason for words in REASONS), reason


@pytest.mark.process(sibling="test_a_run_books_its_compiling")
def test_a_command_keeps_what_it_compiled(tmp_path):
    """Runs in forked processes, and XLA's work kept for the next command."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "bilevelbench", "run", "-p", "quadratic(d=3)", "-s", "itd(T=1)", "--steps", "200"]
    for seeds in ("0-1", "2"):
        done = subprocess.run(
            [*command, "--engine", "jax", "--seeds", seeds, "--out", str(tmp_path / seeds)],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.name.startswith("jit_run")}
        assert kept
    assert len(kept) <= 4, "the second command compiled again"
