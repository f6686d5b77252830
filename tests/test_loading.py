"""What training scripts have becomes rows: batches of any make, data sets, loaders with and without an end."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import bilevelbench as bb
from bilevelbench import Draw, Oracle, build_problem, from_modules, make_solver
from bilevelbench.core import loading
from bilevelbench.core.loading import rows_of
from tests.campaigns import at_size

A, T = torch.arange(30.0).reshape(10, 3), torch.arange(10) % 2


class Dictionaries(Dataset):
    """Rows as dictionaries, as the data sets of language models have them."""

    def __len__(self):
        return len(A)

    def __getitem__(self, i):
        return {"ids": A[i], "label": int(T[i]), "more": {"weight": np.float64(i)}}


class Endless(IterableDataset):
    """Row after row, and none the last; ``some`` are enough for a test that wants an end."""

    def __init__(self, some=None):
        self.some = some

    def __iter__(self):
        for i in itertools.count() if self.some is None else range(self.some):
            yield A[i % 10], T[i % 10]


def batches(size):
    return [(A[i : i + size], T[i : i + size]) for i in range(0, 10, size)]


SAME = {
    "tuples": lambda: batches(4),
    "lists": lambda: [list(batch) for batch in batches(3)],
    "a generator": lambda: (batch for batch in batches(4)),
    "numpy": lambda: [(a.numpy(), t.numpy()) for a, t in batches(4)],
    "numbers": lambda: [(a, t.tolist()) for a, t in batches(4)],
    "a data set": lambda: TensorDataset(A, T),
    "a loader": lambda: DataLoader(TensorDataset(A, T), batch_size=4),
    "a loader that shuffles": lambda: DataLoader(TensorDataset(A, T), batch_size=4, shuffle=True, drop_last=True),
    "rows that come one by one": lambda: Endless(10),
    "a loader of them": lambda: DataLoader(Endless(10), batch_size=4),
}


@pytest.mark.parametrize("kind", SAME)
def test_all_kinds_have_the_same_rows_in_the_same_order(kind):
    rows = rows_of(Draw(0), SAME[kind](), "lower_loader")
    assert len(rows) == 10
    a, t = rows()
    assert torch.equal(a, A.double())
    assert torch.equal(t, T)
    some = torch.tensor([7, 2])
    assert torch.equal(rows(some)[0], A[some].double())


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: DataLoader(data, batch_size=3, shuffle=True)])
def test_dictionaries_stay_dictionaries(wrap, in_memory):
    rows = rows_of(Draw(0, dtype=torch.float32), wrap(Dictionaries()), "upper_loader", in_memory)
    for some in (..., None, torch.tensor([4, 9, 4])):
        (batch,) = rows(... if some is None else some)
        index = torch.arange(10) if some in (..., None) else some
        assert torch.equal(batch["ids"], A[index])
        assert torch.equal(batch["label"], T[index])
        assert torch.equal(batch["more"]["weight"], index.float())


def test_a_batch_that_is_one_tensor_is_one_argument():
    (rows,) = rows_of(Draw(0), [A[:4], A[4:]], "lower_loader")()
    assert torch.equal(rows, A.double())
    (rows,) = rows_of(Draw(0), A, "lower_loader")()
    assert torch.equal(rows, A.double())


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([(A, ["cat"] * 10)], "column '1' holds str; batches are made of tensors and numbers"),
        ([{"a": A, "b": None}], "column 'b' holds NoneType"),
        ([{"a": A, "epoch": 3}], "column 'epoch' is one number, where a column has one for each row"),
        ([{"a": A}, {"b": A}], "different columns: column 'a', then column 'b'"),
        ([(A, T), (A[:, :2], T)], r"rows of column '0' have shape \(3,\) in one batch and \(2,\) in another; pad them"),
        ([{"x": {"a": A, "b": T[:4]}}], "different lengths: 10 of column 'x.a', 4 of column 'x.b'"),
        (TensorDataset(A[:0]), "yields no data"),
    ],
)
def test_what_is_no_column_is_said_with_its_name(loader, words):
    with pytest.raises(ValueError, match=f"^mine.* {words}"):
        rows_of(Draw(0), loader, "mine")


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_SECONDS"])
def test_a_loader_without_an_end_is_told(limit, monkeypatch):
    monkeypatch.setattr(loading, limit, 1e-4 if limit == "MOST_SECONDS" else 10_000)
    for loader in (itertools.cycle(batches(5)), Endless(), DataLoader(Endless(), batch_size=5)):
        with pytest.raises(ValueError, match=r"mine says no length and had no end after .* give it one \(itertools"):
            rows_of(Draw(0), loader, "mine")


def test_streamed_rows_are_read_when_they_are_asked_for():
    read = []

    class Counted(Dictionaries):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    rows = rows_of(Draw(0), Counted(), "mine", in_memory=False)
    assert len(read) == 1, "one row, to see whether it can be read"
    rows(torch.tensor([3, 5]))
    assert read[1:] == [3, 5]
    with pytest.raises(ValueError, match="in_memory=False needs a Dataset whose rows can be asked for by number"):
        rows_of(Draw(0), Endless(), "mine", in_memory=False)
    with pytest.raises(ValueError, match="column 'text' holds str"):
        rows_of(Draw(0), type("Texts", (Dataset,), {"__len__": lambda _: 2, "__getitem__": lambda *_: {"text": "a"}})(),
                "mine", in_memory=False)  # fmt: skip


# -- how the forward pass is made


def made(lower, rng=None, loader=None, **how):
    """Classification by a network below, each row with a weight of its own."""
    rng = rng or Draw(0)
    a, t = Draw(5).normal(24, 4), torch.arange(24) % 3
    weights = nn.Embedding(12, 1)
    torch.nn.init.zeros_(weights.weight)
    above, below = loader or ([(a[12:], t[12:])], [(a[:12], t[:12], torch.arange(12))])
    return from_modules(
        rng, weights, lower, above, below,
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t),
        lower_loss=lambda upper, lower, a, t, rows: (
            upper(rows)[:, 0].sigmoid() * cross_entropy(lower(a), t, reduction="none")
        ),
        decay=1e-2, **how,
    )  # fmt: skip


def net(*last):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *last, nn.Linear(6, 3))


@pytest.mark.parametrize("rows", [None, torch.tensor([5, 1, 8, 8, 3, 0, 2])])
def test_parts_add_up_to_the_whole_in_value_and_derivatives(rows):
    from bilevelbench import Oracle

    whole, parts = made(net()), made(net(), chunk=3)
    x, y, v = whole.x0 + 0.3 * Draw(1).normal(12), whole.y0, Draw(2).normal(len(whole.y0))
    for one, other in zip(*((o.g(x, y, rows), *o.dg(x, y, rows), *o.d2g(x, y, v, rows))
                            for o in (Oracle(whole), Oracle(parts))), strict=True):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_parts_are_smaller_than_the_whole():
    seen = []

    class Watch(nn.Linear):
        def forward(self, a):
            seen.append(len(a))
            return super().forward(a)

    problem = made(nn.Sequential(Watch(4, 3)), chunk=5)
    problem.f(problem.x0, problem.y0)
    assert seen == [5, 5, 2]


def test_masks_are_a_function_of_seed_and_step():
    how = {
        "dropout": "seeded",
        "rows_per_step": 6,
        "metrics": lambda u, w: {"norm": float(w(torch.ones(2, 4).double()).sum())},
    }
    first, again, other = (
        made(net(nn.Dropout()), **how),
        made(net(nn.Dropout()), **how),
        made(net(nn.Dropout()), Draw(1), **how),
    )
    x, y = first.x0, first.y0
    values = []
    for problem in (first, again, other):
        rows = [problem.stream.rows(step)[1] for step in (0, 1, 7)]
        values.append([float(problem.g(x, y, some)) for some in rows])
        torch.manual_seed(len(values))
        before = torch.get_rng_state()
        assert [float(problem.g(x, y, some)) for some in rows] == values[-1], "whatever torch drew in between"
        assert torch.equal(torch.get_rng_state(), before), "and it leaves the generator as it was"
    assert values[0] == values[1]
    assert values[0] != values[2]
    assert len(set(values[0])) == 3
    assert first.metrics(x, y) == first.metrics(x, y), "figures are without dropout"
    assert "dropout draws one mask for each step (2 Dropout)" in first.notes[0]
    same = made(net(nn.Dropout(0.0)), **how)
    rows = same.stream.rows(3)[1]
    plain = made(net())
    assert float(same.g(x, y, rows)) == pytest.approx(float(plain.g(x, y, rows[:-1])), rel=1e-14)


@pytest.mark.parametrize(
    "how",
    [
        {}, {"chunk": 5}, {"batch_norm": "batch"}, {"autocast": "bfloat16"}, {"dropout": "seeded", "rows_per_step": 6},
        {"in_memory": False, "rows_per_step": 6}, {"in_memory": False, "dropout": "seeded", "rows_per_step": 6},
    ],
    ids=str,
)  # fmt: skip
def test_each_way_of_making_a_problem_is_run(how, tmp_path):
    """A run asks before its first step what a solver never asks: the guards want f and g without rows."""
    a, t = Draw(5).normal(24, 4), torch.arange(24) % 3
    loader = TensorDataset(a[12:], t[12:]), TensorDataset(a[:12], t[:12], torch.arange(12))
    layer = nn.BatchNorm1d(6) if "batch_norm" in how else nn.Dropout()
    figures = {"metrics": lambda u, w: {"norm": float(sum(v.norm() for v in w.parameters.values()))}}

    def small(rng):
        """A network below."""
        torch.manual_seed(rng.seed)
        return made(net(layer), rng, loader, **(figures if how.get("rows_per_step") else {}), **how)

    results = bb.run([small], ["bome(lr=0.01)"], steps=3, seeds=[0], out=tmp_path, in_process=True, progress=False)
    assert list(results.runs["status"]) == ["done"], results.runs["reason"][0]


def test_without_rows_a_stream_is_that_of_its_first_step():
    problem = made(net(), metrics=lambda u, w: {"norm": 1.0}, rows_per_step=6)
    x, y, (above, below) = problem.x0, problem.y0, problem.stream.rows(0)
    assert float(problem.f(x, y)) == float(problem.f(x, y, ...)) == float(problem.f(x, y, above))
    assert float(problem.g(x, y)) == float(problem.g(x, y, None)) == float(problem.g(x, y, below))


def test_the_batchs_statistics():
    problem = made(net(nn.BatchNorm1d(6)), batch_norm="batch")
    assert (problem.n_f, problem.n_g) == (1, 1)
    lower = net(nn.BatchNorm1d(6)).double().train()
    expected = cross_entropy(lower(Draw(5).normal(24, 4)[12:]), torch.arange(12, 24) % 3)
    assert float(problem.f(problem.x0, problem.y0)) == pytest.approx(expected.item(), rel=1e-12)
    assert "takes the mean and variance of the rows at hand (2 BatchNorm1d)" in problem.notes[0]
    assert set(problem.state_dicts(problem.x0, problem.y0)[1]) == set(net(nn.BatchNorm1d(6)).state_dict())


def test_bfloat16_is_for_float32_points_alone():
    rough, exact = made(net(), Draw(0, dtype=torch.float32), autocast="bfloat16"), made(net(), autocast="bfloat16")
    x, y = exact.x0, exact.y0
    assert float(exact.f(x, y)) == float(made(net()).f(x, y))
    low = rough.f(x.float(), y.float())
    assert low.dtype == torch.float32
    assert 1e-5 < abs(float(low) - float(exact.f(x, y))) < 0.05
    assert "modules run in bfloat16 where points are float32" in rough.notes[0]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"dropout": "on"}, "dropout='on' is not valid; it is 'off' or 'seeded'"),
        ({"dropout": "seeded"}, "dropout='seeded' needs rows_per_step"),
        ({"in_memory": False}, "in_memory=False needs rows_per_step"),
        ({"rows_per_step": 4}, "rows_per_step needs metrics"),
        ({"rows_per_step": -1}, "rows_per_step=-1 is not valid"),
        ({"rows_per_step": 13, "metrics": lambda u, w: {}}, "rows_per_step=13 is more than .*_loader has, 12"),
        ({"chunk": 2.0}, "chunk=2.0 is not valid; it is a number of rows, or 0"),
        ({"chunk": 4, "batch_norm": "batch"}, "chunk and batch_norm='batch' do not go together"),
        ({"batch_norm": "running"}, "batch_norm='running' is not valid; it is 'checked', 'as is' or 'batch'"),
        ({"attention": "flash"}, "attention='flash' is not valid; it is 'as is' or 'math'"),
        ({"autocast": "float16"}, "autocast='float16' is not valid; it is '' or 'bfloat16'"),
    ],
)
def test_settings_that_are_none(how, words):
    with pytest.raises(ValueError, match=words):
        made(net(), **how)


def test_a_layer_without_a_shape_is_named():
    with pytest.raises(ValueError, match=r"lower_module's '0.weight' is lazy and has no shape yet: let one batch pass"):
        made(nn.Sequential(nn.LazyLinear(3)))


def test_a_problem_of_streamed_rows_is_solved():
    """Regression on rows that no memory holds all of: each step reads its own, and figures are the user's."""
    problem = build_problem(str(at_size.STREAMED), Draw(0))
    solver, oracle = make_solver("bome(lr=0.1,lr_inner=0.1,T=5)"), Oracle(problem)
    state = solver.init(oracle, problem.x0, problem.y0)
    for step in range(30):
        oracle.begin(step)
        state = solver.step(oracle, state)
    assert problem.metrics(state.x, state.y)["error"] < 0.1 * problem.metrics(problem.x0, problem.y0)["error"]


def test_streamed_rows_take_no_memory():
    """The campaign ``at_size`` has hundreds of gigabytes of them."""
    few, many = at_size.streamed([10**4, 10**9], steps=3).values()
    assert many < few + 8
