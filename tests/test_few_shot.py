"""Few-shot tasks on images: who is drawn, what the network sees, and what each lower level is."""

import os

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, cross_entropy

from bilevelbench import Draw, Oracle, RequestError, build_problem
from bilevelbench.data import drawings, find
from bilevelbench.data.drawings import Body, cosine, drawn, linear, losses
from bilevelbench.measure.judge import Judge

needs_omniglot = pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("BILEVELBENCH_DATA", ""), "omniglot-py")),
    reason="no Omniglot in $BILEVELBENCH_DATA",
)


def build(text="few_shot(dataset='planted',tasks=3,ways=3,width=4)", seed=0):
    return build_problem(text, Draw(seed))


def lowered(lower):
    return build(f"few_shot(dataset='planted',tasks=3,ways=3,width=4,lower={lower!r})")


# -- tasks


def test_tasks_have_the_shapes_and_no_drawing_twice():
    made, new = drawn(Draw(0), "planted", 14, 6, 4, 5, 2)
    assert made.support.shape == (6, 10, 14, 14)
    assert made.query.shape == (6, 75, 14, 14)
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert made.query_labels.bincount().tolist() == [15] * 5
    assert new.support.shape[0] == 4
    for task in range(6):
        images = torch.cat([made.support[task], made.query[task]]).flatten(1)
        assert len({image.numpy().tobytes() for image in images}) == len(images)
    few, _ = drawn(Draw(0), "planted", 14, 2, 2, 5, 12)
    assert few.query.shape[1] == 5 * 8  # 20 drawings are all that there are


def test_test_tasks_are_made_of_other_characters():
    made, new = drawn(Draw(0), "planted", 14, 200, 200, 5, 1)
    train, test = ({number // 4 for number in part.characters.ravel().tolist()} for part in (made, new))
    assert len(train) == 40
    assert len(test) == 20
    assert not train & test


def test_labels_belong_to_the_images():
    """Each image, turned back, is one of the drawings of its character."""
    rng = Draw(3)
    made, _ = drawn(rng, "planted", 14, 3, 1, 4, 2)
    images = drawings._planted(Draw(3), 14)
    for task in range(3):
        for image, label in zip(made.query[task], made.query_labels, strict=True):
            character, turns = divmod(int(made.characters[task, label]), 4)
            back = np.round(255 * np.rot90(image.numpy(), -turns)).astype(int)
            assert (images[character].astype(int) == back).all((1, 2)).any()


# -- the network


def test_the_body_is_convolutions_each_normalised_over_its_own_image():
    body = Body(14, 4, torch.tanh)
    weights = body.start(Draw(0)) + 0.1
    images = Draw(1).uniform(0, 1, 2, 3, 14, 14)
    expected = []
    for image in images.flatten(0, 1):
        out = image[None, None]
        parts = body.flat.split(weights)
        for kernel, bias in zip(parts[::2], parts[1::2], strict=True):
            out = conv2d(out, kernel, bias, stride=2, padding=1)
            out = torch.tanh(torch.nn.functional.layer_norm(out, out.shape[1:]))
        expected.append(torch.cat([out.flatten(), torch.ones(1).double()]))
    features = body(weights, images)
    assert features.shape == (2, 3, body.features) == (2, 3, 5)
    assert torch.allclose(features.flatten(0, 1), torch.stack(expected))
    own = body(torch.stack([weights, weights]), images)  # a network for each task
    assert torch.allclose(own, features)
    other = body(torch.stack([weights, 2 * weights]), images)
    assert torch.allclose(other[0], features[0])
    assert torch.allclose(other[1], body(2 * weights, images)[1])


def test_an_image_is_judged_by_itself():
    """Not transductive: the answer for one query does not depend on the others."""
    body, images = Body(14, 4, torch.relu), Draw(1).uniform(0, 1, 1, 5, 14, 14)
    weights = body.start(Draw(0))
    assert torch.allclose(body(weights, images)[:, :2], body(weights, images[:, :2]))


def test_cosine_logits_ignore_lengths():
    features, heads = Draw(0).normal(2, 3, 5), Draw(1).normal(2, 4, 4)
    expected = torch.nn.functional.cosine_similarity(features[:, :, None, :-1], heads[:, None], dim=-1) * 10
    assert torch.allclose(cosine(features, heads), expected)
    assert torch.allclose(cosine(features, 7 * heads), expected)


# -- the three lower levels


@pytest.mark.parametrize("lower", ["head", "network", "cosine"])
def test_f_and_g_are_the_formulas(lower):
    problem = lowered(lower)
    rng = Draw(0)
    made, _ = drawn(rng, "planted", 14, 3, 40, 3, 1)
    body = Body(14, 4, torch.tanh)
    x, y = (p + 0.1 * Draw(k).normal(p.numel()) for k, p in enumerate((problem.x0, problem.y0)))
    size = body.flat.size
    f = g = 0.0
    for task, own in enumerate(y.view(3, -1)):
        weights = own[:size] if lower == "network" else x
        heads = (own[size:] if lower == "network" else own).view(3, -1)
        score = cosine if lower == "cosine" else linear
        for images, labels, query in (
            (made.support, made.labels, False), (made.query, made.query_labels, True),
        ):  # fmt: skip
            logits = score(body(weights, images[task][None]), heads[None])[0]
            loss = float(cross_entropy(logits, labels))
            f, g = (f + loss / 3, g) if query else (f, g + loss)
        if lower == "head":
            g += 0.01 * float(own @ own)
        elif lower == "network":
            g += float((own - x).square().sum())
    assert float(problem.f(x, y)) == pytest.approx(f, rel=1e-12)
    assert float(problem.g(x, y)) == pytest.approx(g, rel=1e-12)


def test_a_network_starts_from_x_in_every_task():
    problem = lowered("network")
    assert torch.equal(problem.y0.view(3, -1), problem.x0.expand(3, -1))


def test_the_hypergradient_of_heads_is_the_difference_of_phi():
    """Implicit differentiation with the whole Hessian, against Phi with heads solved again."""
    problem = build()
    judge, o, h = Judge(problem), Oracle(problem), 1e-4
    direction = Draw(7).normal(problem.x0.numel())
    direction /= direction.norm()
    judge(problem.x0, problem.y0)
    (y,) = judge._last
    H = torch.stack([o.d2g_yy(problem.x0, y, e) for e in torch.eye(y.numel()).double()])
    fx, fy = o.df(problem.x0, y)
    exact = float((fx - o.d2g_xy(problem.x0, y, torch.linalg.solve(H, fy))) @ direction)
    ahead, behind = (judge(problem.x0 + t * direction, problem.y0)["phi"] for t in (h, -h))
    assert (ahead - behind) / (2 * h) == pytest.approx(exact, rel=1e-4)
    assert abs(exact) > 1e-4


def test_test_accuracy_of_heads_is_that_of_newton_solved_heads():
    """Every head of the test tasks solved again, task by task, by Newton's method."""
    problem = build()
    rng = Draw(0)
    _, new = drawn(rng, "planted", 14, 3, 40, 3, 1)
    body, hits = Body(14, 4, torch.tanh), []
    for task in range(40):
        features = body(problem.x0, new.support[task][None])[0]
        head = torch.zeros(3 * body.features, dtype=torch.float64)

        def g(head, features=features):
            return cross_entropy(features @ head.view(3, -1).T, new.labels) + 0.01 * head @ head

        for _ in range(5):
            gradient = torch.autograd.functional.jacobian(g, head)
            head = head - torch.linalg.solve(torch.autograd.functional.hessian(g, head), gradient)
        query = body(problem.x0, new.query[task][None])[0]
        hits.append((query @ head.view(3, -1).T).argmax(1) == new.query_labels)
    expected = float(torch.stack(hits).double().mean())
    assert problem.metrics(problem.x0, problem.y0)["test_accuracy"] == pytest.approx(expected, abs=1e-3)


def test_lines_of_images(monkeypatch):
    monkeypatch.setattr("bilevelbench.problems._few_shot_images.JOINT_STEPS", 20)
    problem = build("few_shot(dataset='planted',tasks=2,ways=3,width=4,ridge=0.011)")
    lines = problem.references()
    assert lines["chance"]["test_accuracy"] == pytest.approx(1 / 3)
    start = problem.metrics(problem.x0, problem.y0)["test_accuracy"]
    assert lines["untrained body"]["test_accuracy"] == pytest.approx(start, abs=1e-12)
    _, new = drawn(Draw(0), "planted", 14, 2, 40, 3, 1)
    nearest = [  # one shot: the class mean is the one image
        (q - s[None]).square().sum((-1, -2)).argmin(1)
        for q, s in zip(new.query[:, :, None], new.support, strict=True)
    ]  # fmt: skip
    share = float((torch.stack(nearest) == new.query_labels).double().mean())
    assert lines["nearest class mean of pixels"]["test_accuracy"] == pytest.approx(share)


def test_minibatches_are_tasks():
    problem = build()
    assert problem.n_f == problem.n_g == 3
    o = Oracle(problem)
    whole = o.dg_y(problem.x0, problem.y0).view(3, -1)
    part = o.dg_y(problem.x0, problem.y0, torch.tensor([1])).view(3, -1)
    assert torch.allclose(part[1], 3 * whole[1])
    assert not part[[0, 2]].any()
    assert losses(torch.zeros(2, 4, 3).double(), torch.tensor([0, 1, 2, 0])).tolist() == pytest.approx([np.log(3)] * 2)


@pytest.mark.parametrize(
    "knobs", ["lower='cosine'", "dataset='planted',ways=1", "dataset='planted',shots=20", "tasks=0", "ridge=0.0"]
)
def test_impossible_knobs_are_refused(knobs):
    with pytest.raises(RequestError):
        build(f"few_shot({knobs})")


@needs_omniglot
@pytest.mark.data
def test_omniglot_has_its_characters():
    images = find.omniglot(14)
    assert images.shape == (1623, 20, 14, 14)
    assert images.dtype == np.uint8
    assert 10 < images.mean() < 40  # ink is the smaller part
    made, new = drawn(Draw(0), "omniglot", 14, 5, 5, 20, 5)
    assert made.query.shape == (5, 300, 14, 14)
    assert new.characters.shape == (5, 20)
