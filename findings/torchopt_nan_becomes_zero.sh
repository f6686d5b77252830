#!/usr/bin/env bash
# torchopt 0.7.3: implicit differentiation with conjugate gradients makes a finite hypergradient of an upper loss that is NaN.
#
# Lower level y'Hy/2 - x'y, upper level c'y with c = NaN: any hypergradient is NaN. `custom_root` with `solve_cg()` answers
# 0: the residual is NaN, "greater than the tolerance" is false, so that no step is made and the zero that it begins with
# is the answer. A training run goes on as if nothing were. `solve_inv()` gives NaN.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 numpy torchopt==0.7.3
cat > "$work/run.py" <<'PYTHON'
import torch
import torchopt

h = torch.tensor([0.5, 0.8, 1.0], dtype=torch.float64)


def below(y, x):
    return 0.5 * (h * y**2).sum() - x @ y


for name, solve in (("cg", torchopt.linear_solve.solve_cg()), ("inv", torchopt.linear_solve.solve_inv())):
    for c in (1.0, float("nan")):
        x = torch.ones(3, dtype=torch.float64, requires_grad=True)

        @torchopt.diff.implicit.custom_root(torch.func.grad(below), argnums=1, solve=solve)
        def solution(begin, above):
            return begin.detach().clone()

        (got,) = torch.autograd.grad((c * solution((x / h).detach().requires_grad_(), x)).sum(), x)
        print(name, c, [round(v, 4) for v in got.tolist()])
PYTHON
"$work/env/bin/python" -W ignore "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
OUT
