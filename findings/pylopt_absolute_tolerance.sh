#!/usr/bin/env bash
# pylopt 1.0.0: its conjugate gradients stop at a residual of 1e-5 whatever the units, and give NaN for a zero right side.
#
# H v = b with H diagonal. `CGSolver()` tests the residual against an absolute 1e-5: for b times 1e-6 it stops after the
# first step, 60 % off, so that a hypergradient of a loss in other units is another direction. For b = 0, an upper loss that
# does not move, the first step divides 0 by 0; the residual is then NaN, its test never met, and after all 500 steps the
# solution is NaN. (The library's own implicit differentiation cannot be imported where there is no CUDA source of its
# extension, which the wheel does not have.) Seen with `bilevelbench examine`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 pylopt==1.0.0
cat > "$work/run.py" <<'PYTHON'
import torch
from pylopt.solver import CGSolver

h = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.8, 1.0], dtype=torch.float64)
b = torch.arange(1.0, 7.0, dtype=torch.float64)
for scale in (1.0, 1e-4, 1e-6, 0.0):
    found = CGSolver().solve(lambda v: h * v, scale * b)
    exact = scale * b / h
    off = f"off by {float((found.solution - exact).norm() / exact.norm()):.0e}"
    print(scale, found.stats.num_iterations, "steps,", off if scale else f"solution {found.solution.tolist()}")
PYTHON
"$work/env/bin/python" -W ignore "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
1.0 6 steps, off by 2e-16
0.0001 6 steps, off by 1e-16
1e-06 1 steps, off by 6e-01
0.0 500 steps, solution [nan, nan, nan, nan, nan, nan]
OUT
