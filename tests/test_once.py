"""The family ``once``: first-order solvers run, the others are unsupported with a remedy, and judging is as good."""

import dataclasses
from functools import partial

import pytest
import torch
from torch.nn import functional

from bilevelbench import Draw, build_problem
from bilevelbench.contract.torchable import f_and_g_are_functions_of_torch
from bilevelbench.core.errors import Unsupported
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import make_solver
from bilevelbench.core.solver import require
from bilevelbench.measure.budget import Budget
from bilevelbench.measure.clock import Stopwatch
from bilevelbench.measure.guards import guard
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.trace import trace
from bilevelbench.problems import once

KINDS = ("multi_margin", "bag", "ctc", "attention")


def spec(kind):
    return f"once(kind={kind!r},n=8)"


# those that come with us: other tests register faulty ones
NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]


@pytest.mark.parametrize("kind", KINDS)
def test_all_first_order_solvers_run_and_all_others_hear_the_remedy(kind):
    rng, exact_rng = Draw(0), Draw(0)
    problem, exact = build_problem(spec(kind), rng), build_problem(spec(kind), exact_rng)
    ran, refused = set(), dict[str, str]()
    for name in NAMES:
        solver, budget = make_solver(name), Budget(steps=1)
        try:
            require(solver, problem)
            guard(partial(build_problem, spec(kind)), problem, rng, exact, exact_rng, solver)
        except Unsupported as reason:
            refused[name] = str(reason)
            continue
        *_, last = trace(problem, solver, 0, budget, lambda *look: {}, Stopwatch(lambda: None), False)
        assert last.status == "done", f"{name}: {last.reason}"
        ran.add(name)
    first = {name for name in NAMES if make_solver(name).order < 2}
    assert ran <= first
    for name, reason in refused.items():
        assert name in first or "needs second derivatives" in reason, reason
    if kind in ("multi_margin", "bag"):  # where solvers that need strong convexity may take part, too
        assert ran == first


def margins(y, a, t):
    scores = a @ y.view(once.WIDTH, once.CLASSES)
    own = scores.gather(1, t[:, None])
    others = functional.one_hot(t, once.CLASSES) == 0
    return ((1 - own + scores).relu() ** 2 * others).sum(1) / once.CLASSES


def bag(y, a, t):
    return functional.cross_entropy(y.view(once.WORDS, once.CLASSES)[a].mean(1), t, reduction="none")


def ctc(y, a, t):
    """A label of length one: some blanks, the label once or more, some blanks; a sum over where it begins and ends."""
    logs = once._tokens(y, a)
    total = len(logs)
    blank, own = logs[..., 0], logs.gather(2, (1 + t)[None, :, None].expand(total, -1, 1))[..., 0]
    paths = [
        blank[:first].sum(0) + own[first:end].sum(0) + blank[end:].sum(0)
        for first in range(total)
        for end in range(first + 1, total + 1)
    ]
    return -torch.logsumexp(torch.stack(paths), 0) / total


def attention(y, a, t):
    q, k, v, head = once.HEAD.split(y)
    weights = ((a @ q) @ (a @ k).transpose(1, 2) / once.WIDTH**0.5).softmax(-1)
    return functional.cross_entropy((weights @ (a @ v)).mean(1) @ head, t, reduction="none")


TWICE = dict(zip(KINDS, (margins, bag, ctc, attention), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_judging_without_second_derivatives_is_judging_with_them(kind, monkeypatch):
    """Against the same problem out of functions that have them."""
    found = []
    for losses in (once.MODELS[kind][1], TWICE[kind]):
        monkeypatch.setitem(once.MODELS, kind, (once.MODELS[kind][0], losses, once.MODELS[kind][2]))
        problem = build_problem(spec(kind), Draw(1))
        judge = Judge(problem)
        found.append(judge(problem.x0, problem.y0))
        assert judge._twice == (losses is TWICE[kind])
        assert not judge.unjudged
    one, other = found
    assert abs(one["f"] - other["f"]) <= 1e-12 * other["f"]
    for name in ("phi", "gap"):
        assert abs(one[name] - other[name]) <= 1e-9 * other[name], name
    assert abs(one["grad_phi"] - other["grad_phi"]) <= one["grad_phi_error"] + 1e-9 * other["grad_phi"]
    assert one["grad_phi_error"] <= 1e-5 * one["grad_phi"]


def test_check_finds_by_itself_what_is_differentiable_once(monkeypatch):
    assert f_and_g_are_functions_of_torch("once").endswith("f and g differentiable once")
    build = once.once

    def changed(**fields):
        entry = dataclasses.replace(
            PROBLEMS.entries["once"], make=lambda rng: dataclasses.replace(build(rng), **fields)
        )
        monkeypatch.setitem(PROBLEMS.entries, "once", entry)

    changed(flags=frozenset())
    assert "which is no fault: order 1 alone runs" in f_and_g_are_functions_of_torch("once")
    changed(f=lambda x, y, rows=...: y @ y, g=lambda x, y, rows=...: y @ y)
    with pytest.raises(AssertionError, match="flagged once, but torch has second derivatives"):
        f_and_g_are_functions_of_torch("once")
