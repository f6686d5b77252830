"""Learning problems: optima by a second method, reference lines in the order that they must have, solvers that gain."""

import os

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances

from bilevelbench import Draw, Oracle, build_problem, make_solver
from bilevelbench.core.solver import start
from bilevelbench.data import find
from bilevelbench.measure.judge import Judge
from bilevelbench.problems import fair as fair_module


def build(text, seed=0):
    return build_problem(text, Draw(seed))


def after(problem, solver, steps):
    """The last point of a short run of a solver."""
    made, oracle = make_solver(solver), Oracle(problem, 0)
    state = start(made, problem, oracle)
    for k in range(steps):
        oracle.begin(k)
        state = made.step(oracle, state)
    return state.x, state.y


def judged(text, solver, steps):
    """All metrics at the start and after a short run."""
    problem = build(text)
    judge = Judge(problem)
    return judge(problem.x0, problem.y0), judge(*after(problem, solver, steps))


def measured(text, solver, steps):
    """f and the problem's own figures, at the start and after: a nonconvex lower level is dear to solve again."""
    problem = build(text)
    points = (problem.x0, problem.y0), after(problem, solver, steps)
    return ({"f": float(problem.f(x, y)), **problem.metrics(x, y)} for x, y in points)


def descend(problem, x0):
    """The least Phi that L-BFGS finds from x0, by differentiating through the closed form of y*."""

    def fun(vector):
        x = torch.from_numpy(vector).requires_grad_()
        value = problem.f(x, problem.y_star(x))
        return float(value.detach()), torch.autograd.grad(value, x)[0].numpy()

    return minimize(fun, x0.numpy(), jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 0, "maxiter": 3000})


# -- policy


@pytest.mark.parametrize("text", ["policy", "policy(shaping='bonus')", "policy(temperature=0.5,gamma=0.8)"])
def test_value_iteration_is_the_least_phi(text):
    problem = build(text)
    found = min(descend(problem, problem.x0 + scale * Draw(1).normal(len(problem.x0))).fun for scale in (0, 1))
    assert found == pytest.approx(problem.phi_star, abs=1e-6)
    assert found >= problem.phi_star - 1e-10


def test_the_potential_that_solves_the_policy_problem_is_the_optimal_value():
    from bilevelbench.problems.policy import _draw, _soft_values

    problem = build("policy")
    values = torch.from_numpy(_soft_values(_draw(Draw(0), 12, 3), 0.9, 0.1))
    assert float(problem.f(values, problem.y_star(values))) == pytest.approx(problem.phi_star, abs=1e-10)
    np.testing.assert_allclose(problem.y_star(values), values, atol=1e-10)


def test_the_lines_of_the_policy_problem_are_ordered():
    lines = build("policy").references()
    returns = [lines[name]["return"] for name in ("unshaped reward", "soft optimum", "best policy (linear program)")]
    assert returns == sorted(returns)
    cold = build("policy(temperature=0.001)").references()  # entropy worth nothing: both optima are one
    assert cold["soft optimum"]["return"] == pytest.approx(cold["best policy (linear program)"]["return"], rel=1e-6)


def test_shaping_by_bilevel_descent_is_worth_something():
    before, now = judged("policy", "aid_cg(lr=1.0,lr_inner=0.3,T=20,K=20)", 60)
    assert before["share"] == 0
    assert now["share"] > 0.7
    assert now["phi"] < before["phi"]


# -- fair


def test_a_grid_finds_the_best_weights_of_the_fair_problem():
    """The lower level by scikit-learn, the upper one by a grid of 3^4 points, refined around the best five times."""
    problem = build("fair(size=100)")
    train, _, _ = fair_module._synthetic(Draw(0), 100)
    cell = 2 * train.groups + (train.labels > 0)
    lower = LogisticRegression(
        C=1 / (2 * 1e-3 * len(cell)), fit_intercept=False, solver="newton-cholesky", tol=1e-9, max_iter=200
    )

    def phi_at(x):
        y = lower.fit(train.inputs, train.labels, sample_weight=np.exp(x.numpy())[cell]).coef_[0]
        assert float(Oracle(problem).dg_y(x, torch.from_numpy(y)).norm()) < 1e-5  # the same lower problem
        return float(problem.f(x, torch.from_numpy(y)))

    centre, half, found = torch.zeros(4, dtype=torch.float64), 3.0, []
    for _ in range(6):
        line = torch.linspace(-half, half, 3, dtype=torch.float64)
        points = problem.project_x(centre + torch.cartesian_prod(line, line, line, line))
        values = [phi_at(x) for x in points]
        centre, half, found = points[int(np.argmin(values))], half / 2, [*found, *values]
    assert min(found) >= problem.phi_star - 1e-9
    assert min(found) == pytest.approx(problem.phi_star, abs=1e-3)


def test_reweighing_is_fairer_than_equal_weights_and_bilevel_descent_fairer_still():
    lines = build("fair").references()
    assert lines["best weights"]["phi"] == min(line["phi"] for line in lines.values())
    for figure in ("phi", "parity"):
        assert lines["best weights"][figure] < lines["reweighing"][figure] < lines["equal weights"][figure]
    assert lines["accuracy only (rho = 0)"]["accuracy"] >= lines["best weights"]["accuracy"]
    _, now = judged("fair", "aid_cg(lr=3.0,lr_inner=1.0,T=20,K=10)", 40)
    assert now["phi"] < lines["reweighing"]["phi"]


# -- dictionary


def test_the_planted_atoms_are_matched_whatever_their_order_and_sign():
    from bilevelbench.problems.dictionary import _plant

    problem = build("dictionary")
    planted = _plant(Draw(0), 10, 15, 60, 2, 0.1).atoms
    shuffled = planted[Draw(1).permutation(15)] * torch.sign(Draw(2).normal(15, 1)) * 3
    assert problem.metrics(shuffled.reshape(-1), problem.y0) == pytest.approx({"atoms": 1.0, "recovered": 1.0})
    y = Draw(3).normal(len(problem.y0))
    assert float(problem.f(problem.x0, y)) == pytest.approx(float(problem.f(7 * problem.x0, y)))


def test_the_lines_of_the_dictionary_are_ordered_and_bilevel_descent_gains():
    lines = build("dictionary").references()
    names = ("planted atoms", "codes and atoms together", "random atoms (start)")
    assert [lines[name]["phi"] for name in names] == sorted(lines[name]["phi"] for name in names)
    assert [lines[name]["atoms"] for name in names] == sorted((lines[name]["atoms"] for name in names), reverse=True)
    before, now = judged("dictionary", "aid_cg(lr=10.0,lr_inner=0.2,T=10,K=10)", 40)
    assert before["phi"] == pytest.approx(lines["random atoms (start)"]["phi"], abs=1e-8)
    assert now["phi"] < 0.9 * before["phi"]
    assert now["atoms"] > before["atoms"]


# -- poisoning


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_poison_hurts_more_than_wrong_labels(goal):
    text = f"poisoning(goal={goal!r})"
    lines = build(text).references()
    figure, worse = ("success", 1) if goal == "targeted" else ("accuracy", -1)
    assert worse * lines["label flips (start)"][figure] >= worse * lines["no poison"][figure]
    before, now = judged(text, "aid_cg(lr=3.0,lr_inner=0.5,T=20,K=10)" if worse == 1
                         else "aid_cg(lr=100.0,lr_inner=0.5,T=20,K=10)", 30)  # fmt: skip
    assert before["phi"] == pytest.approx(lines["label flips (start)"]["phi"], abs=1e-6)
    assert now["phi"] < before["phi"]
    assert worse * now[figure] > worse * lines["label flips (start)"][figure]
    assert now["drop"] == pytest.approx(lines["no poison"]["accuracy"] - now["accuracy"])


def test_poison_images_stay_images_and_their_labels_are_wrong():
    from bilevelbench.problems.poisoning import _plan

    problem, attack = build("poisoning"), _plan(Draw(0), "digits", "untargeted", 0.06, "recommended")
    x, _ = after(problem, "aid_cg(lr=1000.0,lr_inner=0.5,T=5,K=5)", 3)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert float((x - problem.x0).abs().max()) == 1.0  # some pixels crossed from bound to bound
    copied = [np.flatnonzero((attack.train.pixels == image).all(1))[0] for image in attack.start]
    assert (attack.train.labels[copied] != attack.labels).all()
    targeted = _plan(Draw(0), "digits", "targeted", 0.06, "recommended")
    assert set(targeted.labels) == {3}


# -- reweighting


def test_learnt_weights_do_what_balancing_by_class_does():
    problem = build("reweighting")
    lines = problem.references()
    assert lines["validation only"]["phi"] == min(line["phi"] for line in lines.values())
    assert lines["equal weights (start)"]["accuracy"] < lines["balanced by class"]["accuracy"]
    before, now = judged("reweighting", "aid_cg(lr=3.0,lr_inner=0.5,T=20,K=10)", 40)
    assert before["phi"] == pytest.approx(lines["equal weights (start)"]["phi"], abs=1e-6)
    assert before["rare_weight"] == pytest.approx(3 / 110)
    assert now["phi"] < lines["balanced by class"]["phi"]
    assert now["accuracy"] > lines["equal weights (start)"]["accuracy"]
    assert now["rare_weight"] > 0.2


# -- continual


def test_a_controller_remembers_more_than_replay_alone():
    lines = build("continual").references()
    order = ("last task alone", "memory and last task (start)", "all tasks together", "each task alone")
    accuracies = [lines[name]["accuracy"] for name in order]
    assert accuracies == sorted(accuracies)
    before, now = measured("continual", "bome(lr=0.3,lr_inner=0.3,T=10)", 60)
    assert now["accuracy"] > lines["memory and last task (start)"]["accuracy"]
    assert 0 < now["forgetting"] < before["forgetting"]


def test_the_controller_changes_nothing_at_the_start_and_tells_tasks_apart_later():
    from bilevelbench.problems._film import Net

    problem = build("continual")
    net, images = Net.of(3, 16, 64), Draw(1).uniform(0, 1, 1, 64).expand(3, 64)
    task = torch.arange(3)
    same = net.logits(problem.x0, problem.y0, images, task)
    torch.testing.assert_close(same[0], same[1], rtol=1e-12, atol=1e-13)
    other = net.logits(problem.x0 + 0.1 * Draw(2).normal(len(problem.x0)), problem.y0, images, task)
    assert float((other[0] - other[1]).abs().max()) > 1e-3


def test_the_lower_level_of_continual_learning_is_the_last_task_and_a_memory_of_the_others():
    from bilevelbench.problems._film import Net
    from bilevelbench.problems.continual import _moment

    knobs = {"tasks": 3, "per_task": 30, "memory": 5, "replay": 0.7}
    problem = build("continual(tasks=3,per_task=30,memory=5,replay=0.7)")
    x, y = problem.x0 + Draw(1).normal(len(problem.x0)), problem.y0 + 0.1 * Draw(2).normal(len(problem.y0))
    lower, upper, *_ = _moment(Draw(0), "digits", *knobs.values())
    assert [int((part.task == k).sum()) for part in (lower, upper) for k in range(3)] == [5, 5, 30, 5, 5, 5]

    def mean(part, k):
        rows = part.task == k
        logits = Net.of(3, 16, 64).logits(x, y, part.inputs[rows], part.task[rows])
        return torch.nn.functional.cross_entropy(logits, part.labels[rows])

    g = mean(lower, 2) + 0.7 * (mean(lower, 0) + mean(lower, 1)) / 2 + 1e-4 * y @ y
    torch.testing.assert_close(problem.g(x, y), g)
    torch.testing.assert_close(problem.f(x, y), sum(mean(upper, k) for k in range(3)) / 3)


# -- architecture


def test_every_discrete_net_is_on_the_lines_and_descent_trains_the_mixed_one():
    lines = build("architecture").references()
    names = ("best discrete net", "median discrete net", "worst discrete net")
    values = [lines[name]["phi"] for name in names]
    assert values == sorted(values)
    assert values[0] < values[2]
    before, now = measured("architecture", "bome(lr=0.3,lr_inner=0.3,T=10)", 100)
    assert before["certainty"] == pytest.approx(1 / 3)
    assert now["f"] < 0.5 * before["f"]
    assert now["accuracy"] > 0.6
    assert now["certainty"] > before["certainty"]


def test_a_cell_is_the_operations_on_its_edges():
    from bilevelbench.problems.architecture import _cell

    cell = _cell(2, 3, 5)
    y, inputs = Draw(0).normal(cell.flat.size), Draw(1).normal(4, 5)
    stem, shift, matrices, head, bias = cell.flat.split(y)
    h = torch.tanh(inputs @ stem.T + shift)
    linear_then_tanh = torch.tanh(h @ matrices[0].T) @ head.T + bias
    mix = torch.tensor([[0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(cell.logits(mix, y, inputs), linear_then_tanh)


# -- coreset of a kernel regression


def test_the_lower_level_of_the_coreset_is_scikit_learns_kernel_ridge():
    from bilevelbench.problems.coreset_kernel import SIZES, parts

    problem = build("coreset_kernel(ridge=0.01)")
    candidates, every, _ = parts(Draw(0), "digits", SIZES["digits"])
    x = Draw(1).normal(len(problem.x0))
    distances = pairwise_distances(candidates.pixels, metric="sqeuclidean")
    model = KernelRidge(alpha=0.01, kernel="rbf", gamma=1 / np.median(distances))
    weights = torch.softmax(x, 0).numpy()
    model.fit(candidates.pixels, np.eye(10)[candidates.labels] - 0.1, sample_weight=weights)
    errors = np.square(model.predict(every.pixels) - np.eye(10)[every.labels] + 0.1).sum(1)
    assert float(problem.f(x, problem.y_star(x))) == pytest.approx(0.5 * errors.mean(), rel=1e-9)


def test_weights_on_candidates_do_better_than_equal_ones():
    problem = build("coreset_kernel")
    lines = problem.references()
    found = descend(problem, problem.x0)
    x = torch.from_numpy(found.x)
    assert lines["validation only"]["phi"] < found.fun < 0.97 * lines["balanced by class"]["phi"]
    now = problem.metrics(x, problem.y_star(x))
    assert now["accuracy"] > lines["equal weights (start)"]["accuracy"]
    assert now["size"] < 39
    before, after_ = judged("coreset_kernel", "aid_cg(lr=30.0,lr_inner=1.0,T=20,K=20)", 40)
    assert before["phi"] == pytest.approx(lines["equal weights (start)"]["phi"], rel=1e-12)
    assert after_["phi"] < before["phi"]


# -- a9a, where its files are

needs_a9a = pytest.mark.skipif(
    not os.path.exists(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "libsvm/a9a")),
    reason="no a9a in $BILEVELBENCH_DATA",
)


@needs_a9a
@pytest.mark.data
@pytest.mark.parametrize(("clean", "best"), [(False, -8.134), (True, -7.810)])
def test_the_best_penalty_of_a9a_by_scikit_learn_and_a_search_of_its_own(clean, best):
    """Newton's method of scikit-learn below; above, penalties over the whole range, then Brent's bounded search."""
    problem = build(f"logistic(data='a9a',clean={clean})")
    (inputs, labels), (others, targets) = (find.libsvm(name) for name in ("a9a", "a9a.t"))
    dense = inputs.toarray()
    if clean:
        known = {tuple(row) for row in inputs.tolil().rows}
        new = [tuple(row) not in known for row in others.tolil().rows]
        others, targets = others[new], targets[new]

    def phi(x):
        model = LogisticRegression(
            C=1 / (len(labels) * np.exp(x)), fit_intercept=False, solver="newton-cholesky", tol=1e-8
        )
        y = model.fit(dense, labels).coef_[0]
        return float(np.logaddexp(0, -targets * (others @ y)).mean())

    far = [phi(x) for x in (-12, -5, 0)]
    found = minimize_scalar(phi, bounds=(-10, -6), method="bounded", options={"xatol": 0.02, "maxiter": 8})
    assert found.x == pytest.approx(best, abs=0.03)
    assert found.fun == pytest.approx(problem.phi_star, abs=1e-7)
    assert min(far) > found.fun > problem.phi_star - 1e-9


@needs_a9a
@pytest.mark.data
@pytest.mark.parametrize("clean", [False, True])
def test_the_best_weights_of_fair_on_a9a_by_scikit_learn_and_differences(clean):
    """The lower level by scikit-learn; above, L-BFGS on finite differences from corners, and points drawn at random."""
    problem = build(f"fair(data='a9a',clean={clean})")
    (A, t, groups), (B, s, other), _ = fair_module._a9a(Draw(0), 400, clean)
    cell = 2 * groups + (t > 0)

    def phi(x):
        model = LogisticRegression(
            C=1 / (2 * 1e-3 * len(t)), fit_intercept=False, solver="newton-cholesky", tol=1e-11, max_iter=200
        )
        scores = B @ model.fit(A, t, sample_weight=np.exp(x)[cell]).coef_[0]
        chance = 1 / (1 + np.exp(-scores))
        difference = chance[other == 1].mean() - chance[other == 0].mean()
        return float(np.logaddexp(0, -s * scores).mean() + difference**2)

    rng = np.random.default_rng(5)
    starts = [np.full(4, -1.0), rng.uniform(-2, 2, 4)]
    ends = [minimize(phi, x, method="L-BFGS-B", bounds=[(-3, 3)] * 4, options={"eps": 1e-5}) for x in starts]
    assert min(end.fun for end in ends) == pytest.approx(problem.phi_star, abs=1e-7)
    assert min(phi(x) for x in rng.uniform(-3, 3, (30, 4))) > problem.phi_star


@needs_a9a
@pytest.mark.data
def test_the_groups_of_a9a_are_the_columns_of_sex():
    """Shares of women and of high incomes in each group, counted once from the file's text."""
    whole = fair_module._a9a(Draw(0), 16000)
    groups, labels = (np.concatenate([part[i] for part in whole[:2]]) for i in (2, 1))
    assert 1 - groups.mean() == pytest.approx(0.3308, abs=0.002)
    assert (labels[groups == 0] > 0).mean() == pytest.approx(0.1095, abs=0.003)
    assert (labels[groups == 1] > 0).mean() == pytest.approx(0.3057, abs=0.003)
    assert whole[0].inputs.shape == (16000, 122)  # the two columns left out, one of ones added
    assert (whole[0].inputs[:, -1] == 1).all()
