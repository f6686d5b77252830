"""Learning problems as the code of two papers runs them: rows, starts, minibatches, and what is trained anew."""

import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bilevelbench import Draw, Unsupported, build_problem
from bilevelbench.data import cache, find, sources
from bilevelbench.data.formats import read_idx
from bilevelbench.problems import _cleaning_released as released
from bilevelbench.problems import l2_newsgroups
from bilevelbench.problems._cleaning import INVERSE, PROTOCOLS, WEIGHTS, split
from bilevelbench.problems._networks import Network

from .campaigns import starts


def build(text, seed=0):
    return build_problem(text, Draw(seed))


# -- BOME's start and second validation set


def test_the_start_is_heavy_ball_on_all_rows_and_the_best_by_the_held_rows():
    """Step by step with torch.optim.SGD in float32, and the iterate chosen as there."""
    parts = split(Draw(0), "digits", PROTOCOLS["bome_released"], 0.5)
    start = released.uniform_start(Draw(3), 64)
    assert float(start.abs().max()) <= 1 / 8
    network = Network("linear", 64, tied=True)
    inputs, labels = torch.from_numpy(parts.train).float(), torch.from_numpy(parts.noisy)
    held, marks = torch.from_numpy(parts.held).float(), torch.from_numpy(parts.held_labels)
    y = start.float().requires_grad_()
    optimizer, seen = torch.optim.SGD([y], lr=0.01, momentum=0.9), []
    for _ in range(40):
        optimizer.zero_grad()
        (cross_entropy(network(y, inputs), labels) + 1e-3 * y @ y).backward()
        optimizer.step()
        seen.append((float(cross_entropy(network(y, held), marks).detach()), y.detach().clone()))
    best = min(seen, key=lambda pair: pair[0])[1]
    found = released.descended(start, parts.train, parts.noisy, 1e-3, parts.held, parts.held_labels, steps=40)
    torch.testing.assert_close(found.float(), best, rtol=1e-4, atol=1e-5)


def test_the_held_rows_are_none_of_the_others():
    how = PROTOCOLS["bome_released"]
    parts = split(Draw(0), "digits", how, 0.5)
    assert len(parts.held) == len(parts.held_labels) == how.held[1] == 150
    sets = [{row.tobytes() for row in part} for part in (parts.train, parts.validation, parts.test, parts.held)]
    assert all(len(a & b) <= 2 for i, a in enumerate(sets) for b in sets[:i]), "but for digits that are there twice"
    without = split(Draw(0), "digits", PROTOCOLS["as_in_bome"], 0.5)
    np.testing.assert_array_equal(parts.train, without.train)
    np.testing.assert_array_equal(parts.noisy, without.noisy)
    assert len(without.held) == 0


def test_a_look_can_be_picked_by_the_held_loss(monkeypatch):
    monkeypatch.setattr("bilevelbench.problems.hyper_cleaning.STEPS", 20)
    monkeypatch.setattr("bilevelbench.problems.hyper_cleaning.descended", lambda start, *_: start)
    problem = build("hyper_cleaning(protocol='bome_released')")
    found = problem.metrics(problem.x0, problem.y0)
    assert found["held_loss"] > 0
    assert "held_loss" not in problem.better
    assert "held_loss" not in build("hyper_cleaning").metrics(*(torch.zeros(n).double() for n in (600, 650)))


# -- the Penalty method's denoising


@pytest.fixture(scope="module")
def small():
    return build("hyper_cleaning(protocol='penalty_small_released')")


def test_an_epoch_sees_every_row_once(small):
    each = 600 // 40
    for epoch in (0, 2):
        rows = torch.cat([small.stream.rows(step)[1] for step in range(epoch * each, (epoch + 1) * each)])
        assert rows.sort().values.tolist() == list(range(600))
    assert not torch.equal(small.stream.rows(0)[1], small.stream.rows(each)[1])
    upper = [small.stream.rows(step)[0] for step in (0, 1)]
    assert [len(set(rows.tolist())) for rows in upper] == [40, 40]


def test_only_the_rows_of_the_minibatch_have_a_gradient_in_x(small):
    upper, lower = small.stream.rows(5)
    x, y = small.x0.clone().requires_grad_(), Draw(1).normal(small.y0.numel())
    (slope,) = torch.autograd.grad(small.g(x, y, lower), x)
    assert set(slope.nonzero()[:, 0].tolist()) == set(lower.tolist())
    assert len(upper) == 40


def test_weights_are_scaled_to_a_mean_of_one_half_after_an_epoch(small):
    x = small.x0 - 1.0
    assert torch.equal(small.stream.renew(14, x, small.y0)[0], x)
    assert torch.equal(small.stream.renew(0, x, small.y0)[0], x)
    renewed, y = small.stream.renew(15, x, small.y0)
    assert torch.equal(y, small.y0)
    assert float(WEIGHTS["tanh"](renewed).mean()) == pytest.approx(0.5)
    extreme = INVERSE["tanh"](torch.tensor([1e-12, 0.5, 1 - 1e-12]).double())
    ends = WEIGHTS["tanh"](released.renormalised(extreme))
    assert float(ends.min()) == pytest.approx(1e-5)
    assert float(ends.max()) <= 1 - 1e-5 + 1e-12


def test_g_sees_no_scale_of_the_weights(small):
    """So the renormalisation changes only how fast a weight moves with x."""
    _, lower = small.stream.rows(3)
    y, x = Draw(2).normal(small.y0.numel()), small.x0
    half = INVERSE["tanh"](WEIGHTS["tanh"](x) / 2)
    assert float(small.g(half, y, lower)) == pytest.approx(float(small.g(x, y, lower)), rel=1e-12)


def test_what_is_trained_anew_sees_sure_examples_and_the_validation_set(monkeypatch):
    """With the clean ones sure and enough epochs it beats the same with the wrong ones sure."""
    monkeypatch.setattr(released, "EPOCHS", 60)
    monkeypatch.setattr(released, "RATE", 1e-2)
    parts, network = split(Draw(0), "digits", PROTOCOLS["penalty_small_released"], 0.5), Network("linear", 64)
    right = torch.from_numpy(parts.noisy == parts.labels)
    scores = []
    for sure in (right, ~right):
        x = INVERSE["tanh"](torch.where(sure, 0.95, 0.05).double())
        y = released.retrained(0, parts, network, x)
        scores.append(float((network(y, torch.from_numpy(parts.test)).argmax(1).numpy() == parts.test_labels).mean()))
    assert scores[0] > scores[1] + 0.03


# -- poisoning


@pytest.mark.parametrize(("goal", "k"), [("untargeted", 18), ("targeted", 18)])
def test_poison_is_the_codes(goal, k):
    problem = build(f"poisoning(protocol='penalty_released',goal={goal!r})")
    assert problem.x0.numel() == 64 * k
    assert problem.y0.numel() == 640, "a model without bias"
    y = problem.y0.clone().requires_grad_()
    from bilevelbench.problems._poisoning_released import released as attack

    made = attack(Draw(0), "digits", goal, 0.06)
    train = torch.from_numpy(made.train.pixels), torch.from_numpy(made.train.labels)
    loss = cross_entropy(train[0] @ y.view(10, 64).T, train[1]) + 0.0025 * y @ y
    assert float(torch.autograd.grad(loss, y)[0].abs().max()) <= 1e-6, "y0 is trained on the clean images"
    known = {image.tobytes(): label for image, label in zip(*made.train, strict=True)}
    true = np.array([known[image.tobytes()] for image in made.start])
    assert (true != made.labels).all()
    if goal == "targeted":
        assert np.bincount(made.labels).tolist() == [0, 0, 0, 9, 0, 0, 0, 0, 9]
        for part in (made.train, made.validation, made.test):
            assert np.bincount(part.labels).max() <= len(part.labels) / 10 * 1.25
    else:
        np.testing.assert_array_equal(made.start, made.train.pixels[:k])


def test_the_model_that_is_trained_anew_is_the_lower_solution():
    problem = build("poisoning(protocol='penalty_released')")
    start, elsewhere = (problem.final(problem.x0, y) for y in (problem.y0, torch.ones_like(problem.y0)))
    assert start == elsewhere, "whatever y the solver ended at"
    flips = problem.references()["label flips (start)"]
    assert start["retrained_accuracy"] == pytest.approx(flips["accuracy"], abs=2e-3)
    assert "retrained_accuracy" in problem.better
    assert build("poisoning").final is None


# -- 20 Newsgroups


def test_the_start_without_penalties_is_heavy_ball_and_half_of_the_test_rows_pick(monkeypatch):
    """Step by step with torch.optim.SGD in float32, and the iterate chosen as there."""
    monkeypatch.setattr(l2_newsgroups, "STEPS", 25)
    parts = l2_newsgroups._planted(Draw(0), 300)
    C, tested, D, held = l2_newsgroups._halves(Draw(0).child("held"), *parts[4:])
    assert len(tested) == len(held) == 200
    A, labels, marks = torch.from_numpy(parts[0].toarray()).float(), *map(torch.from_numpy, (parts[1], held))
    W, B = torch.zeros(300, 4, requires_grad=True), torch.from_numpy(D.toarray()).float()
    optimizer, seen = torch.optim.SGD([W], lr=100.0, momentum=0.9), []
    for _ in range(25):
        optimizer.zero_grad()
        cross_entropy(A @ W, labels).backward()
        optimizer.step()
        seen.append((float(cross_entropy(B @ W, marks).detach()), W.detach().clone()))
    best = min(seen, key=lambda pair: pair[0])[1].reshape(-1).double()
    found = torch.from_numpy(l2_newsgroups._descended((*parts[:4], C, tested), 4, D, held))
    assert float((found - best).norm()) <= 1e-3 * float(best.norm())


def test_held_messages_are_only_where_a_look_is_picked():
    problem, plain = build("l2_newsgroups(protocol='bome_released')"), build("l2_newsgroups")
    assert problem.metrics(problem.x0, problem.y0)["held_loss"] > 0
    assert "held_loss" not in problem.better
    assert "held_loss" not in plain.metrics(plain.x0, plain.y0)


# -- Fashion-MNIST, from a server of this test's own


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A host that has four small files, and an empty cache; no proxy of the machine's stands between."""
    draw = np.random.default_rng(0)
    arrays = [
        draw.integers(0, 256, (60, 28, 28)),
        np.arange(60) % 10,
        draw.integers(0, 256, (10, 28, 28)),
        np.arange(10),
    ]
    content = {
        f"/{file.name}": idx(array) for file, array in zip(sources.SOURCES["fashion"].files, arrays, strict=True)
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = content[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing on the terminal."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.delenv("BILEVELBENCH_DATA", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache, "root", lambda: tmp_path / "cache")
    host = f"http://127.0.0.1:{server.server_address[1]}/"

    def files(digests):
        made = [
            sources.File(file.paths, None, f"md5:{digest}", (host + file.name,), read_idx)
            for file, digest in zip(sources.SOURCES["fashion"].files, digests, strict=True)
        ]
        source = sources.Source("", "", tuple(made))
        monkeypatch.setattr(find, "SOURCES", find.SOURCES | {"fashion": source})
        find.fashion.cache_clear()

    yield files, arrays, [hashlib.md5(body, usedforsecurity=False).hexdigest() for body in content.values()]
    find.fashion.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join()


def test_fashion_comes_from_its_host_by_checksum(fashion):
    files, arrays, digests = fashion
    files(digests)
    images, labels, test, test_labels = find.fashion()
    np.testing.assert_array_equal(images, arrays[0].reshape(60, 784))
    np.testing.assert_array_equal(labels, arrays[1])
    np.testing.assert_array_equal(test, arrays[2].reshape(10, 784))
    np.testing.assert_array_equal(test_labels, arrays[3])
    small = PROTOCOLS["as_in_bome"].__class__(
        (40, 10, 10), (1, 1, 1), "drawn", True, True, False, "clip", 0.5, 1e-3, False, True
    )
    parts = split(Draw(0), "fashion", small, 0.5)
    assert parts.train.shape == (40, 784)
    np.testing.assert_array_equal(parts.test_labels, arrays[3])


def test_without_its_host_fashion_is_unsupported(fashion):
    files, _, digests = fashion
    files(["0" * 32, *digests[1:]])
    with pytest.raises(Unsupported, match=r"FashionMNIST/raw/train-images.*another checksum"):
        build("hyper_cleaning(data='fashion')")


def test_names_that_two_sources_share_mean_the_older_one():
    (file,) = find.chosen("train-images-idx3-ubyte.gz")
    assert file.paths[0].startswith("MNIST/")
    assert len(find.chosen("fashion")) == 4


def test_the_campaign_of_starts_sees_what_the_problem_begins_with():
    p = build("hyper_cleaning(protocol='bome_released')")
    start = starts.drawn(0, "digits", released.STEPS)
    assert start.accuracy == pytest.approx(p.metrics(p.x0, p.y0)["accuracy"])
    assert 0 < start.loss < 3
