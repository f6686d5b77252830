"""Problems of practice: their formulas by another way, and that each shows what it says."""

import os

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, softmax

from bilevelbench import Draw, build_problem
from bilevelbench.data import find, messages
from bilevelbench.data.formats import Messages
from bilevelbench.problems import _texts, _warp, augment, data_mixture, distill, imbalance, prune
from bilevelbench.problems._converge import converge
from bilevelbench.problems._networks import Network

from .test_learning import measured

needs_newsgroups = pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "20newsgroups")),
    reason="no 20 Newsgroups in $BILEVELBENCH_DATA",
)


def build(text, seed=0):
    return build_problem(text, Draw(seed))


def near(problem, scale=0.1):
    """A point near the start, within bounds."""
    x = problem.x0 + scale * Draw(1).normal(len(problem.x0))
    return (problem.project_x or (lambda v: v))(x), problem.y0 + scale * Draw(2).normal(len(problem.y0))


# -- imbalance


def test_the_loss_of_imbalance_is_torchs_with_weights_and_smoothing():
    problem, tail = build("imbalance"), imbalance._draw(Draw(0), "digits", 20.0)
    x, y = near(problem, 0.5)
    u, d, _ = imbalance.X.split(x)
    x = torch.cat([u, d, torch.full((10,), 2.0)])
    inputs, labels = map(torch.from_numpy, tail.train)
    each = cross_entropy(
        Network("mlp", 64, 16)(y, inputs) + d, labels, reduction="none",
        label_smoothing=float(torch.sigmoid(torch.tensor(-2.0, dtype=torch.float64))),
    )  # fmt: skip
    expected = 10 * (softmax(u, 0)[labels] * each).mean() + 1e-3 * y @ y
    torch.testing.assert_close(problem.g(x, y), expected)


def test_the_tail_is_geometric_and_what_validates_and_tests_is_balanced():
    tail = imbalance._draw(Draw(3), "digits", 20.0)
    counts = np.sort(imbalance._counts(tail))[::-1]
    np.testing.assert_allclose(counts, 100 * 20.0 ** (-np.arange(10) / 9), atol=0.51)
    assert np.bincount(tail.validation.labels).tolist() == [5] * 10
    assert np.bincount(tail.test.labels).tolist() == [60] * 10
    images = np.concatenate([part.pixels for part in tail])
    assert len(np.unique(images, axis=0)) >= len(images) - 1  # the digits have few images twice


def test_weights_and_shifts_are_known_up_to_a_constant():
    problem = build("imbalance")
    x, y = near(problem)
    for k in (0, 10):
        moved = x.clone()
        moved[k : k + 10] += 3.0
        torch.testing.assert_close(problem.g(moved, y), problem.g(x, y))


def test_what_helps_rare_classes_helps_all_and_bilevel_descent_does_it_too():
    lines = build("imbalance").references()
    plain = lines["plain (start)"]
    for name in ("inverse frequency", "logit adjustment", "adjustment + validation"):
        assert lines[name]["accuracy"] > plain["accuracy"]
        assert lines[name]["tail_accuracy"] > plain["tail_accuracy"]
    assert lines["validation alone"]["accuracy"] < plain["accuracy"]
    before, now = measured("imbalance", "aid_cg(lr=1.0,lr_inner=0.5,T=10,K=10)", 60)
    assert now["f"] < before["f"]
    assert now["accuracy"] > plain["accuracy"]


# -- distill


def test_the_lower_level_of_distill_is_scikit_learns_softmax_regression():
    problem, images = build("distill"), distill._draw(Draw(0), "digits", 1)
    x = problem.x0 + 0.1 * Draw(1).normal(640)
    pixels = np.c_[x.view(10, 64), np.ones(10)]  # the decay is of the bias, too
    model = LogisticRegression(C=1 / (2 * 1e-2 * 10), fit_intercept=False, tol=1e-10, max_iter=1000)
    found = model.fit(pixels, images.real.labels[images.first]).coef_
    y = converge(lambda y: problem.g(x, y), problem.y0, gtol=1e-9)
    np.testing.assert_allclose(np.c_[y[:640].view(10, 64), y[640:]], found, atol=1e-5)


def test_soft_labels_that_are_sure_are_hard_ones():
    hard, soft = build("distill(per_class=2)"), build("distill(per_class=2,labels='soft')")
    assert len(soft.x0) == len(hard.x0) + 200
    torch.testing.assert_close(soft.x0[: len(hard.x0)], hard.x0)
    y = near(hard)[1]
    sure = torch.cat([hard.x0, 20 * soft.x0[len(hard.x0) :]])
    torch.testing.assert_close(soft.g(sure, y), hard.g(hard.x0, y))


def test_distilled_images_are_worth_more_than_as_many_real_ones_or_means():
    lines = build("distill").references()
    names = ("random real images (start)", "class means", "all data")
    assert [lines[name]["accuracy"] for name in names] == sorted(lines[name]["accuracy"] for name in names)
    before, now = measured("distill", "aid_cg(lr=10.0,lr_inner=1.0,T=10,K=10)", 60)
    assert now["accuracy"] > lines["class means"]["accuracy"]
    assert before["distance"] == 0 < now["distance"]


# -- augment


def test_a_move_is_torchs_affine_grid_and_bicubic_sampling():
    images = Draw(0).uniform(0, 1, 3, 64)
    moves = 0.4 * Draw(1).normal(5, 4)
    found = _warp.warped(images, moves)
    for k, (angle, lower, further, scale) in enumerate(moves):
        turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)]).view(2, 2)
        theta = torch.cat([turn * torch.exp(-scale), 2 * torch.stack([further, lower])[:, None]], 1)
        grid = affine_grid(theta.expand(3, 2, 3), [3, 1, 8, 8], align_corners=False)
        expected = grid_sample(images.view(3, 1, 8, 8), grid, "bicubic", "zeros", align_corners=False)
        torch.testing.assert_close(found[k], expected.flatten(1))
    torch.testing.assert_close(_warp.warped(images, torch.zeros(1, 4).double())[0], images)
    torch.testing.assert_close(_warp.paired(images, moves[:3], chunk=2), torch.stack([found[k, k] for k in range(3)]))


def test_a_quarter_turn_is_numpys():
    image = Draw(0).uniform(0, 1, 1, 64)
    turned = _warp.warped(image, torch.tensor([[np.pi / 2, 0.0, 0.0, 0.0]], dtype=torch.float64)).view(8, 8)
    np.testing.assert_allclose(turned, np.rot90(image.view(8, 8)), atol=1e-12)


def test_every_stratum_has_one_draw():
    u = augment._draws(Draw(5), 8)
    assert [sorted(column) for column in ((u + 1) * 4).floor().int().T.tolist()] == [list(range(8))] * 4


def test_the_range_that_is_known_is_best_and_the_learnt_one_comes_near():
    problem = build("augment")
    lines = problem.references()
    best = lines["range known"]
    for name in problem.bar.lines:
        assert lines[name]["accuracy"] < best["accuracy"]
        assert name == "validation alone" or lines[name]["phi"] > best["phi"]
    before, now = measured("augment", "aid_cg(lr=0.1,lr_inner=0.5,T=10,K=5)", 40)
    assert before["turned"] == pytest.approx(18)
    assert 40 < now["turned"] < 80
    assert now["f"] < before["f"]


# -- prune


def test_masks_cut_the_smallest_and_ties_by_what_they_mask():
    mask, weights = torch.tensor([0.5, 1.0, 1.0, 0.0]), torch.tensor([9.0, -2.0, 1.0, 9.0])
    assert prune.hard(mask, weights, 0.25).tolist() == [0, 1, 0, 0]
    assert prune.hard(mask, weights, 0.75).tolist() == [1, 1, 1, 0]


def test_a_mask_multiplies_weights_and_leaves_biases():
    problem, network = build("prune(price=0.01)"), Network("mlp", 64, 16)
    y = near(problem)[1]
    where = prune.masked(network)
    assert network.flat.size - len(where) == 16 + 10
    x = (Draw(4).uniform(0, 1, len(where)) > 0.5).double()
    product = y.clone()
    product[where] = x * y[where]
    ones = torch.ones_like(x)
    torch.testing.assert_close(problem.g(x, y) - 1e-3 * y @ y, problem.g(ones, product) - 1e-3 * product @ product)
    torch.testing.assert_close(problem.f(x, y) - 0.01 * x.sum(), problem.f(ones, product) - 0.01 * len(x))


def test_what_a_line_reaches_is_the_accuracy_of_its_mask_and_the_weights_trained_under_it():
    problem, bench = build("prune"), prune._Bench(0, "digits", 16)
    cut = prune.hard(Draw(0).child("random mask").uniform(0, 1, len(problem.x0)), torch.ones_like(problem.x0), 0.1)
    figures, y = bench.retrained(cut)
    assert problem.metrics(cut, y)["accuracy"] == figures["retrained_accuracy"]
    line = problem.references()["random mask"]
    assert line["accuracy"] == line["retrained_accuracy"] == figures["retrained_accuracy"]


def test_magnitude_keeps_more_than_chance_and_a_learnt_mask_more_still():
    problem = build("prune")
    lines = problem.references()
    order = ("random mask", "magnitude pruning", "dense (start)")
    assert [lines[n]["retrained_accuracy"] for n in order] == sorted(lines[n]["retrained_accuracy"] for n in order)
    _, now = measured("prune", "aid_cg(lr=10.0,lr_inner=0.5,T=10,K=5)", 60)
    assert now["kept"] < 0.5


# -- data_mixture


def test_the_loss_of_a_mixture_is_the_weighted_mean_over_domains():
    problem, made = build("data_mixture"), data_mixture._draw(Draw(0), "markov", None, 2, 400)
    x, y = near(problem)
    _, losses = data_mixture._model(12, 2, 6, 16)
    each = losses(y, torch.from_numpy(made.train.before), torch.from_numpy(made.train.token))
    means = torch.stack([each[torch.from_numpy(made.train.domain == k)].mean() for k in range(6)])
    torch.testing.assert_close(problem.g(x, y), softmax(x, 0) @ means + 4e-3 * y @ y)
    known = torch.log(torch.from_numpy(made.target))
    figures = problem.metrics(known, y)
    assert (figures["target_share"], figures["distance"]) == pytest.approx((1, 0))


def test_domains_are_chains_and_the_target_a_mixture_of_two():
    found = _texts.corpus(Draw(0), "markov", 12, 2, 350, 100, 4000)
    assert sorted(found.target)[-2:] == [0.3, 0.7]
    assert sorted(map(len, found.train)) == [n + 2 for n in (140, 168, 202, 243, 291, 350)]
    assert sum(map(len, found.test)) == 4000 + 2 * 2
    (k,) = np.flatnonzero(found.target == 0.7)
    steps = Draw(0).child(f"domain {k}").numpy.dirichlet(np.full(12, 0.2), 12)
    seen = np.zeros((12, 12))
    np.add.at(seen, (found.test[k][:-1], found.test[k][1:]), 1)
    visited = seen.sum(1) > 200
    np.testing.assert_allclose(seen[visited] / seen[visited].sum(1, keepdims=True), steps[visited], atol=0.12)


def test_known_weights_are_best_and_bilevel_descent_turns_to_the_target():
    problem = build("data_mixture")
    lines = problem.references()
    assert all(lines["weights known"]["test_loss"] < lines[name]["test_loss"] for name in problem.bar.lines)
    before, now = measured("data_mixture", "bome(lr=1.0,lr_inner=0.5,T=10)", 100)
    assert before["target_share"] == pytest.approx(1 / 3)
    assert now["target_share"] > 0.6
    assert now["f"] < before["f"]


def test_messages_become_numbers_by_frequency_without_headers():
    groups = ["alt.atheism", "comp.graphics", "misc.forsale", "rec.autos", "sci.med", "talk.politics.misc"]
    train = [f"Subject: header\n\nThe {name[:3]} the" for name in groups]
    made = messages.numbered(Messages(groups, train, np.arange(6), ["x\n\nthe rec unseen"] * 6, np.arange(6)), 4)
    assert [made[f"train{k}"].tolist() for k in range(6)] == [[1, 2, 1], [1, 3, 1], *[[1, 0, 1]] * 4]
    assert made["test0"].tolist() == [1, 0, 0]


@needs_newsgroups
@pytest.mark.data
def test_the_topics_of_20_newsgroups():
    train, test = find.newsgroups_words(400)
    assert len(train) == len(test) == 6
    for part in (train, test):
        assert (min(map(np.min, part)), max(map(np.max, part))) == (0, 399)
        assert all(len(tokens) > 40_000 and 0.3 < (tokens == 0).mean() < 0.6 for tokens in part)
    problem = build("data_mixture(data='newsgroups',tokens=300)")
    assert problem.n_f == 2000
    assert torch.isfinite(problem.g(problem.x0, problem.y0))
