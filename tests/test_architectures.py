"""The networks that people train, below: BOME, SOBA and AID-CG take a step, and derivatives are those of f and g."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bilevelbench import Draw, Oracle, from_modules, make_solver
from bilevelbench.core.errors import Unsupported
from tests.architectures import NAMES, case, weighed


class Weights(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(n))

    def forward(self, rows):
        return torch.sigmoid(self.logit[rows])


def problem(name):
    module, inputs, labels, knobs = case(name)
    half = len(labels) // 2
    return from_modules(
        Draw(0), Weights(half), module, [(inputs[half:], labels[half:])],
        [(inputs[:half], labels[:half], torch.arange(half))],
        upper_loss=lambda upper, lower, a, t: cross_entropy(lower(a), t), lower_loss=weighed, decay=1e-2, **knobs,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_solvers_take_it_and_derivatives_are_right(name):
    made = problem(name)
    x, y = made.x0 + 0.1 * Draw(1).normal(len(made.x0)), made.y0 + 0.01 * Draw(2).normal(len(made.y0))
    oracle = Oracle(made)
    if name == "bag of embeddings":
        with pytest.raises(Unsupported, match="torch has no second derivative of embedding_bag"):
            oracle.d2g(x, y, y)
        solvers = ["bome"]
    else:
        solvers = ["bome", "soba", "aid_cg(T=2,K=3)"]
    for text in solvers:
        solver = make_solver(text)
        state = solver.step(oracle, solver.init(oracle, x, y))
        assert torch.isfinite(state.y).all(), text
        assert not torch.equal(state.y, y), text
    if len(solvers) == 1:
        return
    v, h = Draw(3).normal(len(y)), 1e-5
    cross, hessian = oracle.d2g(x, y, v)
    up, down = (oracle.dg(x, y + sign * h * v) for sign in (1, -1))
    for found, ahead, behind in zip((cross, hessian), up, down, strict=True):
        by_difference = (ahead - behind) / (2 * h)
        torch.testing.assert_close(found, by_difference, rtol=1e-4, atol=1e-6 * float(by_difference.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_state_dicts_go_back_into_the_module(name):
    made = problem(name)
    module, inputs, _, _ = case(name)
    y = made.y0 + 0.01
    module.load_state_dict(made.state_dicts(made.x0, y)[1])
    parts = [p.detach().double().reshape(-1) for p in module.parameters() if p.requires_grad]
    torch.testing.assert_close(torch.cat(parts), y, rtol=1e-6, atol=1e-7)
    assert torch.isfinite(module.eval()(inputs)).all()
