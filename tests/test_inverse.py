"""H^-1 v: by eigenvalues and by conjugate gradients alike, with what may be off."""

import pytest
import torch

from bilevelbench.measure import inverse as module
from bilevelbench.measure.inverse import NOT_FINITE, Dense, Iterated
from bilevelbench.measure.level import Level

ONES = torch.ones(4, dtype=torch.float64)


def level(*curvature, twice=True):
    diagonal = torch.tensor(curvature, dtype=torch.float64)
    return Level(lambda x, y: (diagonal * y**2).sum() / 2, ONES[:1], twice), ONES[: len(curvature)]


@pytest.mark.parametrize("kind", [Dense, Iterated])
@pytest.mark.parametrize("twice", [True, False])
def test_both_solve(kind, twice):
    made = kind(*level(1.0, 2.0, 4.0, 8.0, twice=twice), None)
    found = made(8 * ONES, 1e-12)
    assert torch.allclose(found.vector, torch.tensor([8.0, 4.0, 2.0, 1.0]).double(), rtol=1e-6)
    assert found.convex
    assert 0.0 <= found.off <= 1e-4
    assert 3.0 <= made.largest <= 8.1
    assert made.valley(ONES) == 0.0


@pytest.mark.parametrize("kind", [Dense, Iterated])
def test_variables_that_are_held_stay(kind):
    free = torch.tensor([True, False, True, True])
    found = kind(*level(1.0, 2.0, 4.0, 8.0), free)(8 * ONES, 1e-12)
    assert torch.allclose(found.vector, torch.tensor([8.0, 0.0, 2.0, 1.0]).double())


def test_negative_curvature_is_said_and_counts_as_positive():
    dense = Dense(*level(1.0, -2.0), None)
    found = dense(ONES[:2])
    assert (found.convex, dense.convex, dense.singular) == (False, False, False)
    assert torch.allclose(found.vector, torch.tensor([1.0, 0.5]).double())
    assert dense.largest == 2.0
    iterated = Iterated(*level(-2.0, -2.0), None)
    first = iterated(ONES[:2])
    assert not first.convex
    assert torch.allclose(first.vector, torch.tensor([0.5, 0.5]).double())  # downhill, by the curvature's size
    assert Iterated(*level(1.0, 1.0), None)(ONES[:2]).convex


@pytest.mark.parametrize(("least", "flat"), [(0.0, True), (0.9e-13, True), (1.1e-13, False), (-0.9e-13, True)])
def test_what_is_below_rounding_is_flat(least, flat):
    dense = Dense(*level(1.0, least), None)
    assert dense.singular is flat
    assert dense.convex
    assert dense.valley(torch.tensor([3.0, 2.0]).double()) == pytest.approx(2.0 if flat else 0.0)


def test_by_differences_less_is_known_to_be_flat():
    assert Dense(*level(1.0, 0.9e-8, twice=False), None).singular
    assert not Dense(*level(1.0, 1e-7, twice=False), None).singular


def test_a_small_part_in_flat_directions_is_none():
    dense = Dense(*level(1.0, 0.0), None)
    assert dense(torch.tensor([1.0, 0.9e-6]).double()).vector[1] == 0.0
    assert dense(torch.tensor([1.0, 1.1e-6]).double()).vector[1] == pytest.approx(1.1e7)
    # rounding of H times a vector of length 1e11 is 100 eps 1e11 = .0022
    assert dense(torch.tensor([1.0, 2e-3]).double(), length=1e11).vector[1] == 0.0
    assert dense(torch.tensor([1.0, 3e-3]).double(), length=1e11).vector[1] != 0.0


def test_what_may_be_off_is_rounding_over_the_least_curvature():
    eps = torch.finfo(torch.float64).eps
    found = Dense(*level(4.0, 0.5), None)(torch.tensor([4.0, 0.5]).double())
    assert found.off == pytest.approx(eps * 4.0 * 2**0.5 / 0.5)
    assert Dense(*level(0.0), None)(ONES[:1]).off == 0.0


def test_conjugate_gradients_stop_at_their_tolerance():
    spread = level(*torch.logspace(0, 4, 4).tolist())
    rough, fine = Iterated(*spread, None), Iterated(*spread, None)
    first = rough(ONES, 0.5)
    assert spread[0].asked > 1
    residual = float((torch.logspace(0, 4, 4).double() * first.vector - ONES).norm())
    assert residual <= 0.5 * 2.0
    assert first.off == pytest.approx(residual / rough.least, rel=1e-6)
    exact = fine(ONES, 1e-14)
    assert exact.off < first.off
    asked = spread[0].asked
    again = fine(ONES, 1e-6, near=exact.vector)
    assert spread[0].asked == asked + 1  # one product to see that nothing is missing
    assert torch.equal(again.vector, exact.vector)
    assert fine(0 * ONES).vector.tolist() == [0.0] * 4


def test_by_differences_the_residual_has_a_floor():
    made, y = level(1.0, 2.0, 4.0, 8.0, twice=False)
    assert Iterated(made, y, None)._finest == 1e-6
    assert Iterated(*level(1.0), None)._finest == 0.0


@pytest.mark.parametrize(("n", "steps"), [(1, 200), (100, 200), (101, 202), (1000, 2000), (1001, 2000)])
def test_steps_go_with_the_number_of_variables(n, steps):
    assert Iterated(level(1.0)[0], torch.ones(n).double(), None)._most == steps


def test_steps_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "LEAST", 1)
    monkeypatch.setattr(module, "MOST", 1)
    made, y = level(1.0, 2.0, 4.0, 8.0)
    before = made.asked
    assert Iterated(made, y, None)(ONES, 1e-12).off > 0.01
    assert made.asked == before + 2  # the graph and one product


@pytest.mark.parametrize("kind", [Dense, Iterated])
def test_what_is_not_finite_is_said(kind):
    bad = Level(lambda x, y: (float("nan") * y**2).sum(), ONES[:1])
    with pytest.raises(ArithmeticError, match=NOT_FINITE):
        kind(bad, ONES, None)(ONES)
