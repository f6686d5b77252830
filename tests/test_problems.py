"""Problems one by one: optima by independent methods, data as the protocols say."""

import os

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression

from bilevelbench import Draw, Oracle, build_problem
from bilevelbench.measure.judge import Judge
from bilevelbench.problems import logistic
from bilevelbench.problems._cleaning import PROTOCOLS, split

needs_mnist = pytest.mark.skipif(
    not os.path.exists(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "MNIST/raw/train-images-idx3-ubyte.gz")),
    reason="no MNIST in $BILEVELBENCH_DATA",
)


def build(text, seed=0):
    return build_problem(text, Draw(seed))


def phi(problem, x):
    return problem.f(x, problem.y_star(x))


# -- optima, each by a method that does not know the formula


@pytest.mark.parametrize("text", ["quadratic(kappa=10)", "quadratic(kappa=100,d=7,mu=1.0)", "quadratic(kappa=1)"])
def test_phi_star_of_the_quadratic(text):
    problem = build(text)

    def fun(vector):
        x = torch.from_numpy(vector).requires_grad_()
        value = phi(problem, x)
        return float(value.detach()), torch.autograd.grad(value, x)[0].numpy()

    found = minimize(
        fun, problem.x0.numpy(), jac=True, method="L-BFGS-B", options={"gtol": 1e-12, "ftol": 0, "maxiter": 5000}
    )
    assert found.fun == pytest.approx(problem.phi_star, rel=1e-9)


def test_the_published_values_of_the_quadratic():
    """Phi* at d = 20, mu = 0.1 from an independent computation."""
    for kappa, value in ((1, 0.909090909091), (10, 0.218354560474), (100, 0.122692830247), (1000, 0.0907582394611)):
        assert build(f"quadratic(kappa={kappa})").phi_star == pytest.approx(value, rel=1e-11)


def test_the_infimum_of_the_coreset_is_that_of_the_nearest_point_of_the_hull():
    V, t = np.array([(1, 3), (3, 1), (-2, 2), (-3, -2)], float), np.array([3, -2], float)
    found = minimize(
        lambda w: 0.1 * ((w @ V - t) ** 2).sum(), np.full(4, 0.25), bounds=[(0, 1)] * 4, method="SLSQP",
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14},
    )  # fmt: skip
    problem = build("coreset")
    assert found.fun == pytest.approx(problem.phi_star, abs=1e-8)
    np.testing.assert_allclose(found.x @ V, problem.picture.solution, atol=1e-4)
    far = torch.tensor([-30.0, np.log(0.8), -30.0, np.log(0.2)], dtype=torch.float64)
    assert float(phi(problem, far)) == pytest.approx(0.72, abs=1e-9)


@pytest.mark.parametrize("text", ["minimax", "singleton"])
def test_phi_star_of_the_toys_by_a_grid(text):
    problem = build(text)
    values = [float(phi(problem, torch.tensor([x], dtype=torch.float64))) for x in np.linspace(-10, 10, 2001)]
    assert min(values) == pytest.approx(problem.phi_star, abs=1e-12)


@pytest.mark.parametrize("text", ["logistic", "logistic(split='even_odd')"])
def test_phi_star_of_the_logistic_by_the_judge(text):
    """Another solver of the lower level, another search over the penalty."""
    problem = build(text)
    judge = Judge(problem)
    found = minimize_scalar(
        lambda x: judge(torch.tensor([x], dtype=torch.float64), problem.y0)["phi"], bounds=(-11, -1), method="bounded",
        options={"xatol": 1e-7},
    )  # fmt: skip
    assert found.fun == pytest.approx(problem.phi_star, abs=1e-9)


@pytest.mark.data
@pytest.mark.skipif(
    not os.path.exists(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "libsvm/a9a")),
    reason="no a9a in $BILEVELBENCH_DATA",
)
def test_the_lower_level_of_a9a_by_another_solver():
    """Rows, labels and y*(x) by scikit-learn; 0.323708 is Phi* by its solver and a bounded search, too."""
    problem = build("logistic(data='a9a',penalty='per_feature')")  # builds without a search
    assert (problem.n_g, problem.n_f, problem.y0.numel()) == (32561, 16281, 123)
    x = -6.0
    rows, labels, rest, marks = logistic._parts(())
    model = LogisticRegression(
        C=1 / (len(labels) * np.exp(x)), fit_intercept=False, solver="newton-cholesky", tol=1e-10
    )
    w = torch.from_numpy(model.fit(rows, labels).coef_[0])
    point = torch.full((123,), x, dtype=torch.float64)
    assert float(Oracle(problem).dg_y(point, w).norm()) < 1e-7
    assert float(problem.f(point, w)) == pytest.approx(float(np.logaddexp(0, -marks * (rest @ w.numpy())).mean()))
    assert float(problem.f(point, w)) > 0.323708


# -- where methods fail, as the literature says


def test_singleton_moves_nothing_that_grad_y_g_does_not_see():
    problem = build("singleton")
    gradient = Oracle(problem).dg_y(problem.x0 + 1, problem.y0 + 1)
    assert float(gradient[1]) == 0.0


def test_minimax_has_no_lower_curvature():
    problem = build("minimax")
    _, hessian = Oracle(problem).d2g(problem.x0, problem.y0, torch.ones(1).double())
    assert float(hessian) == 0.0


# -- hyper-cleaning


def noisy_and_true(data, seed=0, noise=0.5, protocol="recommended"):
    parts = split(Draw(seed), data, PROTOCOLS[protocol], noise)
    return parts, parts.noisy, parts.labels


def test_exactly_half_of_the_labels_are_wrong():
    parts, noisy, labels = noisy_and_true("digits")
    assert (noisy != labels).sum() == 300
    assert len(parts.validation) == 600
    assert len(parts.test) == 597
    other, _, _ = noisy_and_true("digits", seed=1)
    assert (other.labels != labels).any()


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_the_share_of_noise_is_exact(noise):
    problem = build(f"hyper_cleaning(noise={noise})")
    assert problem.metrics(problem.x0, problem.y0)["f1"] == 0.0
    parts, _, _ = noisy_and_true("digits", noise=noise)
    assert (parts.noisy != parts.labels).sum() == round(600 * noise)


def test_reference_lines_are_in_the_order_that_makes_sense():
    lines = build("hyper_cleaning").references()
    assert set(lines) == {
        "noisy labels", "weights at the start", "clean mask (oracle)", "validation only", "clean mask + validation",
    }  # fmt: skip
    assert lines["noisy labels"]["accuracy"] < lines["clean mask (oracle)"]["accuracy"]
    assert lines["validation only"]["phi"] == min(line["phi"] for line in lines.values())


def test_reference_lines_are_converged():
    """Phi at the start weights, by the judge, is the line "weights at the start"."""
    problem = build("hyper_cleaning")
    assert Judge(problem)(problem.x0, problem.y0)["phi"] == pytest.approx(
        problem.references()["weights at the start"]["phi"], abs=1e-5
    )


def test_the_clean_mask_has_perfect_detection():
    problem = build("hyper_cleaning")
    _, noisy, labels = noisy_and_true("digits")
    x = torch.from_numpy(np.where(noisy == labels, 5.0, -5.0))
    found = problem.metrics(x, problem.y0)
    assert found["f1"] == 1.0
    assert found["auc"] == 1.0


@needs_mnist
@pytest.mark.data
def test_the_recommended_mnist_protocol():
    parts, noisy, labels = noisy_and_true("mnist")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(5000)[:2500]
    expected = labels.copy()
    expected[chosen] = (labels[chosen] + rng.integers(1, 10, 2500)) % 10
    np.testing.assert_array_equal(noisy, expected)
    assert (noisy != labels).sum() == 2500
    assert parts.train.shape == parts.validation.shape == (5000, 784)
    assert parts.test.shape == (10000, 784)
    assert parts.train.max() == 1.0
    np.testing.assert_array_equal(labels[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])  # the file's first digits
    problem = build("hyper_cleaning(data='mnist')")
    assert problem.x0.numel(), problem.y0.numel() == (5000, 7850)


# -- few-shot


def test_heads_are_solved_exactly_and_the_oracle_line_is_zero():
    problem = build("few_shot(tasks=3,width=5)")
    gradient = Oracle(problem).dg_y(problem.x0, problem.y_star(problem.x0))
    assert float(gradient.norm()) < 1e-10
    lines = problem.references()
    assert lines["amplitude and phase known"]["test_mse"] == 0.0
    assert lines["one head for all tasks"]["test_mse"] > lines["untrained body"]["test_mse"]


def test_another_seed_makes_other_labels_noisy():
    masks = []
    for seed in (0, 1):
        parts = split(Draw(seed), "digits", PROTOCOLS["recommended"], 0.5)
        masks.append(parts.noisy != parts.labels)
        assert masks[-1].sum() == 300
    assert 0.3 < (masks[0] != masks[1]).mean() < 0.7
