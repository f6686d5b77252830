"""Small siblings of the campaign that holds the judge to a re-solve of another kind."""

from collections import Counter

import pytest

from bilevelbench import Draw, build_problem
from bilevelbench.measure.judge import Judge
from tests.campaigns.judged import held, solve, wrong
from tests.campaigns.networks import LOWER, WIDE, network
from tests.campaigns.price_of_judging import SOLVERS as TWO
from tests.campaigns.price_of_judging import once

SOLVERS = ("bome(lr=0.01,lr_inner=0.1,lr_y=0.1,T=5)",)


@pytest.mark.parametrize("text", ["quadratic(kappa=100)", "fair", "once", "network: tanh"])
def test_a_re_solve_of_ones_own_agrees_with_the_judge(text, capsys):
    counts = Counter()
    held(text, network("tanh") if text.startswith("network") else text, SOLVERS, counts)
    assert counts["held"] == counts["points"] == 3
    assert not [what for what in counts if what.startswith("WRONG")], capsys.readouterr().out


@pytest.mark.parametrize("figure", ["phi", "grad_phi", "gap"])
@pytest.mark.parametrize("text", ["quadratic(kappa=100)", "fair"])
def test_a_figure_that_is_off_is_found(text, figure):
    p = build_problem(text, Draw(0))
    judged, own = Judge(p)(p.x0, p.y0), solve(p, p.x0, p.y0)
    assert not list(wrong(p, judged, p.x0, p.y0, own))
    (sentence,) = wrong(p, judged | {figure: judged[figure] * 1.001}, p.x0, p.y0, own)
    assert sentence.startswith(f"{figure} ")


def test_there_are_ten_networks():
    assert len(LOWER) == 10
    assert all(network(name).y0.numel() <= 600 for name in LOWER)
    assert all(network(name).y0.numel() > 4000 for name in WIDE)


def test_judging_is_timed_apart_from_solving():
    judging, solving, judge = once(network("tanh"), TWO[0], 3)
    assert judging > 0
    assert solving > 0
    assert judge.due == 4
