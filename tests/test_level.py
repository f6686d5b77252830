"""g(x, .) as the judge asks it: right by graph and by differences, and counted."""

import math

import pytest
import torch

from bilevelbench.measure import level as module
from bilevelbench.measure.level import Level, Spent

X = torch.tensor([2.0, -1.0], dtype=torch.float64)
Y = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
MIX = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]], dtype=torch.float64)


def g(x, y):
    return (y**4).sum() / 4 + x @ MIX @ (y**2) / 2 + y.sum() * x.sum()


def hessian(y):
    return torch.diag(3 * y**2 + X @ MIX)


def slope(y):
    return y**3 + (X @ MIX) * y + X.sum()


@pytest.mark.parametrize("twice", [True, False])
def test_products_and_matrix_are_those_of_the_hessian(twice):
    level = Level(g, X, twice)
    v = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert torch.allclose(level.hessian(Y)(v), hessian(Y) @ v, rtol=1e-8)
    assert torch.allclose(level.matrix(Y), hessian(Y), rtol=1e-8, atol=1e-8)
    free = torch.tensor([True, False, True])
    assert torch.allclose(level.matrix(Y, free), hessian(Y)[free][:, free], rtol=1e-8, atol=1e-8)
    assert level.matrix(Y, torch.zeros(3, dtype=torch.bool)).shape == (0, 0)
    cross = MIX @ (Y * v) + v.sum()
    assert torch.allclose(level.cross(Y, v), cross, rtol=1e-7)
    assert torch.equal(level.cross(Y, 0 * v), torch.zeros(2, dtype=torch.float64))
    assert torch.equal(level.hessian(Y)(0 * v), 0 * v)


def test_differences_at_zero_find_their_own_length():
    level = Level(lambda x, y: (y**2).sum() * 1e-12 + 1e-3 * y[0], X, twice=False)
    zero, v = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert torch.allclose(level.hessian(zero)(v), 2e-12 * v, rtol=1e-6)
    assert level.asked == 5.0  # two to see how steep, one at the point itself, two
    flat = Level(lambda x, y: y[0] * 1.0, X, twice=False)
    assert torch.equal(flat.hessian(zero)(v), zero)
    assert flat.asked == 2.0


def test_what_is_asked_is_counted_and_refused_beyond_the_allowance():
    level = Level(g, X, allowance=6.0)
    value, found = level.look(Y)
    assert value == pytest.approx(float(g(X, Y)))
    assert torch.allclose(found, slope(Y))
    assert level.asked == 1.0
    product = level.hessian(Y)
    assert level.asked == 2.0
    product(Y)
    assert level.asked == 3.0
    product(torch.eye(3, dtype=torch.float64)[:2])
    assert level.asked == 4.0
    level.cross(Y, Y)
    assert level.asked == 6.0
    with pytest.raises(Spent):
        level.look(Y)
    assert level.asked == 6.0
    assert Level(g, X).allowance == math.inf


def test_a_lower_objective_without_y_is_flat():
    level = Level(lambda x, y: x.sum(), X)
    value, found = level.look(Y)
    assert (value, found.tolist()) == (1.0, [0.0] * 3)
    assert level.hessian(Y)(Y).tolist() == [0.0] * 3
    linear = Level(lambda x, y: y.sum(), X)
    assert linear.hessian(Y)(Y).tolist() == [0.0] * 3


def test_a_matrix_is_made_in_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    level = Level(g, X)
    assert torch.allclose(level.matrix(Y), hessian(Y))
    assert level.asked == 1 + 3 / 2


def test_bounds_hold_points_and_variables():
    low, high = torch.tensor([0.0, 0.0, -1.0]).double(), torch.tensor([1.0, 0.5, 1.0]).double()
    level = Level(g, X, bounds=(low, high))
    assert level.inside(torch.tensor([-1.0, 2.0, 0.5]).double()).tolist() == [0.0, 0.5, 0.5]
    y = torch.tensor([0.0, 0.5, 0.5]).double()
    signs = [(1, 1, 1), (-1, -1, -1), (1, -1, 1), (0, 0, 0)]
    found = [level.free(y, torch.tensor(sign).double()).tolist() for sign in signs]
    assert found == [[False, True, True], [True, False, True], [False, False, True], [True, True, True]]
    assert Level(g, X).free(y, y) is None
    assert Level(g, X).inside(y) is y
