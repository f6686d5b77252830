"""`bilevelbench examine`: right hypergradients pass, planted faults are named."""

import math
from pathlib import Path

import pytest
import torch

from bilevelbench.contract import probe
from bilevelbench.contract.examine import examine
from bilevelbench.core.errors import RequestError


def grad(value, points, **options):
    return torch.autograd.grad(value, points, allow_unused=True, materialize_grads=True, **options)


def implicit(solve):
    """grad_x f - g_xy v with v = solve(H v = f_y), the linear system given as a product."""

    def hypergradient(f, g, x, y):
        fx, fy = grad(f(x, y), (x, y))
        (gy,) = grad(g(x, y), y, create_graph=True)
        v = solve(lambda v: grad(gy, y, grad_outputs=v, retain_graph=True)[0], fy)
        return (fx - grad(gy, x, grad_outputs=v)[0]).detach()

    return hypergradient


def conjugate(product, b, previous=False, tolerance=0.0):
    v, r = torch.zeros_like(b), b.clone()
    p = r
    for _ in range(2 * len(b)):
        if float(r @ r) <= tolerance:
            break
        Hp = product(p)
        if not float(p @ Hp):
            break
        step = (r @ r) / (p @ Hp)
        new, left = v + step * p, r - step * Hp
        if previous and float(left.norm()) < 1e-10 * float(b.norm()):
            return v  # as hypertorch does: the iterate before the last one
        p = left + (left @ left) / (r @ r) * p
        v, r = new, left
    return v


def neumann(product, b, step=0.5, terms=20):
    v, p = step * b, b
    for _ in range(terms - 1):
        p = p - step * product(p)
        v = v + step * p
    return v


right = implicit(conjugate)


def unrolled(f, g, x, y, steps=7, lr=0.3):
    for _ in range(steps):
        y = y - lr * grad(g(x, y), y, create_graph=True)[0]
    return grad(f(x, y), x)[0].detach()


def observations(hypergradient):
    found = []
    for part in (probe.accuracy, probe.scales, probe.honesty, probe.effects, probe.cost):
        found += part(hypergradient)
    return {one["what"]: (one["text"], one["fine"]) for one in found}


def test_a_right_one_passes():
    found = observations(right)
    assert all(fine for _, fine in found.values()), found
    assert found["y away from y*"][0] == "evaluated at y"


def test_the_cost_is_what_was_asked():
    """One value and gradient of f; of g one gradient, and two products, each a pass back through it and once more."""
    task = probe.Quadratic([0.5, 1.0])
    probe.ask(implicit(lambda product, b: product(b)), task)
    assert task.counts["f"] == task.counts["g"] == task.counts["f back"] == 1
    assert (task.counts["g back"], task.counts["g back back"]) == (3, 2)


def wrong_sign(f, g, x, y):
    (direct,) = grad(f(x, y), x)
    return 2 * direct - right(f, g, x, y)


def summed(f, g, x, y):
    return torch.full_like(x, float(right(f, g, x, y).sum())).detach()


def doubled(f, g, x, y):
    return 2 * right(f, g, x, y)


def direct_only(f, g, x, y):
    return grad(f(x, y), x)[0]


@pytest.mark.parametrize(
    ("hypergradient", "words"),
    [
        (direct_only, "the implicit part is missing"),
        (wrong_sign, "the implicit part has the wrong sign"),
        (lambda *given: -right(*given), "the sign is reversed"),
        (summed, "the same number in each entry"),
        (doubled, "the direction is right, the length 2 times"),
        (implicit(neumann), "cut off after 20 terms, as of unrolled descent with the step 0.5"),
        (unrolled, "cut off after 7 terms, as of unrolled descent with the step 0.3"),
        (implicit(lambda product, b: conjugate(product, b, previous=True)), "no pattern"),
    ],
)
def test_a_wrong_answer_is_named(hypergradient, words):
    last = probe.accuracy(hypergradient)[-1]
    assert not last["fine"]
    assert words in last["text"]


def leaky(kept):
    def hypergradient(*given):
        kept.append(right(*given))
        return kept[-1]

    return hypergradient


def through_grad(f, g, x, y):
    f(x, y).backward()
    return right(f, g, x, y)


def with_graph(f, g, x, y):
    return right(f, g, x, y) + 0 * f(x, y)


def moves_y(f, g, x, y):
    answer = right(f, g, x, y)
    with torch.no_grad():
        y += 1
    return answer


@pytest.mark.parametrize(
    ("hypergradient", "what", "words"),
    [
        (through_grad, "side effects", "x.grad is set; y.grad is set; the gradient of a parameter"),
        (moves_y, "side effects", "y is changed"),
        (with_graph, "graph of the answer", "kept"),
        (leaky([]), "tensors left behind", "1 a call"),
        (implicit(lambda product, b: conjugate(product, b, tolerance=1e-5)), "f times 1e-08", "tolerance is absolute"),
        (lambda *given: right(*given).nan_to_num(), "f that is NaN", "NaN is hidden"),
        (lambda *given: right(*given).double(), "float32", "float64"),
        (implicit(lambda product, b: b * (b @ b) / (b @ product(b))), "f that y does not move", "NaN"),
        (lambda *given: right(*given) * (1 + 1e-3 * torch.rand(1)), "a second call", "differs by"),
    ],
)
def test_a_planted_fault_is_found(hypergradient, what, words):
    text, fine = observations(hypergradient)[what]
    assert not fine
    assert words in text


def test_a_file_runs_out_of_process(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nprint('chatter')\n\ndef hypergradient(f, g, x, y):\n"
        "    return torch.autograd.grad(f(x, y), x)[0]\n"
    )
    found = examine(file)
    assert found[1].what == "accuracy, 3 variables"
    assert found[1].text.endswith("the implicit part is missing")


def test_what_cannot_be_run_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="there is no file"):
        examine(tmp_path / "nobody.py")
    file = tmp_path / "none.py"
    file.write_text("x = 1\n")
    with pytest.raises(RequestError, match=r"no function hypergradient\(f, g, x, y\)"):
        examine(file)
    file.write_text('# /// script\n# dependencies = ["torch"]\n# ///\ndef hypergradient(f, g, x, y): ...\n')
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequestError, match="needs uv, which is not installed"):
        examine(file)
    file.write_text("# /// script\n# dependencies = [\n# ///\ndef hypergradient(f, g, x, y): ...\n")
    with pytest.raises(RequestError, match="not valid TOML"):
        examine(file)


def test_the_probe_imports_nothing_of_ours():
    assert "bilevelbench import" not in Path(probe.__file__).read_text("utf-8")
    assert math.isfinite(probe.EPS)
