"""A seed is a promise: the same numbers everywhere, and other ones for another seed."""

from types import SimpleNamespace

import pytest
import torch

from bilevelbench import Draw, Unsupported, build_problem

from .seeds import OURS, Witness, agree, kept, numbers


def built(name, draw):
    try:
        return build_problem(name, draw)
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", OURS)
def test_the_numbers_of_seed_0_stay(name):
    """What is drawn, to the bit; what is computed of it, closely. If it fails by intent, see tests/seeds.py."""
    draw = Witness(0)
    problem = built(name, draw)
    promise = kept().get(name)
    assert promise, f"no numbers are kept: python -m tests.seeds {name}"
    assert draw.digest() == promise["drawn"], "another sequence of numbers is drawn"
    found = numbers(problem, draw.data)
    assert agree(found, promise["made"]), f"other numbers are made of it: {found}"


def test_a_witness_answers_as_a_draw_does():
    """Its children's children, too."""
    answers = []
    for draw in (Draw(3), Witness(3)):
        grand = draw.child("a").child("b")
        answers.append([draw.normal(2), grand.uniform(0, 1, 2), draw.permutation(4), grand.put(draw.numpy.integers(9))])
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))
    assert len(draw.answers) == 4
    assert draw.data == [answers[1][3]]


@pytest.mark.parametrize(
    "draws",
    [
        lambda draw: (draw.uniform(0, 1, 3), draw.normal(3)),  # another order
        lambda draw: (draw.normal(3), draw.child("a").uniform(0, 1, 3)),  # another source
        lambda draw: (draw.normal(3), draw.uniform(0, 1, 4)),  # one more
        lambda draw: (draw.normal(3), draw.uniform(0, 1 + 1e-6, 3)),
        lambda draw: (draw.normal(3), draw.uniform(0, 1, 3), draw.numpy.integers(1)),  # another question
    ],
)
def test_another_draw_has_another_digest(draws):
    found, same, other = Witness(0), Witness(0), Witness(0)
    for draw in (found, same):
        draw.normal(3)
        draw.uniform(0, 1, 3)
    draws(other)
    assert found.digest() == same.digest() != other.digest()


def test_numbers_agree_where_only_rounding_differs():
    problem = build_problem("quadratic", Draw(0))
    made, x = [[shape, total] for shape, total, _ in numbers(problem, [])], problem.x0

    def holds(x0):
        return agree(numbers(SimpleNamespace(x0=x0, y0=problem.y0), []), made)

    assert holds(x.clone())
    assert holds(x * (1 + 1e-15))
    changed = x.clone()
    changed[3] += 1e-9
    swapped = x[torch.tensor([1, 0, *range(2, len(x))])]
    for other in (changed, swapped, -x, x[:-1], x[None]):
        assert not holds(other)


# What two seeds share, of x0, y0 and the tensors in the order in which they are put: a start at zero, an identity, ...
SHARED = {
    "augment": ["x0", 7], "data_mixture": ["x0"], "distill": ["y0", 4], "imbalance": ["x0"], "once": ["x0"],
    "prune": ["x0", 6],  # where the weights lie
    "architecture": ["x0"], "box_quadratic": ["y0"], "continual": [2, 3, 6, 7],  # the tasks and weights of rows
    "coreset_kernel": ["x0", "y0"], "dictionary": ["y0"], "elastic_net": ["x0", "y0"], "fair": ["x0", "y0"],
    "few_shot": ["y0"], "finite_sum_quadratic": ["x0", "y0"], "flat_lower": ["x0", "y0"],
    "hyper_cleaning": ["x0", "y0"], "hyper_representation": ["y0", 4], "l2_newsgroups": ["x0", "y0"],
    "logistic": ["x0", "y0"], "min_norm": ["x0"], "penalty_example": [0, 1],  # example 1 has no matrix
    "poisoning": ["y0"], "policy": ["x0", "y0", 2], "reweighting": ["x0", "y0", 1, 3],  # labels, class by class
    "simplex_projection": ["y0"], "smd": [0, 1], "svm": ["y0"],
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_another_seed_varies_every_part(name):
    """Data, noise, split and start, one by one: a part that stands still is caught though others vary.

    Computed twice in one process a product need not have the same last bit: the data lie elsewhere in memory.
    """
    draws = Draw(0), Draw(1)
    one, other = (built(name, draw) for draw in draws)
    parts = [{"x0": p.x0, "y0": p.y0, **dict(enumerate(d.data))} for p, d in zip((one, other), draws, strict=True)]
    same = [k for k, part in parts[0].items() if part.shape == parts[1][k].shape and close(part, parts[1][k])]
    assert same == (SHARED.get(name, []) if one.seeded else list(parts[0]))


def close(part, other):
    return float((part.double() - other.double()).norm()) <= 1e-12 * float(part.double().norm())
