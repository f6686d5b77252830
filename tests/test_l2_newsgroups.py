"""Sparse products of every order, bags of words, and reference lines of the penalties."""

import os

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.sparse import random_array, vstack
from sklearn.linear_model import LogisticRegression

from bilevelbench import Draw, Oracle, build_problem
from bilevelbench.data import find
from bilevelbench.data.formats import Messages
from bilevelbench.measure.memory import LiveBytes
from bilevelbench.problems import l2_newsgroups
from bilevelbench.problems._sparse import Rows, product
from bilevelbench.problems.l2_newsgroups import _halves, _newsgroups, _planted

needs_newsgroups = pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "20newsgroups")),
    reason="no 20 Newsgroups in $BILEVELBENCH_DATA",
)


def build(text="l2_newsgroups", seed=0):
    return build_problem(text, Draw(seed))


@pytest.fixture
def matrix():
    made = random_array((7, 11), density=0.3, format="lil", rng=np.random.default_rng(0))
    made[2] = 0  # an empty row
    return made.tocsr()


def test_products_agree_with_dense_ones_to_second_order(matrix):
    rows = Rows.put(Draw(0), matrix)
    dense, transposed = torch.from_numpy(matrix.toarray()), rows.T
    W = Draw(1).normal(11, 3).requires_grad_()
    assert torch.allclose(product(rows, transposed, W), dense @ W)
    assert torch.allclose(rows.T.times(dense), dense.T @ dense)
    assert torch.autograd.gradcheck(lambda w: product(rows, transposed, w), W)
    assert torch.autograd.gradgradcheck(lambda w: product(rows, transposed, w).square(), W)


def test_a_minibatch_of_rows_is_those_rows(matrix):
    rows, some = Rows.put(Draw(0), matrix), torch.tensor([5, 2, 2, 0])
    part, W = rows[some], Draw(1).normal(11, 2)
    expected = torch.from_numpy(matrix.toarray())[some]
    assert torch.allclose(part.times(W), expected @ W)
    assert torch.allclose(part.T.times(torch.eye(4).double()), expected.T)


def test_live_bytes_see_the_products(matrix):
    rows = Rows.put(Draw(0), matrix)
    with LiveBytes() as tracker:
        kept = product(rows, rows.T, torch.ones(11, 2).double())
    assert tracker.peak >= kept.numel() * 8


def test_second_order_products_are_those_of_the_dense_problem():
    """The Hessian of softmax regression written out, row by row."""
    problem, o = build(), Oracle(build())
    rows, labels, *_ = _planted(Draw(0), 300)
    A, rng = rows.toarray(), Draw(3)
    x, y, v = (0.1 * rng.normal(k) for k in (300, 1200, 1200))
    P = torch.softmax(torch.from_numpy(A) @ y.view(300, 4), 1).numpy()
    V, W = v.view(300, 4).numpy(), y.view(300, 4).numpy()
    Z = A @ V
    hessian = A.T @ (P * (Z - (P * Z).sum(1, keepdims=True))) / len(labels)
    weight = np.exp(x.numpy())[:, None] / 1200
    cross, along = o.d2g(x, y, v)
    np.testing.assert_allclose(along.numpy(), (hessian + weight * V).ravel(), atol=1e-14)
    np.testing.assert_allclose(cross.numpy(), (weight * W * V).sum(1), atol=1e-14)
    assert problem.n_g == problem.n_f == 200


def test_halves_are_equal_and_so_are_the_groups_in_them():
    rows, groups, other, other_groups = _halves(Draw(0), *_planted_all())
    assert rows.shape[0] == other.shape[0] == 200
    assert np.abs(np.bincount(groups) - np.bincount(other_groups)).max() <= 1
    assert (
        _halves(Draw(1), *_planted_all())[1].tolist() != groups.tolist()
        or (_halves(Draw(1), *_planted_all())[0] != rows).nnz
    )


def _planted_all():

    parts = _planted(Draw(0), 300)
    return vstack([parts[0], parts[2]]).tocsr(), np.concatenate([parts[1], parts[3]])


def test_lines_are_those_of_another_solver():
    """scikit-learn's Newton-type solver at the penalty of the start."""
    problem = build()
    rows, labels, rest, targets, last, test = _planted(Draw(0), 300)
    C = 1200 / (len(labels) * np.exp(0.0))  # 1/2 |W|^2 + C sum CE is g times 1200, exp(x) = 1
    model = LogisticRegression(C=C, fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=1000)
    chances = model.fit(rows, labels).predict_proba(rest)
    line = problem.references()["penalties at the start"]
    assert line["phi"] == pytest.approx(-np.log(chances[np.arange(len(targets)), targets]).mean(), rel=1e-4)
    assert line["accuracy"] == pytest.approx(model.score(last, test))
    assert problem.references()["best single penalty"]["phi"] < line["phi"]


def test_metrics_are_of_the_test_documents():
    problem = build()
    *_, last, test = _planted(Draw(0), 300)
    y = Draw(1).normal(1200)
    hits = (last @ y.view(300, 4).numpy()).argmax(1) == test
    assert problem.metrics(problem.x0, y)["accuracy"] == hits.mean()


def test_penalties_per_word_beat_a_single_one():
    """Descent on Phi in x by the exact hypergradient (implicit, dense): there is something to be learnt."""
    problem, o = build("l2_newsgroups(features=40)"), Oracle(build("l2_newsgroups(features=40)"))

    def lower(x, y):
        fun = lambda z: tuple(part.numpy() for part in (o.g(x, torch.from_numpy(z)), o.dg_y(x, torch.from_numpy(z))))  # noqa: E731
        options = {"gtol": 1e-9, "ftol": 0.0, "maxiter": 2000}
        return torch.from_numpy(minimize(fun, y.numpy(), jac=True, method="L-BFGS-B", options=options).x)

    x, y, n = problem.x0, problem.y0, problem.y0.numel()
    values = []
    for _ in range(4):
        y = lower(x, y)
        values.append(float(o.f(x, y)))
        H = torch.stack([o.d2g_yy(x, y, e) for e in torch.eye(n).double()])
        gradient = -o.d2g_xy(x, y, torch.linalg.solve(H, o.df_y(x, y)))
        x = x - 0.5 * gradient / gradient.abs().max()
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0] - 1e-3


def test_bags_of_words_are_those_of_scikit_learn():
    messages = Messages(["a", "b"], ["the cat", "a dog dog", ""], np.array([0, 1, 0]), ["Cat new"], np.array([1]))
    made = find.counted(messages)
    assert int(made["words"]) == 3  # cat, dog, the: words of one letter do not count
    np.testing.assert_allclose(made["data"], [0.5**0.5, 0.5**0.5, 1.0])
    assert made["indices"].tolist() == [0, 2, 1] or sorted(made["indices"][:2]) == [0, 2]
    assert made["indptr"].tolist() == [0, 2, 3, 3]
    assert made["test_indices"].tolist() == [0]


def test_released_code_has_lines_on_the_planted_documents_alone(monkeypatch):
    """On the messages they take hours, and its runs are held against what a paper prints."""
    rows, groups, more, more_groups, test, tested = _planted(Draw(0), 30)
    monkeypatch.setattr(
        l2_newsgroups, "newsgroups", lambda: (vstack([rows, more]).tocsr(), np.r_[groups, more_groups], test, tested)
    )
    monkeypatch.setattr(l2_newsgroups.cache, "arrays", lambda name, key, make: make())
    for data, protocol, lined in (("newsgroups", "bome_released", False), ("newsgroups", "recommended", True),
                                  ("planted", "bome_released", True)):  # fmt: skip
        problem = build(f"l2_newsgroups(data={data!r},protocol={protocol!r},features=30)")
        assert (problem.references is not None, problem.bar is not None) == (lined, lined)


@needs_newsgroups
@pytest.mark.data
def test_20_newsgroups_have_their_published_shape():
    rows, groups, test, _ = find.newsgroups()
    assert rows.shape == (11314, 130107)
    assert test.shape == (7532, 130107)
    assert np.bincount(groups).tolist()[:2] == [480, 584]
    np.testing.assert_allclose(rows.multiply(rows).sum(1), 1.0)
    parts = _newsgroups(Draw(0), 2000)
    assert parts[0].shape == parts[2].shape == (5657, 2000)
    frequency = np.bincount(rows.indices, minlength=130107)
    in_most = np.sort(frequency)[-2000]
    kept = np.bincount(np.concatenate([parts[0].indices, parts[2].indices]), minlength=2000)
    assert kept.min() == in_most
