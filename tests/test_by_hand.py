"""Loops by hand make their solvers' iterates: the ratio of seconds compares two ways to do one thing."""

import pytest
import torch

from bilevelbench import Draw, Oracle, build_problem, make_solver
from bilevelbench.asv.hand import LOOPS, Hand
from bilevelbench.contract.layers import problem_of
from bilevelbench.core.solver import start, stretch
from bilevelbench.measure import by_hand, ratio
from bilevelbench.measure.ratio import floor_of, step_over_floor

# small steps, many hits of Penalty's tolerance, and knobs other than the defaults
KNOBS = {
    "bome": "T=3,lr=0.03,lr_y=0.05", "itd": "T=4,lr=0.03", "aid_cg": "T=3,K=3,lr=0.03",
    "aid_neumann": "T=3,K=4,lr_linear=0.05", "soba": "lr=0.03", "penalty": "T=3,eps=9.0,lam=0.5,gamma=2.0",
    "f2sa": "T=3,lam=3.0", "vpbgd": "T=2,gamma=3.0,lr=0.03",
}  # fmt: skip


@pytest.mark.parametrize("problem", ["quadratic", "hyper_cleaning"])
@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_makes_the_iterates_of_its_solver(name, problem):
    made = build_problem(problem, Draw(0))
    for text in (name, f"{name}({KNOBS[name]})", "itd(T=3,warm=False)" if name == "itd" else name):
        solver, oracle = make_solver(text), Oracle(made)
        loop = by_hand.by_hand(made, solver)
        assert loop, text
        state = by_hand.begin(made, solver)
        for _ in range(4):
            state = loop(*state)
        end = stretch(solver, oracle, start(solver, made, oracle), 0, 4)
        wanted = [part for part in end if isinstance(part, torch.Tensor)]
        assert not any(part.requires_grad for part in state)
        torch.testing.assert_close(list(state), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bome(phi='gap')", "quadratic"), ("aid_cg(damping=0.1)", "quadratic"), ("soba(update='adam')", "quadratic"),
        ("f2sa(growth=0.3)", "quadratic"), ("itd", "box_quadratic"), ("penalty", "coupled_equality"),
        ("lower_only", "quadratic"),
    ],
)  # fmt: skip
def test_what_no_loop_was_written_for_has_none(text, problem):
    """Its floor are the bare derivatives that it asks for."""
    made, solver = build_problem(problem, Draw(0)), make_solver(text)
    assert by_hand.by_hand(made, solver) is None
    floor_of(made, solver, 1)()


def test_the_floor_of_a_solver_is_its_loop(monkeypatch):
    made = []
    monkeypatch.setattr(ratio, "answer", lambda *asked: made.append("bare"))
    for name in ("bome", "bsa"):
        floor_of(problem_of(""), make_solver(name), 1)()
    assert made == ["bare"]
    assert 0.3 < step_over_floor(problem_of(""), make_solver("bome"), 3).median < 5


def test_a_namesake_has_no_loop():
    """The name alone does not tell: a file of somebody's may have a solver of one of these names."""
    made = build_problem("quadratic", Draw(0))
    namesake = type("Namesake", (), {**dict(vars(make_solver("bome"))), "name": "bome"})()
    assert by_hand.by_hand(made, namesake) is None
    assert by_hand.by_hand(made, make_solver("bome_released")) is None


def test_seconds_of_a_loop():
    made = build_problem("quadratic", Draw(0))
    assert 0 < by_hand.seconds(made, make_solver("soba")) < 1
    assert by_hand.seconds(made, make_solver("lower_only")) is None


def test_asv_follows_every_loop():
    assert Hand.params[1] == LOOPS
    assert set(LOOPS) == set(by_hand.LOOPS) == set(by_hand.PLAIN)
    bench = Hand()
    bench.setup("quadratic(d=100)", "soba")
    assert 0.3 < bench.track_step_over_hand("quadratic(d=100)", "soba") < 5
    with pytest.raises(NotImplementedError):
        bench.setup("quadratic", "nobody_s")
