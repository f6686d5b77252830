"""The outer step that all solvers share, against torch.optim, and that every solver of ours has it."""

import itertools

import pytest
import torch

from bilevelbench import Oracle, Outer, make_solver
from bilevelbench.contract.quadratic import quadratic
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import start

NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]
TORCH = {
    "plain": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "heavy_ball": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.8),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr, betas=(0.8, 0.999), eps=1e-8),
}


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("update", TORCH)
def test_moves_are_those_of_torch_optim(update, decay):
    """Fifty steps on two variables of a nonconvex function; decay is a LambdaLR (k + 1)^-decay."""
    rule = Outer(lr=0.05, update=update, momentum=0.8, decay=decay)
    x, y = torch.linspace(-1, 1, 3).double(), torch.linspace(0.5, 2, 2).double()
    theirs = [x.clone().requires_grad_(), y.clone().requires_grad_()]
    optimizer = TORCH[update](theirs, 0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) ** -decay)
    m = rule.moments(x, y)
    for _ in range(50):
        ours = [x.clone().requires_grad_(), y.clone().requires_grad_()]
        for point in (ours, theirs):
            for variable in point:
                variable.grad = None
            (torch.sin(point[0]).sum() * point[1].sum() + (point[1] ** 4).sum()).backward()
        m, dx, dy = rule.move(m, ours[0].grad, ours[1].grad)
        x, y = x - rule.lr * dx, y - rule.lr * dy
        optimizer.step()
        schedule.step()
        torch.testing.assert_close((x, y), tuple(t.detach() for t in theirs), rtol=1e-12, atol=1e-13)
    assert m.k == 50


@pytest.mark.parametrize("name", NAMES)
def test_no_solver_has_a_better_optimiser_than_another(name):
    """Every solver of ours that steps on x does so by the shared piece; two controls do not: one stays, one guesses."""
    if name in ("lower_only", "random_search"):
        assert not hasattr(SOLVERS.entries[name].make, "lr")
        return
    assert issubclass(SOLVERS.entries[name].make, Outer)


# x of these does not move along a direction.
SAMPLED = {"lower_only", "random_search"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SAMPLED])
def test_the_update_is_what_moves_x(name):
    """Adam's first step is as long in every coordinate, whatever the direction; heavy ball's second adds the first."""
    q = quadratic()

    def states(text):
        solver, oracle = make_solver(text), Oracle(q.problem)
        made = [start(solver, q.problem, oracle)]
        for k in range(2):
            oracle.begin(k)
            made.append(solver.step(oracle, made[-1]))
        return made

    adam = states(f"{name}(lr=0.001,update='adam')")
    lengths = (adam[1].x - adam[0].x).abs()
    assert 1e-5 < float(lengths[0]) < 1.001e-3  # lr, or less where the method divides it by its penalty
    torch.testing.assert_close(lengths, lengths[:1].expand(3), rtol=1e-3, atol=1e-9)
    plain, ball = (
        states(f"{name}(lr=0.001,update='plain')"),
        states(f"{name}(lr=0.001,update='heavy_ball',momentum=0.5)"),
    )
    torch.testing.assert_close(ball[1].x, plain[1].x, rtol=0, atol=0)
    first, second = (b.x - a.x for a, b in itertools.pairwise(ball))
    bare = make_solver(f"{name}(lr=0.001,update='plain')")
    again = Oracle(q.problem)
    again.begin(1)
    own = bare.step(again, plain[1]).x - plain[1].x
    if torch.allclose(plain[1].y, ball[1].y):  # y is moved by other means: the second direction is the plain one
        torch.testing.assert_close(second, own + 0.5 * first, rtol=1e-6, atol=1e-9)
