"""`bilevelbench examine`: right hypergradients pass, planted faults are named."""

import re
from pathlib import Path

import hypothesis.strategies as st
import psutil
import pytest
import torch
from hypothesis import given, settings

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
    for part in probe.PARTS:
        found += part(hypergradient)
    return {one["what"]: (one["text"], one["fine"]) for one in found}


def test_a_right_one_passes():
    found = observations(right)
    assert all(fine for _, fine in found.values()), found
    assert found["y away from y*"][0] == "evaluated at y"
    assert found["truncation"][0] == "none: of 1 gradients of g 1 is differentiated"
    assert found["minibatches"][0].startswith("one minibatch of g for the whole answer")


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


def implicit_summed(f, g, x, y):
    (direct,) = grad(f(x, y), x)
    return direct + (right(f, g, x, y) - direct).sum()


def with_g(f, g, x, y):
    return right(f, g, x, y) + 3 * grad(g(x, y), x)[0]


def direct_only(f, g, x, y):
    return grad(f(x, y), x)[0]


@pytest.mark.parametrize(
    ("hypergradient", "words"),
    [
        (direct_only, "the implicit part is missing"),
        (wrong_sign, "the implicit part has the wrong sign"),
        (lambda *given: -right(*given), "the sign is reversed"),
        (summed, "the same number in each entry"),
        (implicit_summed, "the implicit part is the same number in each entry, as of a sum"),
        (with_g, "3 times the gradient of g in x is added; without it right"),
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


def steps(frozen=0, lost=(), count=8, lr=0.5):
    """Unrolled descent; ``frozen``: first steps that are all taken at y; ``lost``: steps that carry no gradient."""

    def hypergradient(f, g, x, y):
        below = y
        for k in range(count):
            (slope,) = grad(g(x, y if k < frozen else below), y if k < frozen else below, create_graph=True)
            below = below - lr * (slope.detach() if k in lost else slope)
            below = below.detach().requires_grad_() if k < frozen else below
        return grad(f(x, below), x)[0].detach()

    return hypergradient


@pytest.mark.parametrize(
    ("hypergradient", "words", "fine"),
    [
        (right, "evaluated at y", True),
        (lambda f, g, x, y: right(f, g, x, solved(g, x, y)), "evaluated at y*", True),
        (steps(), "evaluated after 8 steps of 0.5 from y; 8 steps of 0.5 differentiated", True),
        (steps(frozen=3), "after steps that add up to 1.5, all taken with the gradient at the first y, and 5 true "
                          "ones; 5 steps of 0.5 differentiated", False),
    ],
)  # fmt: skip
def test_the_point_is_told(hypergradient, words, fine):
    (found,) = probe.place(hypergradient)
    assert words in found["text"]
    assert found["fine"] == fine


def solved(g, x, y):
    """y*: g(x, .) is quadratic."""
    H = torch.autograd.functional.hessian(lambda point: g(x.detach(), point), y)
    (slope,) = grad(g(x, y), y)
    return (y - torch.linalg.solve(H, slope)).detach().requires_grad_()


@pytest.mark.parametrize(
    ("hypergradient", "words", "fine"),
    [
        (steps(), "none: all 8 steps are differentiated", True),
        (steps(lost=(0,)), "of 8 steps 1 carries no gradient: 1", False),
        (steps(lost=range(5)), "of 8 steps 5 carry no gradient: 1 to 5", False),
        (steps(lost=(2, 6)), "of 8 steps 2 carry no gradient: 3, 7", False),
    ],
)
def test_steps_without_gradients_are_told(hypergradient, words, fine):
    (found,) = probe.truncation(hypergradient)
    assert (found["text"], found["fine"]) == (words, fine)


def fresh(f, g, x, y, terms=60):
    """A Neumann series of which each product is of another minibatch."""
    fx, fy = grad(f(x, y), (x, y))
    v = p = 0.7 * fy
    for _ in range(terms):
        (gy,) = grad(g(x, y), y, create_graph=True)
        p = p - 0.7 * grad(gy, y, grad_outputs=p)[0]
        v = v + p
    (gy,) = grad(g(x, y), y, create_graph=True)
    return (fx - grad(gy, x, grad_outputs=v)[0]).detach()


def test_minibatches_are_counted_and_their_mean_is_told():
    """One for all products is biased by E 1/(1 + s) - 1 = s^2/(1 - s^2), 9.9 % at s = 0.3; a new one each is not."""
    (one,), (many,) = (probe.minibatches(hypergradient) for hypergradient in (right, fresh))
    assert one["text"].startswith("one minibatch of g for the whole answer; the mean of 64 answers is off by 0.")
    assert many["text"].startswith("61 minibatches of g in one answer; the mean of 18 answers is off by 0.")
    bias, little = (float(found["text"].rpartition(" ")[2]) for found in (one, many))
    assert bias > 0.05 > little


class Closed(probe.Quadratic):
    """Its points go through the function that transforms of torch.func need."""

    def _through(self, name, x, y, *constants):
        self.counts[name] += 1
        return *probe.Door.apply(x, y, self.counts, name), constants


@pytest.mark.parametrize("way", [probe.Quadratic, Closed])
@settings(deadline=None, max_examples=40)
@given(asked=st.lists(st.sampled_from("fgxspb"), max_size=12))
def test_counts_are_exact_through_double_backward(way, asked):
    """Any mix of values, gradients and products with second derivatives: evaluations and passes are those asked."""
    task = way([0.5, 1.0])
    x, y = task.x.clone().requires_grad_(), task.y_star().requires_grad_()
    of = {"s": x, "p": y, "b": (x, y)}
    slope, back, through = None, 0, 0
    for what in asked:
        if what == "f":
            task.f(x, y)
        elif what in "gx" or slope is None:
            slope = grad(task.g(x, y), (x, y) if what == "x" else y, create_graph=True)[-1]
            back += 1
        else:
            grad(slope, of[what], grad_outputs=y.detach(), retain_graph=True)
            back, through = back + 1, through + 1
    assert task.counts["f"] == asked.count("f")
    assert task.counts["g back"] == back
    assert task.counts["g back back"] == through


def test_transforms_of_functions_are_counted():
    """A gradient of a gradient, in which no leaf has hooks."""
    task = probe.Quadratic([0.5, 1.0])
    x, y = task.x, task.y_star()
    slope = torch.func.grad(task.g, argnums=1)
    torch.func.grad(lambda x: slope(x, y) @ y)(x)
    assert task.counts == {"g": 1, "g back": 2, "g back back": 1}


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


def in_float32(factor):
    """Right in float64, not in float32."""
    return lambda f, g, x, y: right(f, g, x, y) * (factor if x.dtype == torch.float32 else 1.0)


@pytest.mark.parametrize(
    ("hypergradient", "what", "words"),
    [
        (through_grad, "side effects", "x.grad is set; y.grad is set; the gradient of a parameter"),
        (moves_y, "side effects", "y is changed"),
        (with_graph, "graph of the answer", "kept"),
        (leaky([]), "tensors left behind", "1 a call"),
        (
            implicit(lambda product, b: conjugate(product, b, tolerance=1e-5)),
            "f times 1e-08",
            "as of an absolute tolerance",
        ),
        (lambda *given: right(*given).nan_to_num(), "f that is NaN", "NaN is hidden"),
        (lambda *given: right(*given).double(), "float32", "float64"),
        (in_float32(0.5), "float32", "relative error 0.5, and "),
        (in_float32(float("nan")), "float32", "relative error nan, and "),
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
        "import torch\nfrom door import at_x\nprint('chatter')\n\ndef hypergradient(f, g, x, y):\n"
        "    return at_x(f(x, y), x)\n"
    )
    beside = "import torch\n\ndef at_x(value, x):\n    return torch.autograd.grad(value, x)[0]\n"
    (tmp_path / "door.py").write_text(beside)  # a name that the probe has, too
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
    for line, words in (
        ('dependencies = "torch"', "dependencies is a list of texts"), ("dependencies = [3]", r"not \[3\]"),
        ("requires-python = 3", 'requires-python is a text such as ">=3.11", not 3'),
    ):  # fmt: skip
        file.write_text(f"# /// script\n# {line}\n# ///\ndef hypergradient(f, g, x, y): ...\n")
        with pytest.raises(RequestError, match=words):
            examine(file)
    file.write_bytes(b"def hypergradient(f, g, x, y):\n    # caf\xe9\n    return x\n")
    with pytest.raises(RequestError, match=r"none\.py cannot be read: 'utf-8' codec"):
        examine(file)


def test_a_function_that_ends_its_process_is_an_observation(tmp_path):
    file = tmp_path / "ends.py"
    file.write_text("import sys\n\ndef hypergradient(f, g, x, y):\n    sys.exit(0)\n")
    assert {(one.text, one.fine) for one in examine(file)} == {("SystemExit: 0", False)}


def test_what_does_not_come_to_an_end_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    """uv runs a script as its child, which would go on."""
    file = tmp_path / "mine.py"
    file.write_text("def hypergradient(f, g, x, y): ...\n")
    start = f"sleep 600 & echo $! > {tmp_path / 'pid'}; wait"
    monkeypatch.setattr("bilevelbench.contract.examine.interpreter", lambda *_: ["sh", "-c", start])
    monkeypatch.setattr("bilevelbench.contract.examine.SECONDS", 1.0)
    with pytest.raises(RequestError, match="does not come to an end within 1 s"):
        examine(file)
    process = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


def test_the_probe_imports_nothing_of_ours():
    files = list(Path(probe.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        assert not re.search(r"^\s*(from|import) bilevelbench", file.read_text("utf-8"), re.MULTILINE), file
