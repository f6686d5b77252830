"""Solutions to take home: state dicts of two modules, solves that are taken up again, points that runs keep."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import bilevelbench as bb
from bilevelbench.core.registry import SOLVERS
from bilevelbench.measure.audit import replay  # noqa: F401 the hook is there, as in a process that has measured
from bilevelbench.run.plan import expand, unfinished
from bilevelbench.run.suite import Block, Suite
from bilevelbench.store import points


class Weights(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(n))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, rows):
        return torch.sigmoid(self.logit[rows] * self.scale)


def modules():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Weights(12), net


def two_modules(rng=None):
    upper, lower = modules()
    inputs, targets = torch.randn(24, 3), torch.arange(24) % 2
    return bb.from_modules(
        rng or bb.Draw(0), upper, lower, [(inputs[12:], targets[12:])], [(inputs[:12], targets[:12], torch.arange(12))],
        lambda u, v, a, t: nn.functional.cross_entropy(v(a), t),
        lambda u, v, a, t, rows: u(rows) * nn.functional.cross_entropy(v(a), t, reduction="none"), decay=1e-3,
    )  # fmt: skip


# -- state dicts


def test_two_modules_end_as_state_dicts_that_their_modules_take():
    problem = two_modules()
    solution = bb.solve(problem, "bome(lr=0.1)", steps=20)
    upper, lower = modules()
    before = upper.logit.detach().clone()
    upper.load_state_dict(solution.state_dict("upper"))
    lower.load_state_dict(solution.state_dict("lower"))
    assert not torch.equal(upper.logit, before)
    flat = torch.cat([p.detach().reshape(-1) for p in lower.parameters()])
    torch.testing.assert_close(flat.double(), solution.y, rtol=1e-6, atol=1e-7)  # modules are float32
    both = nn.ModuleDict({"upper": upper, "lower": lower})
    assert not any(both.load_state_dict(solution.state_dict())), "no key is missing, and none unknown"
    assert {value.dtype for value in solution.state_dict().values()} == {torch.float32}


def test_ties_and_buffers_are_in_the_state_dict():
    upper, lower = (
        nn.Linear(2, 1),
        nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2), nn.Linear(2, 2, bias=False)),
    )
    lower[2].weight = lower[0].weight
    data = [(torch.ones(4, 2), torch.ones(4, 2))]
    made = bb.from_modules(
        bb.Draw(0), upper, lower, data, data, lambda u, v, a, t: (v(a) - u(a)).square().mean(),
        lambda u, v, a, t: (v(a) - t).square().mean(), batch_norm="as is",
    )  # fmt: skip
    _, own = made.state_dicts(made.x0 + 1, made.y0 + 1)
    assert set(own) == set(lower.state_dict())
    assert torch.equal(own["0.weight"], own["2.weight"])
    torch.testing.assert_close(own["0.weight"], lower[0].weight.detach() + 1)


def test_a_problem_without_modules_has_no_state_dicts():
    with pytest.raises(bb.RequestError, match="from_modules"):
        bb.solve("quadratic(d=2)", "bome", steps=1).state_dict()


# -- stopped and taken up again


RESUMED = [
    ("finite_sum_quadratic", "saba(batch=8)"), ("finite_sum_quadratic", "stocbio(batch=4,update='adam')"),
    ("finite_sum_quadratic", "srba(batch=8)"), ("quadratic(d=4)", "fsla(update='heavy_ball')"),
    ("quadratic(d=4)", "es"), ("coreset", "bome_released"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "solver"), RESUMED, ids=[f"{p} {s}" for p, s in RESUMED])
@pytest.mark.parametrize("stop", [1, 13])
def test_a_solve_that_was_stopped_ends_where_it_would_have(problem, solver, stop, tmp_path):
    file = tmp_path / "run.pt"
    bb.solve(problem, solver, steps=stop, checkpoint=file)
    resumed = bb.solve(problem, solver, steps=30, checkpoint=file)
    whole = bb.solve(problem, solver, steps=30)
    assert [leaf.dtype for leaf in tensors(resumed)] == [leaf.dtype for leaf in tensors(whole)]
    assert all(map(torch.equal, tensors(resumed), tensors(whole))), "to the bit"
    assert type(resumed.state) is type(whole.state)
    assert resumed.calls == whole.calls
    assert resumed.history["step"].is_monotonic_increasing
    assert set(whole.history["step"]) | {stop} == set(resumed.history["step"])


def tensors(solution):
    return [leaf for leaf in tree_leaves(solution.state) if isinstance(leaf, torch.Tensor)]


def test_a_checkpoint_is_no_pickle_and_is_read_by_its_format_s_own_library(tmp_path):
    bb.solve("quadratic(d=4)", "soba", steps=5, checkpoint=tmp_path / "run.pt")
    arrays, told = points.read(tmp_path / "run.pt")
    assert json.loads(told["bilevelbench"])["step"] == 5
    assert all(array.dtype == np.float64 for array in arrays.values())
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"], "nothing half-written is left"


def test_a_finished_checkpoint_answers_at_once(tmp_path):
    first = bb.solve("quadratic(d=4)", "bome", steps=8, checkpoint=tmp_path / "run")
    asked = []
    again = bb.solve("quadratic(d=4)", "bome", steps=8, checkpoint=tmp_path / "run", callback=asked.append)
    assert (again.step, again.status, asked) == (8, "done", [])
    assert torch.equal(again.x, first.x)


OTHERS = [
    ({"solver": "bome(lr=0.5)"}, "solver"), ({"seed": 1}, "seed"), ({"problem": "quadratic(d=5)"}, "n_x"),
    ({"problem": "quadratic(d=4,kappa=3)"}, "its"), ({"dtype": "float32"}, "dtype"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), OTHERS, ids=[words for _, words in OTHERS])
def test_another_solve_s_checkpoint_is_refused(change, words, tmp_path):
    asked = {"problem": "quadratic(d=4)", "solver": "bome", "steps": 2, "checkpoint": tmp_path / "run"}
    bb.solve(**asked)
    with pytest.raises(bb.RequestError, match=f"another solve: .*{words}"):
        bb.solve(**asked | change)


@pytest.mark.parametrize("content", [b"", b"mine", b"\x80\x04K\x01."], ids=["empty", "text", "pickle"])
def test_a_foreign_checkpoint_is_refused_and_kept(content, tmp_path):
    file = tmp_path / "run"
    file.write_bytes(content)
    with pytest.raises(bb.RequestError, match="cannot be continued"):
        bb.solve("quadratic(d=4)", "bome", steps=2, checkpoint=file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("cut", [8, 40, 200, -1])
def test_a_damaged_checkpoint_is_refused(cut, tmp_path):
    bb.solve("quadratic(d=4)", "soba", steps=2, checkpoint=tmp_path / "run")
    whole = (tmp_path / "run").read_bytes()
    (tmp_path / "run").write_bytes(whole[:cut])
    with pytest.raises(bb.RequestError, match="cannot be continued"):
        bb.solve("quadratic(d=4)", "soba", steps=2, checkpoint=tmp_path / "run")


# -- the way there


def test_a_judged_history_has_the_rows_of_a_run(tmp_path):
    looks = bb.run(
        "quadratic(d=4)", "bome", steps=9, out=tmp_path, in_process=True, progress=False, keep="x,y"
    )  # fmt: skip
    solution = bb.solve("quadratic(d=4)", "bome", steps=9, judge=True)
    rows = looks.looks
    assert solution.history["step"].tolist() == rows["step"].tolist()
    assert solution.history["total_calls"].tolist() == rows["total_calls"].tolist()
    for metric in ("phi", "phi_gap", "gap", "grad_phi", "f"):
        assert solution.history[metric].tolist() == pytest.approx(rows[metric].tolist(), rel=1e-9), metric
    point = looks.point(looks.runs["run"][0])
    for name in ("x", "y"):
        torch.testing.assert_close(torch.from_numpy(point[name]), getattr(solution, name), rtol=1e-9, atol=1e-12)
    on = bb.solve("quadratic(d=4)", "bome", steps=1, start=point)
    assert on.history["f"][0] == pytest.approx(solution.history["f"].iloc[-1], rel=1e-9)


def sparse(**fields):
    """A problem that is not convex, as far as is known: Phi is judged at doublings."""
    known = bb.build_problem("quadratic(d=4)", bb.Draw(0))
    return dataclasses.replace(known, y_star=None, phi_star=None, flags=frozenset({"nonconvex"}), **fields)


def test_judging_is_planned_as_a_run_plans_it(tmp_path):
    def judged(history):
        return history.loc[history["phi"].notna(), "step"].tolist()

    looks = bb.run({"sparse": sparse()}, "bome", steps=12, out=tmp_path, in_process=True, progress=False).looks
    whole = bb.solve(sparse(), "bome", steps=12, judge=True).history
    assert judged(whole) == judged(looks) == [0, 1, 2, 4, 8, 12]
    assert whole["phi"].tolist() == pytest.approx(looks["phi"].tolist(), rel=1e-9, nan_ok=True)
    bb.solve(sparse(), "bome", steps=3, judge=True, checkpoint=tmp_path / "run")
    resumed = bb.solve(sparse(), "bome", steps=12, judge=True, checkpoint=tmp_path / "run").history
    assert judged(resumed) == [0, 1, 2, 3, 6, 12]  # 3 was the last step, and goes on to be a start


def test_a_judged_history_says_why_figures_are_missing(monkeypatch):
    for name in ("FEW", "MANY"):
        monkeypatch.setattr(f"bilevelbench.measure.plan.{name}", 6)
    history = bb.solve(sparse(), "bome", steps=2, judge=True).history
    assert "the re-solve of the lower level had 2 gradients and needs more" in history["unjudged"][0]
    assert "phi" not in history or math.isnan(history["phi"][0])


def test_what_only_a_step_finds_out_is_one_sentence_too():
    with pytest.raises(bb.RequestError, match=r"solver: .* torch has no second derivative of multi_margin_loss"):
        bb.solve("once", "soba", steps=2)


def test_a_callback_sees_every_look_and_can_stop():
    seen = []

    def callback(solution):
        seen.append((solution.step, solution.status))
        return solution.step >= 6

    solution = bb.solve("quadratic(d=2)", "bome", steps=100, callback=callback, every=3)
    assert seen == [(k, "running") for k in (1, 2, 3, 4, 5, 6)]
    assert (solution.step, solution.status) == (6, "stopped")
    for steps, lr, status in ((2, 0.1, "done"), (20, 1e200, "diverged")):  # True of what has ended stops nothing
        solution = bb.solve("quadratic(d=2)", f"bome(lr={lr})", steps=steps, callback=lambda s: s.step == 2)
        assert (solution.step, solution.status) == (2, status)
    steps = bb.solve("quadratic(d=2)", "bome", steps=40, every=10).history["step"].tolist()
    assert {10, 20, 30, 40} <= set(steps)


def test_a_solve_that_diverges_ends_and_says_so():
    solution = bb.solve("quadratic(d=2)", "bome(lr=1e3)", steps=10_000)
    assert solution.status == "diverged"
    assert solution.step < 10_000
    assert "diverged" in repr(solution)
    assert math.isnan(solution.history["f"].iloc[-1])


def test_a_solution_is_saved_and_started_from(tmp_path):
    first = bb.solve("quadratic(d=2)", "bome", steps=5)
    first.save(tmp_path / "point.safetensors")
    starts = [tmp_path / "point.safetensors", first, (first.x, first.y), {"x": first.x.tolist(), "y": first.y}]
    ends = [bb.solve("quadratic(d=2)", "bome", steps=3, start=start) for start in starts]
    for end in ends:
        torch.testing.assert_close(end.x, ends[0].x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(end.y, ends[0].y, rtol=1e-12, atol=1e-12)
    assert not torch.equal(ends[0].x, bb.solve("quadratic(d=2)", "bome", steps=3).x)


def test_functions_and_classes_are_taken():
    bome = SOLVERS.entries["bome"].make
    solutions = [
        bb.solve(problem, way, steps=2) for problem in (two_modules, two_modules()) for way in ("bome", bome, bome())
    ]
    for solution in solutions:
        torch.testing.assert_close(solution.x, solutions[0].x, rtol=1e-9, atol=1e-12)


WRONG = [
    ({"problem": 3}, "problem=3"), ({"problem": "quadratik"}, "quadratic"), ({"problem": lambda rng: 3}, "Problem"),
    ({"solver": 3}, "solver=3"), ({"solver": "bom"}, "bome"), ({"solver": dict}, "solver"),
    ({"problem": "coupled_equality"}, "solver: bome"), ({"steps": 0}, "steps=0"), ({"seed": -1}, "seed=-1"),
    ({"every": "often"}, "every='often'"), ({"callback": 3}, "callback=3"), ({"judge": 1}, "judge=1"),
    ({"checkpoint": 3}, "checkpoint=3"), ({"checkpoint": "/dev/null/x"}, "checkpoint /dev/null/x"),
    ({"dtype": "float16"}, "dtype='float16'"), ({"device": "tpu"}, "device='tpu'"), ({"start": 3}, "start=3"),
    ({"start": "nowhere"}, "start nowhere"), ({"start": ([1.0], [1.0])}, "start: x"),
    ({"start": ("a", 1)}, "start='a'"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_one_sentence(change, words):
    with pytest.raises(bb.RequestError) as raised:
        bb.solve(**{"problem": "quadratic(d=2)", "solver": "bome", "steps": 1} | change)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


# -- points that runs keep


@pytest.fixture
def kept(tmp_path):
    return bb.run("quadratic(d=2)", "bome", steps=2, out=tmp_path, in_process=True, progress=False, keep="x,y")


def test_a_point_of_another_run_is_not_handed_out(kept, tmp_path):
    (run,) = kept.runs["run"]
    (file,) = tmp_path.glob("*.safetensors")
    assert set(kept.point(run)) == {"x", "y"}
    arrays, told = points.read(file)
    points.write(file, arrays, told | {"created": "earlier"})
    with pytest.raises(bb.RequestError, match="another run"):
        kept.point(run)
    file.write_bytes(b"mine")
    with pytest.raises(bb.RequestError, match="no file of points"):
        kept.point(run)
    file.unlink()
    with pytest.raises(bb.RequestError, match="kept no point"):
        kept.point(run)
    with pytest.raises(bb.RequestError, match="run='mine'"):
        kept.point("mine")


def test_a_run_without_the_point_that_is_asked_for_is_made_again(tmp_path):
    from bilevelbench.run.worker import execute

    suite = Suite("", "", (Block(("quadratic(d=2)",), ("bome",), steps=2),))
    here = "0" * 8
    (job,) = expand(suite, tmp_path, place=lambda: here, keep=("x",))
    execute(job)
    final = job.path.rename(tmp_path / job.name)
    assert not unfinished([job])
    (wants_both,) = expand(suite, tmp_path, place=lambda: here, keep=("x", "y"))
    assert unfinished([wants_both])
    points.beside(final).unlink()
    assert unfinished([job])
    assert not unfinished(expand(suite, tmp_path, place=lambda: here)), "who asks for no point needs none"


def test_keep_is_refused_where_seeds_are_batched(tmp_path):
    suite = Suite("", "", (Block(("quadratic",), ("bome",), steps=2, engine="batched"),))
    with pytest.raises(bb.RequestError, match="keep"):
        expand(suite, tmp_path, keep=("x",))


def test_points_are_no_records(tmp_path, kept):
    assert len(bb.load(tmp_path).runs) == 1
    assert Path(kept.report(tmp_path / "report").path).exists()
