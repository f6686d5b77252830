"""Guards before measuring, piece by piece: what is close, what is the same, what is lacking."""

import dataclasses
import math

import pytest
import torch

from bilevelbench import Draw, Unsupported, build_problem
from bilevelbench.measure import guards

QUADRATIC = build_problem("quadratic(d=3)", Draw(0))


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "least", "close"),
    [
        (vector(1.0), vector(1.1), 0.11, 0.0, True), (vector(1.0), vector(1.1), 0.09, 0.0, False),
        (vector(0.0), vector(0.1), 0.11, 0.0, False), (vector(0.0), vector(0.1), 0.11, 1.0, True),
        (vector(10.0), vector(11.0), 0.11, 1.0, True), (vector(math.nan, 1.0), vector(math.nan, 1.0), 0.0, 0.0, True),
        (vector(math.nan, 1.0), vector(1.0, math.nan), 9.0, 0.0, False),
        (vector(math.inf), vector(math.inf), 0.0, 0.0, True),
        (torch.tensor([1]), torch.tensor([1]), 0.0, 0.0, True), (torch.tensor([1]), torch.tensor([2]), 9.0, 0.0, False),
    ],
)  # fmt: skip
def test_tensors_that_are_close(one, other, tolerance, least, close):
    assert guards._close(one, other, tolerance, least) is close


@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_bits_of_tensors_of_any_layout():
    whole = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    kinds = [whole, whole.to_sparse_coo(), whole.to_sparse_csr(), whole.to(torch.complex64)]
    for made in kinds:
        other = whole.clone()
        other[0, 1] = 2.5
        again = {torch.sparse_coo: other.to_sparse_coo(), torch.sparse_csr: other.to_sparse_csr()}.get(made.layout)
        again = other.to(made.dtype) if again is None else again
        assert guards._checksum(made) != guards._checksum(again)
    assert guards._same_bits(vector(math.nan), vector(math.nan))
    assert not guards._same_bits(vector(0.0), vector(0.0, 0.0))
    assert guards._same_bits(vector(0.0), vector(-0.0))
    assert guards._kind(whole) == "float32 of shape (2, 2)"
    assert guards._number(torch.tensor(1.5)) == "1.5"
    assert guards._number(vector(3.0, 4.0)) == "norm 5"
    assert guards._first(ValueError(" one\ntwo")) == "one"
    assert guards._first(ValueError()) == "ValueError"


def difference(change, **draws):
    one, other = Draw(0), Draw(0)
    made = dataclasses.replace(QUADRATIC, **change)
    for rng, parts in ((one, draws.get("one", [])), (other, draws.get("other", []))):
        for part in parts:
            rng.put(part)
    return guards._difference(made, one, QUADRATIC, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""), ({"x0": QUADRATIC.x0 + 1}, "x0"), ({"y0": QUADRATIC.y0 * 1.1}, "y0"),
        ({"x0": QUADRATIC.x0 * (1 + 1e-11)}, ""), ({"x0": QUADRATIC.x0 * (1 + 1e-8)}, "x0"),
        ({"y0": vector(1.0)}, "the shape of y0: (1,) and (3,)"),
        ({"f": lambda x, y: QUADRATIC.f(x, y) + 1.0}, "f at the start"),
        ({"g": lambda x, y: QUADRATIC.g(x, y) * 1.001}, "g at the start"),
        ({"g": lambda x, y: QUADRATIC.g(x, y) + 1e-12}, ""),
    ],
)  # fmt: skip
def test_the_first_difference_of_two_builds(change, words):
    assert difference(change).startswith(words)
    assert bool(difference(change)) is bool(words)


def test_differences_of_data():
    a, b = vector(1.0, 2.0), vector(1.0, 2.5)
    assert difference({}, one=[a], other=[a]) == ""
    assert difference({}, one=[a], other=[b]) == "data (float64 of shape (2,))"
    assert difference({}, one=[a], other=[]) == "how many tensors they put (1 and 0)"
    assert difference({}, one=[a], other=[a[:1]]) == "the shape of data (float64 of shape (2,)): (2,) and (1,)"
    assert difference({}, one=[a * (1 + 1e-11)], other=[a]) == ""


def test_memory_that_ran_out_is_no_lack_of_second_derivatives(monkeypatch):
    def fails(error, times):
        left = [times]

        def product(fn, *args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                raise error
            return real(fn, *args, **kwargs)

        return product

    real = guards.derive.second
    said = []
    for error in (RuntimeError("cannot allocate memory"), torch.OutOfMemoryError("x"), RuntimeError("no rule")):
        for times in (1, 2):
            monkeypatch.setattr(guards.derive, "second", fails(error, times))
            said.append(guards.second_derivatives(QUADRATIC))
    out, lacks = "not tried: memory ran out", "of g: of f they were not tried, memory ran out"
    assert said == [out, lacks, out, lacks, "none: no rule", "of g only: no rule"]


@pytest.mark.parametrize(
    ("size", "flags", "word"), [(0.89, (), "doubtful"), (0.91, (), "there"), (0.5, ("nonsmooth",), "there")]
)
def test_second_derivatives_far_from_differences_are_doubted(monkeypatch, size, flags, word):
    monkeypatch.setattr(guards, "_product", lambda fn, problem: vector(size))
    monkeypatch.setattr(guards, "_slope_of_gradient", lambda problem: vector(1.0))
    problem = dataclasses.replace(QUADRATIC, flags=frozenset(flags))
    assert guards.second_derivatives(problem).startswith(word)
    monkeypatch.setattr(guards, "_product", lambda fn, problem: vector(1.0))
    monkeypatch.setattr(guards, "_slope_of_gradient", lambda problem: vector(size))
    assert guards.second_derivatives(problem).startswith(word)


def test_a_slope_of_gradients_is_the_hessian_s_product():
    product = guards._product(QUADRATIC.g, QUADRATIC)
    assert torch.allclose(guards._slope_of_gradient(QUADRATIC), product, rtol=1e-6)
    assert float(guards._direction(QUADRATIC).norm()) == pytest.approx(1.0)


def test_on_several_threads_answers_may_differ_by_the_order_of_sums(monkeypatch):
    asked, off = [0], [1e-12]

    def f(x, y):
        asked[0] += 1
        return QUADRATIC.f(x, y) * (1 + (off[0] if asked[0] % 2 else 0.0))

    noisy = dataclasses.replace(QUADRATIC, f=f)
    monkeypatch.setattr(guards.torch, "get_num_threads", lambda: 2)
    assert "up to the order of sums" in guards.asked_twice(noisy, Draw(0))
    off[0] = 1e-6
    with pytest.raises(Unsupported, match=r"another (value|gradient in .) when it is asked again"):
        guards.asked_twice(noisy, Draw(0))
    off[0] = 1e-12
    monkeypatch.setattr(guards.torch, "get_num_threads", lambda: 1)
    with pytest.raises(Unsupported):
        guards.asked_twice(noisy, Draw(0))
