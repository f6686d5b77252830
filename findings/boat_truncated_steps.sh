#!/usr/bin/env bash
# boat-torch 1.1.1: its truncated reverse mode (RGT) takes all truncated steps at the start, and adds lower gradients.
#
# Lower level y'Hy/2 - x'y with H diagonal, upper level |y|^2/2, 20 steps of 0.5 from y0 of which the first 10 are not to be
# differentiated. Without truncation its answer is that of a loop by hand. Truncated, it is that of 10 steps with the
# gradient at y0 and 10 true ones: the loop evaluates the loss at the patched model, which does not move, and steps the
# other one. And as each of these steps calls backward(), which fills x.grad too, 10 times the gradient of the LOWER
# objective in x is added to the hypergradient; at y0 = 0 that is 0. Nothing is said. Seen with `bilevelbench examine`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 boat-torch==1.1.1
cat > "$work/run.py" <<'PYTHON'
import sys
from types import SimpleNamespace

import torch
from boat_torch import boat_opt

h, x0 = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 0.8, 1.0], [1.0, 2.0, 3.0]))


def at(model, params):
    return model.value if params is None else params[0]


def lower(feed, ul_model, ll_model, params=None):
    y = at(ll_model, params)
    return 0.5 * (h * y**2).sum() - ul_model.value @ y


def upper(feed, ul_model, ll_model, params=None):
    return (at(ll_model, params) ** 2).sum() / 2 + 0 * ul_model.value.sum()


sys.modules["losses"] = SimpleNamespace(lower=lower, upper=upper)


class Point(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(value.clone())


def boat(ways, cut, y0):
    above, below = Point(x0), Point(y0)
    config = {
        "fo_op": None, "gm_op": ["NGD"], "na_op": ways, "device": "cpu", "lower_iters": 20,
        "lower_level_model": below, "upper_level_model": above,
        "lower_level_var": [below.value], "upper_level_var": [above.value],
        "lower_level_opt": torch.optim.SGD([below.value], lr=0.5),
        "upper_level_opt": torch.optim.SGD([above.value], lr=0.1),
        "GDA": {"alpha_init": 0.0, "alpha_decay": 0.1}, "RGT": {"truncate_iter": cut},
        "accumulate_grad": False, "return_grad": True, "copy_last_param": False, "loss_log_path": sys.argv[1],
    }
    problem = boat_opt.Problem(config, {f"{k}_level_loss": {"function": f"losses.{k}"} for k in ("lower", "upper")})
    problem.build_ll_solver()
    problem.build_ul_solver()
    return problem.run_iter({}, {}, 0)[0][0]


def by_hand(y, cut, frozen=False):
    x, y0 = x0.clone().requires_grad_(), y
    for k in range(20):
        y = y - 0.5 * (h * (y0 if frozen and k < cut else y) - x)
        y = y.detach() if k < cut else y
    return torch.autograd.grad((y**2).sum() / 2, x)[0]


for start in (0.0, 1.0):
    y0 = torch.full((3,), start, dtype=torch.float64)
    print("from", start)
    for name, got in (
        ("boat, nothing truncated", boat(["RAD"], 0, y0)), ("by hand", by_hand(y0, 0)),
        ("boat, 10 truncated", boat(["RAD", "RGT"], 10, y0)), ("by hand", by_hand(y0, 10)),
        ("by hand, 10 steps at y0", by_hand(y0, 10, True)),
        ("and 10 lower gradients", by_hand(y0, 10, True) - 10 * y0),
    ):
        print(f"{name}:", *(f"{v:.4f}" for v in got.tolist()))
PYTHON
"$work/env/bin/python" -W ignore "$work/run.py" "$work/log.json" | tee "$work/out"
diff "$work/out" - <<'OUT'
from 0.0
boat, nothing truncated: 3.9747 3.1248 3.0000
by hand: 3.9747 3.1248 3.0000
boat, 10 truncated: 4.0936 3.1624 3.0088
by hand: 3.7628 3.1060 2.9971
by hand, 10 steps at y0: 4.0936 3.1624 3.0088
and 10 lower gradients: 4.0936 3.1624 3.0088
from 1.0
boat, nothing truncated: 3.9810 3.1248 3.0000
by hand: 3.9810 3.1248 3.0000
boat, 10 truncated: -6.0658 -6.8601 -6.9951
by hand: 3.7688 3.1060 2.9971
by hand, 10 steps at y0: 3.9342 3.1399 3.0049
and 10 lower gradients: -6.0658 -6.8601 -6.9951
OUT
