"""Guards before measuring: each fault of a problem is refused in a sentence; what is sound passes, with its digest."""

import hashlib
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, ctc_loss, embedding_bag, scaled_dot_product_attention

from bilevelbench import Draw, Problem, Unsupported, build_problem, from_modules, make_solver
from bilevelbench.contract.portrait import portrait
from bilevelbench.core import derive, functional
from bilevelbench.core.registry import PROBLEMS, Entry
from bilevelbench.measure.guards import guard
from bilevelbench.measure.judge import Judge
from bilevelbench.measure.prices import prices
from bilevelbench.run.job import Job
from bilevelbench.run.worker import execute
from bilevelbench.store.journal import read
from bilevelbench.store.schema import RunKey


def guarded(make, solver="bome", dtype=torch.float64, seed=0):
    """What the guards say of a problem that a function of a Draw makes."""
    rng, exact = Draw(seed, dtype=dtype), Draw(seed)

    def build(draw):
        problem = make(draw)
        start = {name: getattr(problem, name).to(draw.dtype) for name in ("x0", "y0")}
        return Problem(**{**vars(problem), **start})

    return guard(build, build(rng), rng, build(exact), exact, make_solver(solver))


def least_squares(rng, draw=None, **fields):
    A = rng.put(rng.normal(4, 3) if draw is None else draw())
    return Problem(
        f=lambda x, y: (y - 1).square().sum(), g=lambda x, y: (A @ y - 1).square().sum() + x.exp() @ y**2,
        x0=torch.zeros(3), y0=torch.ones(3), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_sound_problem_passes_and_is_told_by_its_digest(dtype):
    found = guarded(least_squares, dtype=dtype)
    assert found["guards"] == {
        "asked twice": "the same answers",
        "built twice": "the same problem with seed 0",
        "second derivatives": "there",
    }
    assert found["digest"] == guarded(least_squares)["digest"]
    A = Draw(0).normal(4, 3)
    f, g = 0.0, float((A.sum(1) - 1).square().sum() + 3)
    assert found["digest"]["numbers"] == pytest.approx([f, g, 0.0, 3**0.5], rel=1e-12)
    other = guarded(least_squares, dtype=dtype, seed=1)["digest"]
    assert all(found["digest"][name] != other[name] for name in ("drawn", "computed", "numbers"))


@pytest.mark.parametrize("spec", ["coreset", "quadratic", "hyper_cleaning(data='digits')", "few_shot", "policy"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_comes_with_us_passes(spec, dtype):
    found = guarded(partial(build_problem, spec), "aid_cg", dtype)
    assert found["guards"]["second derivatives"] == "there"
    assert found["guards"]["asked twice"] == "the same answers"


class Halving(nn.Linear):
    """A layer that scales its input in place, as many scripts do."""

    def forward(self, a):
        return super().forward(a.mul_(0.5))


def halved(rng, lower=None):
    torch.manual_seed(rng.seed)
    a, t = rng.normal(8, 2), torch.arange(8) % 3
    return from_modules(
        rng, nn.Linear(1, 1), lower or Halving(2, 3), [(a[:4], t[:4])], [(a[4:], t[4:])],
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t),
        lower_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t) * upper(torch.ones(1).to(a)).exp().sum(),
    )  # fmt: skip


class Counting(nn.Linear):
    """A layer that counts its calls in a buffer, and looks at the count."""

    def __init__(self):
        super().__init__(2, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, a):
        self.seen += 1
        return super().forward(a) * self.seen


def hidden(change):
    """A problem whose data are neither put nor safe from f and g."""

    def make(rng):
        A = rng.normal(3)

        def f(x, y):
            change(A)
            return (A * y).sum() + x.sum()

        return Problem(f=f, g=lambda x, y: (y - x).square().sum(), x0=torch.zeros(3), y0=torch.ones(3))

    return make


def shifting(name, move):
    """A problem that moves its own start, or data, when f or g is asked."""

    def make(rng):
        A = rng.put(rng.normal(3))
        value = lambda x, y: (A * y).sum() + x.sum() + (y - x).square().sum()  # noqa: E731

        def moving(x, y):
            with torch.no_grad():
                move(A, x, y)
            return value(x, y)

        return Problem(**{"f": value, "g": value, name: moving}, x0=torch.zeros(3), y0=torch.ones(3))

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (halved, r"f changes data \(float64 of shape \(4, 2\)\) that the problem put in place .* make new tensors"),
        (lambda rng: halved(rng, Counting()), r"f changes data \(float64 of shape \(\)\) that the problem put"),
        (shifting("g", lambda A, x, y: A.mul_(2)), r"g changes data \(float64 of shape \(3,\)\)"),
        (shifting("g", lambda A, x, y: A.data.mul_(2)), r"g changes data \(float64 of shape \(3,\)\)"),
        (shifting("f", lambda A, x, y: np.multiply(A.numpy(), 2, out=A.numpy())), "f changes data"),
        (shifting("f", lambda A, x, y: A.data.copy_(A.flip(0))), "f has another gradient in y"),
        (shifting("f", lambda A, x, y: x.data.add_(1)), "f changes x0 in place"),
        (shifting("g", lambda A, x, y: y.data.sub_(1)), "g changes y0 in place"),
        (hidden(lambda A: A.mul_(0.5)), r"f has another value when it is asked again at one point \(.*, then .*\)"),
        (hidden(lambda A: A.uniform_()), "f has another value when it is asked again"),
        (hidden(lambda A: A.copy_(torch.rand(3))), "what is random comes from rng as the problem is built"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_changes_by_asking_is_refused(make, words, dtype):
    with pytest.raises(Unsupported, match=words.replace("float64", str(dtype).removeprefix("torch."))) as error:
        guarded(make, dtype=dtype)
    assert error.value.fault == "problem"


def test_a_change_of_data_that_moves_no_value_is_seen():
    """Rows of a sum change places, once: neither f nor g differs, a minibatch would."""

    def make(rng):
        A = rng.put(torch.arange(4.0))
        swapped = []

        def f(x, y):
            if not swapped:
                swapped.append(A.copy_(A.flip(0)))
            return (A.sum() * y).sum() + x.sum()

        return Problem(f=f, g=lambda x, y: (y - x).square().sum(), x0=torch.zeros(1), y0=torch.ones(1))

    with pytest.raises(Unsupported, match="f changes data"):
        guarded(make)


def test_noise_that_is_no_number_is_no_noise():
    """NaN at the start is not the guards' affair: it is the same twice."""
    bad = lambda rng: least_squares(rng, lambda: torch.full((4, 3), torch.nan))  # noqa: E731
    assert guarded(bad)["guards"]["asked twice"] == "the same answers"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rng: least_squares(rng, lambda: torch.randn(4, 3)), r"two builds with seed 0 differ in data \(.*4, 3"),
        (lambda rng: least_squares(rng, lambda: torch.ones(4, 3) + 1e-6 * torch.rand(4, 3).double()), "differ in data"),
        (lambda rng: least_squares(rng, lambda: np.random.rand(4, 3)), "draw from rng, or seed"),  # noqa: NPY002
        (lambda rng: halved(rng, nn.Linear(2, 3)) if torch.rand(()) > 2 else
         Problem(**{**vars(halved(rng, nn.Linear(2, 3))), "y0": torch.from_numpy(np.random.rand(9))}), "differ in y0"),  # noqa: NPY002
        (lambda rng: least_squares(rng, lambda: torch.ones(int(torch.randint(3, 10**6, ())), 3)), "the shape of data"),
    ],
)  # fmt: skip
def test_another_problem_at_each_build_is_refused(make, words, dtype):
    with pytest.raises(Unsupported, match=words) as error:
        guarded(make, dtype=dtype)
    assert error.value.fault == "problem"


def test_other_functions_at_each_build_are_refused():
    """Data that were not put are compared by what f and g make of them."""

    def make(rng):
        c = torch.rand(3).double()
        return Problem(f=lambda x, y: y @ c.to(y), g=lambda x, y: (y - x) @ (y - x), x0=torch.zeros(3),
                       y0=torch.ones(3))  # fmt: skip

    with pytest.raises(Unsupported, match=r"differ in f at the start .* is all that f and g read put\?"):
        guarded(make)


def test_data_that_are_computed_in_the_runs_precision_are_the_same_problem():
    """Rounding differs between dtypes; a further build tells it from another draw."""

    def make(rng, noise=0.0):
        A = rng.put(rng.normal(30, 30))
        B = rng.put(A @ A.T + noise * torch.rand(30, 30).to(A))  # computed after put: rounded otherwise
        return Problem(f=lambda x, y: y @ y, g=lambda x, y: y @ (B @ y) + x.sum() * y.sum(), x0=torch.zeros(1),
                       y0=torch.zeros(30))  # fmt: skip

    assert guarded(make, dtype=torch.float32)["guards"]["built twice"] == "the same problem with seed 0"
    with pytest.raises(Unsupported, match="differ in data"):
        guarded(partial(make, noise=1e-6), dtype=torch.float32)


# -- digests of what was drawn


def test_draws_are_those_of_numpy_and_each_goes_into_the_digest():
    rng, plain = Draw(7), np.random.default_rng(7)
    assert np.array_equal(rng.normal(3, 2).numpy(), plain.standard_normal((3, 2)))
    assert np.array_equal(rng.uniform(-1, 1, 4).numpy(), plain.uniform(-1, 1, 4))
    assert np.array_equal(rng.permutation(5).numpy(), plain.permutation(5))
    assert rng.numpy.choice(9, 3, replace=False).tolist() == plain.choice(9, 3, replace=False).tolist()
    one, other = np.arange(6), np.arange(6)
    rng.numpy.shuffle(one)
    plain.shuffle(other)
    assert np.array_equal(one, other)
    assert isinstance(rng.numpy, np.random.Generator)


DRAWS = {
    "nothing": lambda rng: None,
    "normal": lambda rng: rng.normal(3),
    "normal of another shape": lambda rng: rng.normal(3, 1),
    "two normals": lambda rng: (rng.normal(3), rng.normal(3)),
    "uniform": lambda rng: rng.uniform(0, 1, 3),
    "uniform on another interval": lambda rng: rng.uniform(0, 2, 3),
    "permutation": lambda rng: rng.permutation(9),
    "child": lambda rng: rng.child("a").normal(3),
    "another child": lambda rng: rng.child("b").normal(3),
    "child after normal": lambda rng: (rng.normal(3), rng.child("a").normal(3)),
    "normal after child": lambda rng: (rng.child("a").normal(3), rng.normal(3)),
    "numpy": lambda rng: rng.numpy.integers(5, size=3),
    "numpy with another bound": lambda rng: rng.numpy.integers(50, size=3),
    "shuffled": lambda rng: rng.numpy.shuffle(np.arange(9)),
    "shuffled otherwise": lambda rng: rng.numpy.shuffle(np.arange(9)[::-1].copy()),
    "a large draw": lambda rng: rng.normal(1000),
}


def test_every_draw_has_its_own_digest_on_any_device_and_dtype():
    def digest(draw, **other):
        rng = Draw(0, **other)
        draw(rng)
        return rng.digest

    digests = {name: digest(draw) for name, draw in DRAWS.items()}
    assert len(set(digests.values())) == len(DRAWS)
    assert digests == {name: digest(draw, dtype=torch.float32) for name, draw in DRAWS.items()}
    # frozen: digests are compared across machines
    whole = hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:16]
    assert whole == "6dc0cc1f3784e7b3"


def test_one_number_in_the_middle_of_a_large_draw_shows(monkeypatch):
    def digest(change):
        rng = Draw(0)
        array = np.arange(10_000.0)
        array[5_000] += change
        rng.numpy.witness("x", array)
        return rng.digest

    assert digest(0.0) != digest(1e-12)


# -- second derivatives


def attention(y, x):
    k = (y * x.exp()).view(1, 1, 4, 4)
    return scaled_dot_product_attention(k, k, k).square().sum()


def ctc(y, x):
    words = torch.tensor([[1, 2]]), torch.tensor([4]), torch.tensor([2])
    return ctc_loss((y * x.exp()).view(4, 1, 4).log_softmax(-1), *words)


def bag(y, x):
    return embedding_bag(torch.tensor([[0, 1]]), (y * x.exp()).view(4, 4)).square().sum()


class Once(torch.autograd.Function):
    """A square whose author made no second derivative: torch takes it for zero."""

    @staticmethod
    def forward(context, y):
        context.save_for_backward(y)
        return y**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, slope):
        return 2 * slope * context.saved_tensors[0]


def once(function, in_f=False, **fields):
    """A problem with a function that can be differentiated once, below or above."""

    def make(rng):
        A = rng.put(rng.normal(16))
        plain, odd = (lambda x, y: (y - A * x).square().sum()), (lambda x, y: function(y, x) + 0.5 * y @ y)
        return Problem(f=odd if in_f else plain, g=plain if in_f else odd, x0=torch.zeros(1).double(),
                       y0=torch.linspace(-1, 1, 16).double(), **fields)  # fmt: skip

    return make


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (attention, r"fused attention; call it under torch\.nn\.attention\.sdpa_kernel\(.*SDPBackend\.MATH\)"),
        (ctc, "no second derivative of ctc_loss; make it of functions that have one, or take solvers that ask"),
        (bag, "no second derivative of embedding_bag"),
    ],
)  # fmt: skip
def test_without_second_derivatives_first_order_solvers_run_and_others_hear_the_remedy(function, words):
    found = guarded(once(function))
    assert found["guards"]["second derivatives"].startswith("none: the problem cannot be differentiated twice")
    with pytest.raises(Unsupported, match=f"aid_cg needs second derivatives: .*{words}") as error:
        guarded(once(function), "aid_cg")
    assert error.value.fault == ""
    problem = once(function, flags={"strongly_convex"})(Draw(0))
    for engine in (derive, functional):
        with pytest.raises(Unsupported, match=words):
            engine.second(problem.g, problem.x0, problem.y0, problem.y0)
        with pytest.raises(Unsupported, match=words):
            engine.cross_transposed(problem.g, problem.x0, problem.y0, problem.x0 + 1)
    metrics = Judge(problem)(problem.x0, problem.y0)  # judging asks for first derivatives alone
    assert metrics["lower_error"] <= 1e-6
    assert metrics["grad_phi_error"] <= 1e-5 * metrics["grad_phi"]
    priced = prices(problem)
    assert "dg_y" in priced
    assert "d2g" not in priced


def test_a_remedy_that_works():
    def mended(y, x):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return attention(y, x)

    assert guarded(once(mended), "aid_cg")["guards"]["second derivatives"] == "there"


def test_second_derivatives_of_f_are_asked_by_few():
    words = guarded(once(attention, in_f=True), "aid_cg")["guards"]["second derivatives"]
    assert words.startswith("of g only: the problem cannot be differentiated twice")
    with pytest.raises(Unsupported, match="sl_bamm needs second derivatives: the problem cannot"):
        guarded(once(attention, in_f=True), "sl_bamm")


def test_second_derivatives_that_come_out_as_zero_are_doubted():
    words = guarded(once(lambda y, x: Once.apply(y).sum() + x.sum()), "aid_cg")["guards"]["second derivatives"]
    assert words.startswith("doubtful: a product with that of g has norm 1, by differences of gradients 3")


@pytest.mark.parametrize(("broken", "status"), [(False, "done"), (True, "unsupported")])
def test_a_run_is_guarded_before_its_first_step(tmp_path, monkeypatch, broken, status):
    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", dict(PROBLEMS.entries))
    draw = (lambda: torch.randn(4, 3)) if broken else None
    entry = Entry("my_problem", lambda rng: least_squares(rng, draw, notes=("of my own",)), "", Path(__file__))
    PROBLEMS.entries["my_problem"] = entry
    key = RunKey("my_problem", 1, "bome", 0, "cpu", "float64", "eager", 1, 2, None, None, False, "")
    assert execute(Job(key, "my_problem", "bome", tmp_path / "run.jsonl")) == status
    record = read(tmp_path / "run.jsonl")
    if broken:
        assert [row["step"] for row in record.rows] == [0]
        assert "two builds with seed 0 differ in data" in record.rows[0]["reason"]
        assert not record.header["prices"]
    else:
        assert record.header["problem"]["guards"]["notes"] == "of my own"
        assert record.header["problem"]["digest"]["drawn"] == guarded(least_squares)["digest"]["drawn"]
        assert set(record.header["solver"]["repository"]) == {"commit", "dirty"}


def test_a_fault_goes_with_the_sentence_to_another_process():
    error = pickle.loads(pickle.dumps(Unsupported("no", "problem")))
    assert (str(error), error.fault) == ("no", "problem")
    assert Unsupported("no").fault == ""


def test_check_passes_what_can_be_differentiated_once(monkeypatch):
    from bilevelbench.contract import check

    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", dict(PROBLEMS.entries))
    PROBLEMS.entries["my_attention"] = Entry("my_attention", once(attention), "", Path(__file__))
    passed, text = check("my_attention")
    assert passed, text
    assert "16 lower variables; g differentiable once" in text
    assert "second order products are right   n/a: the problem cannot be differentiated twice" in text
    assert any(line.startswith("for methods of order 1 only: ") for line in portrait("my_attention"))
