"""Hypergradients of boat-torch 1.1.1, for the files beside, which say in which way."""

import functools
import os
import sys
from types import SimpleNamespace

import torch
from boat_torch import boat_opt


class Point(torch.nn.Module):
    """One vector as a model."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(value.detach().clone())


def through(ways, steps, lr, cut=0):
    """boat-torch's hypergradient from y, in its own words for the ways, after so many steps of gradient descent."""
    return functools.partial(_hypergradient, ways, steps, lr, cut)


def _hypergradient(ways, steps, lr, cut, f, g, x, y):
    above, below = Point(x), Point(y)

    def loss(h):
        return lambda feed, ul_model, ll_model, params=None: h(
            ul_model.value, ll_model.value if params is None else params[0]
        )

    sys.modules["losses_of_the_probe"] = SimpleNamespace(f=loss(f), g=loss(g))
    config = {
        "fo_op": None, "gm_op": ["NGD"], "na_op": ways, "device": "cpu", "lower_iters": steps,
        "lower_level_model": below, "upper_level_model": above,
        "lower_level_var": [below.value], "upper_level_var": [above.value],
        "lower_level_opt": torch.optim.SGD([below.value], lr=lr),
        "upper_level_opt": torch.optim.SGD([above.value], lr=0.1),
        "GDA": {"alpha_init": 0.0, "alpha_decay": 0.1}, "RGT": {"truncate_iter": cut},
        "CG": {"tolerance": 1e-10, "k": 10}, "NS": {"tolerance": 1e-10, "k": 400}, "accumulate_grad": False,
        "return_grad": True, "copy_last_param": False, "loss_log_path": os.devnull,
    }  # fmt: skip
    said = {f"{level}_level_loss": {"function": f"losses_of_the_probe.{name}"}
            for level, name in (("lower", "g"), ("upper", "f"))}  # fmt: skip
    problem = boat_opt.Problem(config, said)
    problem.build_ll_solver()
    problem.build_ul_solver()
    return problem.run_iter({}, {}, 0)[0][0]
