#!/usr/bin/env bash
# hypergrad 0.0.1: its conjugate gradients do not solve the linear system, and are NaN once there is nothing left to solve.
#
# Lower level y'Hy/2 - x'y with H diagonal in n variables, upper level |y - 1|^2/2 at y*(x): conjugate gradients are exact
# after n steps. hypergrad's answer is a fifth to a quarter off in three variables: the new direction is made from the old
# residual (`rs`) where it takes the new one (`_rs`). In one variable the second step divides 0 by 0. Nothing is said.
# The same library's Neumann series is right. Seen with `bilevelbench examine`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 numpy hypergrad==0.0.1
cat > "$work/run.py" <<'PYTHON'
import warnings

warnings.filterwarnings("ignore")
import torch
from hypergrad.approx_hypergrad import conjugate_gradient, neumann

for name, method, steps, step in (("cg", conjugate_gradient, None, 1.0), ("neumann", neumann, 400, 0.9)):
    for eigenvalues in ([0.5], [0.5, 0.8, 1.0]):
        h = torch.tensor(eigenvalues, dtype=torch.float64)
        x = torch.arange(1.0, len(h) + 1, dtype=torch.float64)
        y = x / h
        below = lambda ys, xs: 0.5 * (h * ys[0] ** 2).sum() - xs[0] @ ys[0]
        above = lambda ys, xs: 0.5 * ((ys[0] - 1) ** 2).sum() + 0 * xs[0].sum()
        got = method(below, above, (y,), (x,), steps or (3 if len(h) == 1 else 4), step)[0]
        exact = (y - 1) / h
        print(name, len(h), f"{float((got - exact).norm() / exact.norm()):.2f}")
PYTHON
"$work/env/bin/python" "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
cg 1 nan
cg 3 0.25
neumann 1 0.00
neumann 3 0.00
OUT
