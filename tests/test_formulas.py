"""f and g of learning problems written out once more in numpy, constants as numbers: none of them can change unseen."""

import os

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp

from bilevelbench import Draw, build_problem


def build(text="", seed=0):
    """The problem, what it has put, and a point (x, y) off the start."""
    rng = Draw(seed)
    problem = build_problem(text, rng)
    x, y = (p + 0.3 * Draw(k).normal(p.numel()) for k, p in ((11, problem.x0), (12, problem.y0)))
    return problem, [part.numpy() for part in rng.data], x, y


def agree(problem, x, y, f, g):
    assert float(problem.f(x, y)) == pytest.approx(f, rel=1e-10)
    assert float(problem.g(x, y)) == pytest.approx(g, rel=1e-10)


def cut(y, *shapes):
    parts = np.split(y.numpy(), np.cumsum([np.prod(shape, dtype=int) for shape in shapes]))
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=False)]


def cross_entropy(logits, labels):
    return float((logsumexp(logits, 1) - logits[np.arange(len(labels)), labels]).mean())


def softmax(v):
    return np.exp(v - logsumexp(v, -1, keepdims=True))


def logistic(margins):
    return np.logaddexp(0, -margins)


def test_architecture():
    problem, (A, t, B, s, _), x, y = build("architecture")
    stem, shift, matrices, head, bias = cut(y, (8, 64), (8,), (2, 8, 8), (10, 8), (10,))
    mix = softmax(x.numpy().reshape(2, 3))

    def logits(inputs):
        h = np.tanh(inputs @ stem.T + shift)
        for (same, line, bend), matrix in zip(mix, matrices, strict=True):
            h = same * h + line * h @ matrix.T + bend * np.tanh(h)
        return h @ head.T + bias

    agree(problem, x, y, cross_entropy(logits(B), s), cross_entropy(logits(A), t) + 1e-3 * float(y @ y))


def test_dictionary():
    problem, (noisy, clean), x, y = build("dictionary")
    atoms = x.numpy().reshape(15, 10)
    atoms = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = y.numpy().reshape(60, 15)
    f = 0.5 * np.square(clean - codes @ atoms).sum(1).mean()
    sparse = 0.1 * (np.sqrt(codes**2 + 0.05**2) - 0.05).sum()
    g = 0.5 * np.square(noisy - codes @ atoms).sum() + sparse + 0.5 * 0.05 * np.square(codes).sum()
    agree(problem, x, y, f, g)


def test_an_atom_is_recovered_above_a_correlation_of_095():
    """One atom turned by the angle of 0.96, another by that of 0.94, in planes of their own."""
    from bilevelbench.problems.dictionary import _matched

    planted = torch.eye(6, dtype=torch.float64)[:3]
    found = planted.clone()
    for i, c in ((0, 0.96), (1, 0.94)):
        found[i, i], found[i, 3 + i] = c, np.sqrt(1 - c**2)
    assert _matched(planted, found) == pytest.approx({"atoms": 2.9 / 3, "recovered": 2 / 3})


def test_fair():
    problem, (A, t, groups, B, s, other), x, y = build("fair")
    scores, w = B @ y.numpy(), np.exp(x.numpy())[2 * groups + (t > 0)]
    chance = expit(scores)
    difference = chance[other == 1].mean() - chance[other == 0].mean()
    g = (w * logistic(t * (A @ y.numpy()))).mean() + 1e-3 * float(y @ y)
    agree(problem, x, y, logistic(s * scores).mean() + difference**2, g)


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_reweighting(model):
    problem, (A, t, B, s, _), x, y = build(f"reweighting(model={model!r})")

    def score(inputs):
        if model == "linear":
            return inputs @ y.numpy()[:-1] + y.numpy()[-1]
        first, shift, last, bias = cut(y, (16, 64), (16,), (16,), (1,))
        return np.tanh(inputs @ first.T + shift) @ last + bias

    g = softmax(x.numpy()) @ logistic(t * score(A)) + 1e-3 * float(y @ y)
    agree(problem, x, y, logistic(s * score(B)).mean(), g)


def test_few_shot_sinusoid():
    problem, (support, targets, query, wanted), x, y = build("few_shot")
    w1, b1, w2, b2 = cut(x, (40, 1), (40,), (40, 40), (40,))
    heads = y.numpy().reshape(20, 41)

    def errors(inputs, right):
        h = np.tanh(np.tanh(inputs[..., None] * w1[:, 0] + b1) @ w2.T + b2)
        found = (h * heads[:, None, :-1]).sum(-1) + heads[:, -1:]
        return np.square(found - right).mean(1)

    g = errors(support, targets).sum() + 0.1 * float(y @ y)
    agree(problem, x, y, errors(query, wanted).mean(), g)


def test_few_shot_network_adapts_as_imaml_does():
    """Accuracy on one test task after 16 steps of 0.1 from x on CE + |w - x|^2, by torch's own gradient."""
    from bilevelbench.data import drawings
    from bilevelbench.problems import _few_shot_images

    problem, _, x, y = build("few_shot(dataset='planted',tasks=2,ways=3,width=4,lower='network')")
    _, new = drawings.drawn(Draw(0), "planted", 14, 2, _few_shot_images.TEST_TASKS, 3, 1)
    body, size = drawings.Body(14, 4, torch.tanh), drawings.Body(14, 4, torch.tanh).flat.size
    hits = []
    for task in range(40):

        def logits(w, images):
            return body(w[:size], images[None])[0] @ w[size:].view(3, -1).T

        w = x.clone()
        for _ in range(16):
            leaf = w.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy(logits(leaf, new.support[task]), new.labels)
            w = w - 0.1 * torch.autograd.grad(loss + (leaf - x).square().sum(), leaf)[0]
        hits.append((logits(w, new.query[task]).argmax(1) == new.query_labels).double().mean())
    assert problem.metrics(x, y)["test_accuracy"] == pytest.approx(float(torch.stack(hits).mean()), abs=1e-12)


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_poisoning(goal):
    problem, (A, t, B, s, _, wrong), x, y = build(f"poisoning(goal={goal!r})")
    weight, bias = cut(y, (10, 64), (10,))
    images = np.r_[A, x.numpy().reshape(len(wrong), 64)]
    g = cross_entropy(images @ weight.T + bias, np.r_[t, wrong]) + 0.0025 * float(y @ y)
    f = cross_entropy(B @ weight.T + bias, s)
    agree(problem, x, y, f if goal == "targeted" else -f, g)
    assert len(wrong) == 18
    if goal == "targeted":
        assert set(s) == set(wrong) == {3}


def test_coreset_kernel():
    problem, (P, T, Q, S), x, y = build("coreset_kernel")
    Y = y.numpy().reshape(40, 10)
    g = 0.5 * softmax(x.numpy()) @ np.square(P @ Y - T).sum(1) + 0.5 * 1e-3 * float(y @ y)
    agree(problem, x, y, 0.5 * np.square(Q @ Y - S).sum(1).mean(), g)


def test_coreset():
    problem, _, x, y = build("coreset")
    points = np.array([[1, 3], [3, 1], [-2, 2], [-3, -2]])
    near = y.numpy()
    f, g = 0.1 * np.square(near - [3, -2]).sum(), np.square(near - softmax(x.numpy()) @ points).sum()
    agree(problem, x, y, f, g)


def test_policy():
    problem, (P, r, _), x, y = build("policy")
    log_pi = (r + 0.9 * P @ x.numpy()) / 0.1
    log_pi = log_pi - logsumexp(log_pi, 1, keepdims=True)
    pi = np.exp(log_pi)
    residual = y.numpy() - (pi * (r - 0.1 * log_pi + 0.9 * P @ y.numpy())).sum(1)
    agree(problem, x, y, -y.numpy().mean(), 0.5 * residual @ residual)


@pytest.mark.parametrize("penalty", ["scalar", "per_feature"])
def test_logistic(penalty):
    problem, (A, t, B, s), x, y = build(f"logistic(penalty={penalty!r})")
    w = y.numpy()
    g = logistic(t * (A @ w)).mean() + 0.5 * (np.exp(x.numpy()) * w**2).sum()
    agree(problem, x, y, logistic(s * (B @ w)).mean(), g)


def test_hyper_representation():
    problem, (A, B, t, s, _), x, y = build("hyper_representation")
    w = x.numpy().reshape(20, 5) @ y.numpy()
    agree(problem, x, y, 0.5 * np.square(B @ w - s).mean(), 0.5 * np.square(A @ w - t).mean() + 0.05 * float(y @ y))


@pytest.mark.parametrize(("text", "low", "high"), [
    ("fair", -3, 3), ("logistic", -12, 12), ("ridge", -12, 12), ("elastic_net", 1e-3, np.inf), ("pl_sine", 0, 3),
    ("poisoning", 0, 1), ("hyper_cleaning(protocol='as_in_bome')", 0, 1), ("bounded_sine", 1, 10),
    ("penalty_example", -5, 5), ("minimax", -10, 10), ("singleton", -100, 100), ("jump", -1, 1),
])  # fmt: skip
def test_bounds_of_x(text, low, high):
    problem, *_ = build(text)
    far = torch.full_like(problem.x0, 1e6)
    assert set(problem.project_x(-far).tolist()) == {low}
    assert set(problem.project_x(far).tolist()) == {high if np.isfinite(high) else 1e6}


def test_a_row_counts_as_noisy_below_a_weight_of_one_half():
    from bilevelbench.problems._cleaning import PROTOCOLS, split

    problem, *_ = build("hyper_cleaning")
    parts = split(Draw(0), "digits", PROTOCOLS["recommended"], 0.5)
    wrong = torch.from_numpy(parts.noisy != parts.labels)
    weights = torch.where(wrong, 0.49, 0.51).double()
    assert problem.metrics(torch.logit(weights), problem.y0)["f1"] == 1.0
    weights[torch.nonzero(wrong)[0]] = 0.505  # one of 300 is missed
    assert problem.metrics(torch.logit(weights), problem.y0)["f1"] == pytest.approx(2 * 299 / (2 * 299 + 1))


@pytest.mark.skipif(
    not os.path.exists(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "libsvm/breast-cancer_scale")),
    reason="no breast-cancer_scale in $BILEVELBENCH_DATA",
)
@pytest.mark.data
def test_svm():
    problem, (A, t, B, s, *_), x, y = build("svm")
    w, b, slack = y.numpy()[:10], float(y[10]), y.numpy()[11:]
    far = 2 * expit(-5 * s * (B @ w + b) / np.linalg.norm(w)) - 1
    f = np.where(far > 0, far, 0.01 * far).mean()
    agree(problem, x, y, f, 0.5 * w @ w + 0.5 * (np.exp(x.numpy()) * slack**2).sum())
    np.testing.assert_allclose(problem.h_g(x, y), 1 - slack - t * (A @ w + b))


def squares(v):
    return np.square(v).sum()


def waves(c):
    return len(c) + (c**2 - np.cos(2 * np.pi * c)).sum()


def rosenbrock(c):
    return squares(c[1:] - c[:-1] ** 2) + squares(c[:-1] - 1)


def ackley(a):
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(a**2))) - np.exp(np.cos(2 * np.pi * a).mean())


def griewank(a):
    return 1 + squares(a) / 400 - np.cos(a / np.sqrt([1, 2, 3])).prod()


SMD = {  # F1, F2, F3 less or plus gap^2 (the sign), f1, f2, gap of b and d; SMD6 with two flat entries
    1: (squares, squares, 1, squares, squares, lambda b, d: b - np.tan(d)),
    2: (squares, lambda c: -squares(c), -1, squares, squares, lambda b, d: b - np.log(d)),
    3: (squares, squares, 1, squares, waves, lambda b, d: b**2 - np.tan(d)),
    4: (squares, lambda c: -squares(c), -1, squares, waves, lambda b, d: np.abs(b) - np.log(1 + d)),
    5: (squares, lambda c: -rosenbrock(c), -1, squares, rosenbrock, lambda b, d: np.abs(b) - d**2),
    6: (squares, lambda c: squares(c[1:]) - c[0] ** 2, -1, squares, lambda c: c[0] ** 2 + (c[2] - c[1]) ** 2,
        lambda b, d: b - d),
    7: (griewank, lambda c: -squares(c), -1, lambda a: (a**3).sum(), squares, lambda b, d: b - np.log(d)),
    8: (ackley, lambda c: -rosenbrock(c), -1, lambda a: np.abs(a).sum(), rosenbrock, lambda b, d: b - d**3),
}  # fmt: skip


@pytest.mark.parametrize("number", SMD)
def test_smd(number):
    F1, F2, sign, f1, f2, gap = SMD[number]
    problem = build_problem(f"smd(number={number},p=3,q=3,r=2)", Draw(4))
    x, y = problem.x0, problem.y0
    a, b, c, d = x.numpy()[:3], x.numpy()[3:], y.numpy()[:3], y.numpy()[3:]
    apart = squares(gap(b, d))
    agree(problem, x, y, F1(a) + F2(c) + squares(b) + sign * apart, f1(a) + f2(c) + apart)
