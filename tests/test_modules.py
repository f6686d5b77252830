"""Problems out of modules and loaders: the same numbers as the formula, nothing changed, the README's example whole."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from bilevelbench import Draw, Oracle, from_modules, make_solver
from bilevelbench.contract import check
from bilevelbench.contract.portrait import portrait
from bilevelbench.core.evaluation import notes
from bilevelbench.core.registry import PROBLEMS, Entry
from bilevelbench.measure.judge import Judge

README = Path(__file__).parents[1] / "README.md"


class Penalty(nn.Module):
    """A log-penalty for each weight."""

    def __init__(self, n):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(n))

    def forward(self, weight):
        return (self.log.exp() * weight**2).sum()


def ridge(rng, **other):
    """Ridge regression with one penalty per weight, as modules."""
    A, t = rng.normal(12, 3), rng.normal(12, 1)
    train, rest = TensorDataset(A[:8], t[:8]), TensorDataset(A[8:], t[8:])
    return A, t, from_modules(
        rng, Penalty(3), nn.Linear(3, 1, bias=False), DataLoader(rest, batch_size=3), DataLoader(train, batch_size=3),
        upper_loss=lambda upper, lower, a, s: mse_loss(lower(a), s),
        lower_loss=lambda upper, lower, a, s: mse_loss(lower(a), s) + upper(lower.parameters["weight"]),
        **other,
    )  # fmt: skip


def test_modules_have_the_numbers_of_the_formula():
    A, t, problem = ridge(Draw(0), decay=0.25)
    x, y = Draw(1).normal(3), Draw(2).normal(3)
    f = (A[8:] @ y - t[8:, 0]).square().mean()
    g = (A[:8] @ y - t[:8, 0]).square().mean() + (x.exp() * y**2).sum() + 0.25 * y @ y
    assert float(problem.f(x, y)) == pytest.approx(float(f), rel=1e-14)
    assert float(problem.g(x, y)) == pytest.approx(float(g), rel=1e-14)
    assert (problem.n_f, problem.n_g) == (4, 8)
    rows = torch.tensor([5, 0])
    some = (A[rows] @ y - t[rows, 0]).square().mean() + (x.exp() * y**2).sum() + 0.25 * y @ y
    assert float(problem.g(x, y, rows)) == pytest.approx(float(some), rel=1e-14)
    v = Draw(3).normal(3)
    _, hessian = Oracle(problem).d2g(x, y, v)
    exact = 2 * A[:8].T @ (A[:8] @ v) / 8 + 2 * x.exp() * v + 0.5 * v
    torch.testing.assert_close(hessian, exact)


def test_the_start_is_the_modules_own_and_the_modules_stay_as_they_are():
    lower = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1))
    lower[0].bias.requires_grad_(False)
    with torch.no_grad():
        lower(torch.randn(8, 2))  # batch norm meets data
    before = {k: v.clone() for k, v in lower.state_dict().items()}
    data = [(torch.ones(4, 2), torch.zeros(4, 1))]
    problem = from_modules(
        Draw(0), Penalty(1), lower, data, data,
        upper_loss=lambda upper, lower, a, t: mse_loss(lower(a), t),
        lower_loss=lambda upper, lower, a, t: (lower(a) - t).square() + upper(1.0),
        metrics=lambda upper, lower: {"log": upper.parameters["log"].sum()},
    )  # fmt: skip
    assert len(problem.y0) == 6 + 3 + 3 + 3 + 1  # the frozen bias is no variable
    torch.testing.assert_close(problem.y0[:6], lower[0].weight.detach().double().reshape(-1))
    assert float(problem.f(problem.x0, problem.y0)) == float(problem.f(problem.x0, problem.y0))  # no dropout
    for name, value in lower.state_dict().items():
        assert torch.equal(value, before[name])
    assert lower.training
    assert problem.metrics(problem.x0 + 2, problem.y0)["log"] == 2.0
    with torch.no_grad():
        expected = lower.double().eval()(torch.ones(4, 2).double()).square().mean()
    assert float(problem.f(problem.x0, problem.y0)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([], "lower_loader yields no data"),
        ([(torch.ones(0, 3), torch.ones(0, 1))], "lower_loader yields no data"),
        ([(torch.ones(4, 3), torch.ones(3, 1))], "columns of different lengths"),
        ([(torch.ones(4, 3), torch.ones(4, 1)), (torch.ones(4, 3),)], "different columns"),
    ],
)
def test_loaders_that_give_nothing_of_use(loader, words):
    good = [(torch.ones(2, 3), torch.ones(2, 1))]
    loss = lambda upper, lower, a, t: mse_loss(lower(a), t)  # noqa: E731
    with pytest.raises(ValueError, match=words):
        from_modules(Draw(0), Penalty(3), nn.Linear(3, 1), good, loader, loss, loss)
    with pytest.raises(ValueError, match="upper_module has no parameters that need a gradient"):
        from_modules(Draw(0), nn.ReLU(), nn.Linear(3, 1), good, good, loss, loss)


def test_the_example_of_the_readme_is_a_sound_problem_that_solvers_solve(tmp_path, monkeypatch):
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "from_modules" in block
    )
    path = tmp_path / "my_problem.py"
    path.write_text(code)
    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", dict(PROBLEMS.entries))
    passed, text = check(str(path))
    assert passed, text
    assert "variables: 40 upper, 18 lower; rows of data: 40 of f, 40 of g" in text
    problem = PROBLEMS.entries["my_cleaning"].make(Draw(0))
    judge, solver, oracle = Judge(problem), make_solver("aid_cg(lr=100.0,lr_inner=0.5,T=10,K=10)"), Oracle(problem)
    state = solver.init(oracle, problem.x0, problem.y0)
    for _ in range(40):
        state = solver.step(oracle, state)
    assert judge(state.x, state.y)["phi"] < 0.8 * judge(problem.x0, problem.y0)["phi"]
    noisy = torch.arange(40) % 4 == 0
    assert float(state.x[noisy].mean()) < float(state.x[~noisy].mean())  # wrong labels count less


def plain(upper, lower, **fields):
    """Two modules with data of 3 columns, in two batches above."""
    a, t = torch.linspace(-1, 1, 24).double().reshape(8, 3) ** 3, torch.arange(8) % 2
    return from_modules(
        Draw(0), upper, lower, [(a[:2], t[:2]), (a[2:4], t[2:4])], [(a[4:], t[4:])],
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t),
        lower_loss=lambda upper, lower, a, t: cross_entropy(lower(a) * upper(torch.ones(1).to(a)), t), **fields,
    )  # fmt: skip


class Both(nn.Module):
    """A module that holds another one besides its own parameter."""

    def __init__(self, body):
        super().__init__()
        self.body, self.scale = body, nn.Parameter(torch.ones(1))

    def forward(self, one):
        return one * self.scale


class Autoencoder(nn.Module):
    """The way back is the way forth, transposed: one parameter in two places."""

    def __init__(self, again):
        super().__init__()
        self.forth, self.back = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
        self.back.weight = again(self.forth.weight)

    def forward(self, a):
        return self.back(self.forth(a) @ self.forth.weight)


def test_a_parameter_belongs_to_one_level():
    body = nn.Linear(3, 2)
    words = "upper_module's 'body.weight' and lower_module's '0.weight' are one parameter; it belongs to one level"
    with pytest.raises(ValueError, match=words):
        plain(Both(body), nn.Sequential(body))
    view = nn.Linear(3, 2)
    view.weight = nn.Parameter(body.weight.detach())  # another parameter, in the same memory
    with pytest.raises(ValueError, match=r"'body.weight' and lower_module's 'weight' are one parameter"):
        plain(Both(body), view)
    body.requires_grad_(False)  # a constant of both
    assert len(plain(Both(body), nn.Sequential(body, nn.Linear(2, 2))).x0) == 1


def test_tied_weights_stay_tied():
    lower = Autoencoder(lambda weight: weight)
    problem = plain(nn.Linear(1, 1), lower)
    assert len(problem.y0) == 6
    y = problem.y0 + 0.1 * Draw(0).normal(6)
    weight = y.view(2, 3)
    a = torch.linspace(-1, 1, 24).double().reshape(8, 3)[:4] ** 3
    expected = cross_entropy(a @ weight.T @ weight @ weight.T, torch.arange(4) % 2)
    assert float(problem.f(problem.x0, y)) == pytest.approx(float(expected), rel=1e-12)
    with pytest.raises(
        ValueError, match=r"'forth.weight' and lower_module's 'back.weight' are two parameters in one me"
    ):
        plain(nn.Linear(1, 1), Autoencoder(lambda weight: nn.Parameter(weight.detach())))


NORMS = {
    "1d": lambda **k: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, **k)),
    "2d": lambda **k: nn.Sequential(nn.Unflatten(1, (3, 1, 1)), nn.BatchNorm2d(3, **k), nn.Flatten(), nn.Linear(3, 2)),
    "3d": lambda **k: nn.Sequential(
        nn.Unflatten(1, (3, 1, 1, 1)), nn.BatchNorm3d(3, **k), nn.Flatten(), nn.Linear(3, 2)
    ),
    "without weights": lambda **k: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False, **k)),
    "without a count": lambda **k: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, momentum=None, **k)),
}


@pytest.mark.parametrize("kind", NORMS)
def test_batch_norm_that_never_met_data_is_refused_unless_asked_for(kind):
    lower = NORMS[kind]()
    with pytest.raises(ValueError, match=r"lower_module: batch norm .* normalises nothing .* batch_norm='as is'"):
        plain(nn.Linear(1, 1), lower)
    problem = plain(nn.Linear(1, 1), lower, batch_norm="as is", notes=("of my own",))
    assert "never met data and normalises nothing" in problem.notes[0]
    assert problem.notes[1:] == ("of my own",)
    with torch.no_grad():
        lower(torch.randn(16, 3))
    (note,) = plain(nn.Linear(1, 1), lower).notes
    assert note.startswith("lower_module: batch norm uses the running mean and variance that it came with: ")
    assert "BatchNorm" in note


def test_other_norms_that_never_met_data():
    for layer in (nn.SyncBatchNorm(2), nn.InstanceNorm1d(2, track_running_stats=True)):
        with pytest.raises(ValueError, match=f"itself {type(layer).__name__}"):
            list(notes("m", layer, "checked"))
    for layer in (nn.InstanceNorm1d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2)):
        assert not list(notes("m", layer, "checked"))


@pytest.mark.parametrize("kind", ["1d", "2d", "3d", "without weights"])
def test_batch_norm_without_running_statistics_makes_no_finite_sum(kind):
    lower = NORMS[kind](track_running_stats=False)
    problem = plain(nn.Linear(1, 1), lower)
    assert (problem.n_f, problem.n_g) == (1, 1)
    assert "takes those of all rows at hand" in problem.notes[0]
    a = torch.linspace(-1, 1, 24).double().reshape(8, 3)[:4] ** 3
    with torch.no_grad():
        expected = cross_entropy(lower.double()(a), torch.arange(4) % 2)  # of all rows together, batch by batch not
    assert float(problem.f(problem.x0, problem.y0)) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Dropout(0.5), "itself Dropout"),
        (nn.Dropout2d(0.5), "itself Dropout2d"),
        (nn.AlphaDropout(0.5), "itself AlphaDropout"),
        (nn.RReLU(), "itself RReLU"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), "itself MultiheadAttention"),
        (nn.TransformerEncoderLayer(4, 2, 8), "self_attn MultiheadAttention, dropout Dropout, dropout1 Dropout"),
        (nn.LSTM(3, 4, 2, dropout=0.2), "itself LSTM"),
        (type("DropPath", (nn.Identity,), {"drop_prob": 0.1})(), "itself DropPath"),
        (nn.Sequential(*(nn.Dropout() for _ in range(6))), "0 Dropout, 1 Dropout, 2 Dropout, 3 Dropout and 2 more"),
        (nn.Dropout(0.0), ""),
        (nn.RReLU(0.2, 0.2), ""),
        (nn.MultiheadAttention(4, 2), ""),
        (nn.Linear(2, 2), ""),
    ],
)  # fmt: skip
def test_dropout_by_any_name_is_said(layer, named):
    said = list(notes("lower_module", layer, "checked"))
    assert len(said) == bool(named)
    assert all(line.startswith(f"lower_module: dropout is off ({named}") for line in said)


def test_check_says_what_eval_means(monkeypatch):
    def make(rng):
        torch.manual_seed(rng.seed)
        lower = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
        return plain(nn.Linear(1, 1), lower, batch_norm="as is")

    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", dict(PROBLEMS.entries))
    PROBLEMS.entries["with_norm"] = Entry("with_norm", make, "", Path(__file__))
    lines = portrait("with_norm")
    assert "lower_module: dropout is off (2 Dropout), as in eval()" in lines
    assert any("batch norm has never met data and normalises nothing" in line for line in lines)


def test_float32_and_losses_per_row():
    A, t = Draw(0).normal(6, 3), torch.arange(6) % 2
    made = {
        dtype: from_modules(
            Draw(0, dtype=dtype), nn.Linear(1, 1), nn.Linear(3, 2), [(A, t)], [(A, t)],
            upper_loss=lambda upper, lower, a, s: cross_entropy(lower(a), s),
            lower_loss=lambda upper, lower, a, s: cross_entropy(lower(a), s, reduction="none"),
        )
        for dtype in (torch.float32, torch.float64)
    }  # fmt: skip
    rough = made[torch.float32]
    value = rough.g(rough.x0.float(), rough.y0.float())
    assert value.dtype == torch.float32
    exact = made[torch.float64]
    assert float(exact.g(rough.x0, rough.y0)) == pytest.approx(float(value), rel=1e-6)
    assert float(exact.f(rough.x0, rough.y0)) == pytest.approx(float(exact.g(rough.x0, rough.y0)), rel=1e-14)
