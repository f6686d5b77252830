"""Bring your own problem: what `check` says is wrong with a file, in a sentence, and what it says a good one has."""

import re

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from bilevelbench import Draw, Problem, build_problem
from bilevelbench.contract import check
from bilevelbench.contract.portrait import LANCZOS, along_descent, coupling, curvature, peak_bytes
from bilevelbench.core import derive
from bilevelbench.core.errors import RequestError
from bilevelbench.core.registry import PROBLEMS

HEAD = """
import numpy as np
import torch
from bilevelbench import Draw, Problem, problem


@problem("mine", shows="nothing")
def mine(rng: Draw) -> Problem:
    A, t = rng.put(rng.normal(8, 3), rng.normal(8))
    zeros = torch.zeros(3, dtype=torch.float64)

    def f(x, y, *rows):
        return (A @ y - t).square().mean()  # f

    def g(x, y, *rows):
        return 0.5 * (A @ y - t).square().mean() + 0.5 * (torch.exp(x) * y**2).sum()

"""
F = "(A @ y - t).square().mean()  # f"  # its place in the file
GOOD = HEAD + "    return Problem(f=f, g=g, x0=zeros, y0=zeros, flags={'strongly_convex'})\n"


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What check says of a file with these contents: (passed, text). The registry forgets the file afterwards."""
    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", dict(PROBLEMS.entries))

    def say(text):
        path = tmp_path / "myproblem.py"
        path.write_text(text)
        return check(str(path))

    return say


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (F, "float((A @ y - t).square().mean())",
         "f answers a float, not a tensor: the gradient is cut"),
        (F, "(A @ y - t).square()",
         r"f answers a tensor of shape \(8,\); a scalar is wanted"),
        (F, "(A.T @ y - t).square().mean()",
         r"f\(x, y\) fails for x of shape \(3,\) and y of shape \(3,\): RuntimeError: size mismatch"),
        (F, "(A @ y.detach() - t).square().mean()",
         "f changes with y, but the gradient of f in y is cut"),
        (F, "x.square().sum()", "f does not depend on y"),
        (F, "torch.from_numpy(A.numpy() @ y.numpy()).sum()",
         "f converts x or y to numpy, which cuts the gradient"),
        (F, "torch.as_tensor(np.dot(A, y)).sum()",
         "f converts x or y to numpy, which cuts the gradient"),
        (F, "y.mul_(2).sum()", "f changes x or y in place"),
        (F, "(A.float() @ y.float()).sum()",
         "f answers torch.float32 for variables in torch.float64"),
        (F, "(A.float() @ y).sum()", "f mixes dtypes"),
        (F, "(y + x).norm()", None),  # torch answers 0 there
        (F, "y.abs().sqrt().sum()",
         "the gradient of f in y is not finite at the start"),
        (F, "torch.log(y).sum()", "f is -inf at the start"),
        (F, "y.sum() * torch.rand(())", "f has another (value|gradient in y) when it is asked again"),
        (F, "y.exp().sum() * torch.rand(()).to(y)",
         "f has another (value|gradient in y) when it is asked again"),
        ("0.5 * (A @ y - t).square().mean() +", "A.sum() +", None),
        ("(torch.exp(x) * y**2).sum()", "x.sum()", None),
        ("y0=zeros,", "y0=zeros, n_g=8,", None),
        ("def g(x, y, *rows)", "def g(x, y)", None),
        ("y0=zeros", "y0=np.zeros(3)", "y0 must be a non-empty tensor of one dimension"),
        ("g=g, ", "", "missing 1 required"),
        ("    return Problem", "    Problem", "answers None, not a Problem"),
        ("rng.normal(8, 3)", "rng.normals(8, 3)", "cannot be built: AttributeError"),
        ("{'strongly_convex'}", "{'strongly convex'}", "unknown flags"),
    ],
)  # fmt: skip
def test_a_fault_is_one_sentence(said, old, new, words):
    assert old in GOOD
    passed, text = said(GOOD.replace(old, new))
    if words is None:  # no fault of the first check
        assert re.search("functions of torch +ok", text), text
        return
    assert not passed
    failures = [line for line in text.splitlines() if "FAILED" in line]
    assert len(failures) == 1
    assert re.search(words, failures[0]), text
    assert "Error" not in failures[0] or "RuntimeError: size" in failures[0] or "cannot be built" in failures[0]
    assert text.splitlines()[-1].endswith("fails the first check, without which the others mean nothing")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("def g(x, y, *rows)", "def g(x, y)", "n_g = 8 promises minibatches, but g(x, y, rows) fails"),
        ("return 0.5", "return 0 * y.detach().sum() + 0.5", None),
        (
            "0.5 * (A @ y - t).square().mean() + 0.5 * (torch.exp(x) * y**2).sum()",
            "x.exp().sum()",
            "g does not depend on y",
        ),
    ],
)
def test_a_fault_of_g_is_one_sentence(said, old, new, words):
    passed, text = said(GOOD.replace(old, new).replace("y0=zeros,", "y0=zeros, n_g=8,"))
    if words is None:
        assert re.search("functions of torch +ok", text)
    else:
        assert not passed
        assert words in text


def test_files_that_are_none_of_ours_are_one_sentence(said):
    with pytest.raises(RequestError, match=r"myproblem\.py, line 1: "):
        said("def f(x y): pass")
    with pytest.raises(RequestError, match="registers no solver and no problem"):
        said(GOOD.replace('@problem("mine", shows="nothing")\n', ""))
    with pytest.raises(RequestError, match="cannot be imported: ModuleNotFoundError"):
        said("import nowhere_to_be_found")


def test_a_second_problem_of_a_file_is_checked_after_a_broken_one(said):
    other = GOOD.replace("mine", "other").replace(F, "float(y.sum())")
    passed, text = said(other + GOOD)
    assert not passed
    assert text.count("verdict") == 2
    assert "mine keeps the contract" in text


def test_what_a_good_problem_has(said):
    passed, text = said(GOOD)
    assert passed, text
    assert "variables: 3 upper, 3 lower" in text
    assert re.search("curvature of g in y at the start: from [0-9.]+ to [0-9.]+, condition", text)
    assert "a gradient of f" in text
    assert "no flag" not in text
    _, text = said(GOOD.replace("{'strongly_convex'}", "()"))
    assert "no flag says whether g(x, .) is convex: `strongly_convex` if it is so for every x" in text


# -- curvature


def quadratic(values, flags=()):
    """g with the given curvatures in a random basis."""
    n = len(values)
    basis = torch.linalg.qr(Draw(3).normal(n, n))[0]
    H = basis @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ basis.T
    zeros = torch.zeros(n, dtype=torch.float64)
    return Problem(
        f=lambda x, y: (y - 1).square().sum(), g=lambda x, y: 0.5 * y @ H @ y - x @ y, x0=zeros + 1, y0=zeros,
        flags=frozenset(flags),
    )  # fmt: skip


@pytest.mark.parametrize("values", [[1.0], [0.5, 7.0], [-2.0, 0.0, 3.0], [2.0] * 5, np.linspace(1e-3, 10, LANCZOS)])
def test_curvature_is_exact_where_there_are_few_variables(values):
    problem = quadratic(values)
    found = curvature(problem.g, problem.x0, problem.y0)
    assert found.exact
    assert found.least == pytest.approx(min(values), abs=1e-9)
    assert found.largest == pytest.approx(max(values), abs=1e-9)


def test_curvature_of_a_network_is_that_of_scipy():
    problem = build_problem("continual", Draw(0))
    found = curvature(problem.g, problem.x0, problem.y0)
    n = len(problem.y0)

    def product(v):
        return derive.second(problem.g, problem.x0, problem.y0, torch.from_numpy(v.ravel()), wrt="y")[1].numpy()

    least, largest = eigsh(LinearOperator((n, n), matvec=product, dtype=float), k=2, which="BE", tol=1e-8)[0]
    assert not found.exact
    assert found.largest == pytest.approx(largest, rel=1e-6)
    assert found.least == pytest.approx(least, rel=1e-6)


def test_words_on_curvature():
    kinds = {"condition": [1.0, 4.0], "singular": [0.0, 4.0], "not convex there": [-1.0, 4.0]}
    for words, values in kinds.items():
        problem = quadratic(values)
        assert words in str(curvature(problem.g, problem.x0, problem.y0))
    assert "condition 4" in str(curvature(quadratic([1.0, 4.0]).g, torch.zeros(2).double(), torch.zeros(2).double()))


def test_descent_goes_down_and_stays_within_bounds():
    problem = build_problem("few_shot(tasks=2,width=4)", Draw(0))
    points = list(along_descent(problem))
    values = [float(problem.g(problem.x0, y)) for _, y, _ in points]
    assert [steps for steps, *_ in points] == [0, 10, 100]
    assert values[0] > values[1] > values[2]
    steep = Problem(  # the curvature at the start promises a step that is 100 times too long
        f=lambda x, y: y.sum(), g=lambda x, y: (y.exp() - 10 * y).sum(), x0=torch.zeros(1).double(),
        y0=torch.full((1,), -3.0).double(),
    )  # fmt: skip
    assert float([y for _, y, _ in along_descent(steep)][-1]) == pytest.approx(np.log(10), abs=1e-2)
    bounded = build_problem("minimax", Draw(0))
    assert all(torch.equal(bounded.project_y(y), y) for _, y, _ in along_descent(bounded))


def test_coupling_is_the_largest_singular_value():
    problem = build_problem("logistic(penalty='per_feature')", Draw(0))
    y = problem.y0 + Draw(1).normal(len(problem.y0))
    columns = torch.eye(len(y), dtype=torch.float64)
    matrix = torch.stack([derive.second(problem.g, problem.x0, y, column, wrt="x")[0] for column in columns])
    largest = float(torch.linalg.matrix_norm(matrix, 2))
    assert coupling(problem, problem.x0, y) == pytest.approx(largest, rel=1e-2)


def test_bytes_count_what_a_gradient_holds():
    zeros = torch.zeros(1000, dtype=torch.float64)
    problem = Problem(f=lambda x, y: y.exp().sum(), g=lambda x, y: y.exp().sum() + x.sum(), x0=zeros[:1], y0=zeros)
    assert 8000 <= peak_bytes(problem, "df") <= 3 * 8000
    assert 2 * 8000 <= peak_bytes(problem, "d2g") <= 8 * 8000


def test_a_flag_that_curvature_gives_the_lie(said):
    concave = GOOD.replace("0.5 * (torch.exp(x) * y**2).sum()", "(x * y).sum() - 10 * (y**2).sum()")
    passed, text = said(concave)
    assert not passed
    assert "flagged convex, but has the curvature -" in text
    flat = GOOD.replace("0.5 * (A @ y - t).square().mean() + 0.5 * (torch.exp(x) * y**2).sum()",
                        "x[0] * y[0] + y[0] ** 2 + y[1] ** 2")  # fmt: skip
    passed, text = said(flat)
    assert not passed
    assert re.search("flagged strongly_convex, but has the curvature [-e0-9.]+ at the start; flag it convex", text)
