#!/usr/bin/env bash
# betty-ml 0.2.1: its conjugate gradients do not solve the linear system, and are NaN once there is nothing left to solve.
#
# Lower level y'Hy/2 - x'y with H diagonal, upper level |y - 1|^2/2 at y*(x): conjugate gradients are exact after as many
# steps as there are variables. betty's new direction is made from the old residual (`r`) where it takes the new one
# (`r_new`): in three variables the answer is a quarter off after 3 steps; in one variable the second step divides 0 by 0.
# Nothing is said. The same library's Neumann series is right. The wheel asks for a Python below 3.11: uv installs it
# nevertheless, pip quietly takes 0.1.1 instead.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 numpy betty-ml==0.2.1
cat > "$work/run.py" <<'PYTHON'
from types import SimpleNamespace

import torch
from betty.configs import Config
from betty.hypergradient.cg import cg
from betty.hypergradient.neumann import neumann

for name, method, settings in (
    ("cg", cg, {"cg_iterations": 3, "cg_alpha": 1.0}), ("cg", cg, {"cg_iterations": 20, "cg_alpha": 1.0}),
    ("neumann", neumann, {"neumann_iterations": 400, "neumann_alpha": 0.9}),
):
    for eigenvalues in ([0.5], [0.5, 0.8, 1.0]):
        h = torch.tensor(eigenvalues, dtype=torch.float64)
        x = torch.arange(1.0, len(h) + 1, dtype=torch.float64).requires_grad_()
        y = (x / h).detach().requires_grad_()
        below = SimpleNamespace(
            paths=[], config=Config(type=name, **settings), cur_batch=None,
            training_step_exec=lambda batch: 0.5 * (h * y**2).sum() - x @ y,
            trainable_parameters=lambda: [y], parameters=lambda: [y],
        )
        got = method([(y - 1).detach()], below, SimpleNamespace(trainable_parameters=lambda: [x]), sync=False)[0]
        exact = (y - 1) / h
        print(name, next(iter(settings.values())), len(h), f"{float((got - exact).norm() / exact.norm()):.2f}")
PYTHON
"$work/env/bin/python" -W ignore "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
OUT
