"""`check` names the line that takes a part of f or g out of its graph, as scripts of meta-learning do."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bilevelbench import Draw
from bilevelbench.contract.left_out import left_out
from bilevelbench.contract.problems import gradients_are_right
from bilevelbench.core.registry import PROBLEMS

LOSSES = {
    "detach": "upper(loss.detach()[:, None])[:, 0].sigmoid() * loss",
    ".data": "upper(loss.data[:, None])[:, 0].sigmoid() * loss",
    "item": "loss * loss.mean().item()",
    "float": "loss * float(loss.mean())",
    "numpy": "loss * torch.from_numpy(loss.detach().numpy())",
    "no_grad": "loss * quietly(loss)",
}
FILE = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bilevelbench import Draw, from_modules, problem


@torch.no_grad()
def quietly(loss):
    return loss.square()


def lower_loss(upper, lower, a, t):
    loss = cross_entropy(lower(a), t, reduction="none")
    return {loss}


@problem("meta_weight_net")
def meta_weight_net(rng: Draw):
    torch.manual_seed(rng.seed)
    a, t = rng.normal(12, 4), torch.arange(12) % 3
    return from_modules(
        rng, nn.Linear(1, 1), nn.Linear(4, 3), [(a[6:], t[6:])], [(a[:6], t[:6])],
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t), lower_loss=lower_loss, decay=1e-3,
    )
"""


@pytest.mark.parametrize("way", LOSSES)
def test_the_line_is_named(way, tmp_path, monkeypatch):
    PROBLEMS.load()
    monkeypatch.setattr(PROBLEMS, "entries", dict(PROBLEMS.entries))
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace("{loss}", LOSSES[way]))
    words = "detach" if way == "numpy" else way
    line = "return loss.square" if way == "no_grad" else "return "
    with pytest.raises(
        AssertionError, match=rf"gradient of g .*mine.py, line \d+, takes it out of the graph \({words}\)"
    ) as told:
        gradients_are_right(str(path))
    assert line in str(told.value)


def test_what_stays_in_its_graph_is_not_named():
    net = nn.Linear(4, 3).double()

    def stays(x, y):
        constant = torch.ones(3).double().detach().numpy().sum().item()  # depends on neither
        with torch.no_grad():
            other = net(torch.ones(4).double())
        return cross_entropy((x.outer(y) * constant).T, torch.tensor([0, 1, 2])) + other.sum() * x.sum()

    assert left_out(stays, Draw(0).normal(4), Draw(1).normal(3)) == ""
