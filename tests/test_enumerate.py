"""Means over every outcome of a step: the piece that the tests of stochastic solvers stand on."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from bilevelbench import Point, make_solver
from bilevelbench.contract import check
from bilevelbench.contract import enumerate as enumerate_
from bilevelbench.contract.certificates import run
from bilevelbench.contract.enumerate import mean, minibatches_are_unbiased, outcomes
from bilevelbench.contract.quadratic import finite_sum, quadratic
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.resolve import knobs


class Seen(NamedTuple):
    x: Tensor
    y: Tensor
    drawn: tuple[object, ...]


class Gambler:
    """A length first, then as many minibatches."""

    def __init__(self, batch):
        self.batch = batch

    def init(self, o, x, y):
        return Seen(x, y, ())

    def step(self, o, s):
        p = o.integer(3)
        return Seen(s.x + p, s.y, (p, *(tuple(o.draw_g(self.batch).tolist()) for _ in range(p))))


def test_every_outcome_comes_once_with_its_probability():
    problem = finite_sum(quadratic(), n=4)
    seen = [(probability, state.drawn) for probability, state in outcomes(Gambler(2), problem)]
    assert len({drawn for _, drawn in seen}) == len(seen) == 1 + 6 + 36
    for probability, drawn in seen:
        assert probability == pytest.approx(1 / 3 / 6 ** drawn[0])
    assert Counter(drawn[0] for _, drawn in seen) == {0: 1, 1: 6, 2: 36}
    assert float((mean(Gambler(2), problem, lambda s: s.x) - problem.x0 - 1).abs().max()) < 1e-12
    assert [rows for _, rows in (drawn for _, drawn in seen if drawn[0] == 1)] == [
        (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)
    ]  # fmt: skip


def test_an_endless_step_is_refused(monkeypatch):
    monkeypatch.setattr(enumerate_, "MOST", 100)

    class Endless(Gambler):
        def step(self, o, s):
            for _ in range(20):
                o.integer(3)
            return Point(s.x, s.y)

    with pytest.raises(AssertionError, match="more than"):
        list(outcomes(Endless(1), finite_sum(quadratic(2, 1, 1.0))))


@pytest.mark.parametrize("batch", [1, 2])
def test_soba_s_three_directions_are_unbiased_at_any_state(batch):
    """Every part of the next state is linear in the rows of f and in those of g, which are drawn apart."""
    problem = finite_sum(quadratic(), n=3)
    state = run(make_solver("soba(lr_inner=0.5)"), problem, 3)
    whole = make_solver("soba(lr_inner=0.5)").step(Oracle(problem), state)
    for part in ("x", "y", "v"):
        found = mean(make_solver(f"soba(lr_inner=0.5,batch={batch})"), problem, lambda s, p=part: getattr(s, p), state)
        torch.testing.assert_close(found, getattr(whole, part), rtol=1e-12, atol=1e-13)


# Whose paper divides by a square of the minibatch that it multiplies; multiplies two things that one minibatch led to;
# steps by Adam.
BIASED = {"bsg1", "pzobo", "penalty_released"}
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]


@pytest.mark.parametrize("name", [name for name in NAMES if "batch" in knobs(SOLVERS.entries[name])])
def test_every_stochastic_solver_of_ours_is_unbiased(name):
    """Over all minibatches and random lengths of a step from the start, nothing sampled; ratios are not."""
    assert bool(SOLVERS.entries[name].make.biased) == (name in BIASED)
    if name == "pzobo":
        with pytest.raises(Unsupported, match="a normal vector takes more values than can be enumerated"):
            minibatches_are_unbiased(name)
        return
    assert "all minibatches" in minibatches_are_unbiased(name)


@pytest.mark.parametrize(
    ("name", "passes", "words"),
    [
        ("one_minibatch_twice", False, "draw one for each use"),
        ("one_minibatch_twice_and_says_so", True, "two factors share a minibatch"),
        ("unbiased_and_denies_it", False, "it says that it is biased"),
    ],
)
def test_check_finds_a_biased_step(name, passes, words):
    _, text = check(f"{Path(__file__).with_name('wrong_claims.py')}:{name}")
    (line,) = [line for line in text.splitlines() if line.strip().startswith("minibatches")]
    assert words in line
    assert ("FAILED" not in line) == passes


def test_what_draws_no_minibatches_is_not_asked():
    with pytest.raises(Unsupported, match="no knob batch"):
        minibatches_are_unbiased("itd")
