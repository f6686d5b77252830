"""The steps on x and on y that solvers share, against torch.optim, and that every solver of ours has them."""

import itertools

import pytest
import torch

from bilevelbench import Inner, Oracle, Outer, RequestError, make_solver
from bilevelbench.contract.quadratic import quadratic
from bilevelbench.core.registry import SOLVERS
from bilevelbench.core.solver import start

NAMES = [name for name in SOLVERS.names() if SOLVERS.entries[name].make.__module__.startswith("bilevelbench.solvers.")]
SAMPLED = {"lower_only", "random_search"}  # x of these does not move along a direction
GAMES = {"ogd", "ogd_in_bome"}  # whose step is the method: twice the gradient less the last one
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


def test_sparse_adam_moves_what_has_a_direction_as_torch_does():
    """Against ``torch.optim.SparseAdam``, step by step with other entries each time; the others rest."""
    rule, x = Outer(update="sparse_adam"), torch.linspace(-1, 1, 6).double()
    theirs = x.clone().requires_grad_()
    optimizer, m = torch.optim.SparseAdam([theirs], lr=0.1, eps=1e-15), rule.moments(x)
    for step in range(12):
        rows = torch.tensor([step % 6, (step * step + 1) % 6]).unique()
        slope = torch.zeros(6).double()
        slope[rows] = torch.sin(x[rows]) + 0.3
        theirs.grad = torch.sparse_coo_tensor(rows[None], slope[rows], (6,), check_invariants=True)
        optimizer.step()
        m, moved = rule.move(m, slope)
        assert (moved[slope == 0] == 0).all()
        x = x - 0.1 * moved
        torch.testing.assert_close(x, theirs.detach(), rtol=1e-6, atol=1e-8)  # eps is elsewhere there


@pytest.mark.parametrize("name", NAMES)
def test_no_solver_has_a_better_optimiser_than_another(name):
    """Every solver of ours that steps on x does so by the shared piece; not two controls, one of which stays and one
    guesses, nor methods for games."""
    if name in SAMPLED:
        assert not hasattr(SOLVERS.entries[name].make, "lr")
        return
    if name in GAMES:
        return
    assert issubclass(SOLVERS.entries[name].make, Outer)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SAMPLED | GAMES])
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


# y moves by the update of these, as a whole lower loop or one step of it.
FREE = [name for name in NAMES if issubclass(SOLVERS.entries[name].make, Inner)]
UNROLLED = {"itd", "k_rmd"}  # the update is differentiated: heavy ball alone


@pytest.mark.parametrize("update", TORCH)
def test_moves_of_y_are_those_of_torch_optim(update):
    """Sixty steps from one optimiser object, which remembers over outer steps; plain remembers nothing."""
    rule = Inner(update_y=update, momentum_y=0.8)
    y = torch.linspace(0.5, 2, 4).double()
    theirs = y.clone().requires_grad_()
    optimizer = TORCH[update]([theirs], 0.03)
    m = rule.moments_y(y)
    for _ in range(60):
        optimizer.zero_grad()
        ((theirs**2) ** 0.8 + torch.sin(3 * theirs)).sum().backward()
        m, y = rule.move_y(m, y, 0.03, theirs.grad.clone())
        optimizer.step()
        torch.testing.assert_close(y, theirs.detach(), rtol=1e-12, atol=1e-13)


def stepped(text, steps=60):  # BOME's barrier, by which y's loop matters, is not active at first
    q = quadratic()
    solver, oracle = make_solver(text), Oracle(q.problem)
    made = [start(solver, q.problem, oracle)]
    for k in range(steps):
        oracle.begin(k)
        made.append(solver.step(oracle, made[-1]))
    return q.problem, made


@pytest.mark.parametrize("name", FREE)
def test_the_update_of_y_is_what_moves_y(name):
    """Momentum 0 is the plain step; with momentum and by Adam the iterates are others, and finite."""
    plain = stepped(f"{name}(lr=0.05,update_y='plain')")[1]
    none = stepped(f"{name}(lr=0.05,update_y='heavy_ball',momentum_y=0.0)")[1]
    torch.testing.assert_close([(s.x, s.y) for s in none], [(s.x, s.y) for s in plain], rtol=1e-12, atol=1e-14)
    for update in ["heavy_ball"] if name in UNROLLED else ["heavy_ball", "adam"]:
        moved = stepped(f"{name}(lr=0.05,update_y='{update}')")[1][-1]
        both, bare = (torch.cat([s.x, s.y]) for s in (moved, plain[-1]))
        assert torch.isfinite(both).all()
        assert not torch.allclose(both, bare, rtol=1e-9)


@pytest.mark.parametrize("update", TORCH)
def test_a_lower_loop_is_an_optimiser_object_that_goes_on(update):
    """Alternating descent against a hand-written loop with two optimisers of torch, five steps of y to one of x."""
    problem, made = stepped(f"first_order(lr=0.05,lr_inner=0.1,T=5,update_y='{update}',momentum_y=0.8)", steps=6)
    x, y = problem.x0.clone().requires_grad_(), problem.y0.clone().requires_grad_()
    of_y, of_x = TORCH[update]([y], 0.1), torch.optim.SGD([x], lr=0.05)
    for _ in range(6):
        for _ in range(5):
            y.grad = torch.autograd.grad(problem.g(x, y), y)[0]
            of_y.step()
        x.grad = torch.autograd.grad(problem.f(x, y), x, allow_unused=True, materialize_grads=True)[0]
        of_x.step()
    torch.testing.assert_close((made[-1].x, made[-1].y), (x.detach(), y.detach()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["itd(T=4", "itd(T=4,warm=False", "k_rmd(T=4,K=4", "k_rmd(T=4,K=2"])
def test_heavy_ball_is_unrolled(name):
    """The direction is autograd's through the last K steps of the loop, the buffer and its momentum included."""
    problem, made = stepped(f"{name},lr=0.05,lr_inner=0.2,update_y='heavy_ball',momentum_y=0.7)", steps=3)
    last = 2 if "K=2" in name else 4
    before = made[1]  # the buffer is not at rest there
    x = before.x.clone().requires_grad_()
    y = made[0].y if "warm=False" in name else before.y
    buffer = torch.zeros_like(y) if "warm=False" in name else before.m_y.first[0]
    for t in range(4):
        fixed = y.detach().requires_grad_()
        at = x.detach().requires_grad_() if t < 4 - last else x
        point = fixed if t <= 4 - last else y
        gradient = torch.autograd.grad(problem.g(at, point), point, create_graph=True)[0]
        buffer = 0.7 * (buffer.detach() if t <= 4 - last else buffer) + gradient
        y = point - 0.2 * buffer
    direction = torch.autograd.grad(problem.f(x, y), x)[0]
    torch.testing.assert_close(made[2].x, before.x - 0.05 * direction, rtol=1e-10, atol=1e-12)


def test_adam_is_not_unrolled():
    """An unrolled method differentiates its loop; the words say what it takes."""
    with pytest.raises(RequestError, match="update_y takes one of 'plain', 'heavy_ball'"):
        make_solver("itd(update_y='adam')")
