#!/usr/bin/env bash
# hypergrad 0.0.1: its differentiable SGD with momentum drops the gradient of the first step.
#
# `diff_sgd` begins its momentum buffer with `grad.clone().detach()`. So the first step, and what momentum carries of it
# into all later ones, moves the parameters and carries no gradient: unrolled, x seems to have no effect by it. Lower level
# y'Hy/2 - x'y, upper level |y|^2/2, steps of 0.5, momentum 0.5: after one step there is no gradient at all, after two it is
# less than half, after five still off by a tenth. Without momentum it is right.
# Nothing is said. Seen with `bilevelbench examine`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 numpy hypergrad==0.0.1
cat > "$work/run.py" <<'PYTHON'
import torch
from hypergrad.optimizers import diff_sgd

h = torch.tensor([0.5, 0.8, 1.0], dtype=torch.float64)


def by_hand(params, grads, state, weight_decay, momentum, lr):
    state = grads if state is None else [momentum * b + g for b, g in zip(state, grads)]
    return [p - lr * b for p, b in zip(params, state)], state


for steps in (1, 2, 5):
    for momentum in (0.0, 0.5):
        for name, step in (("diff_sgd", diff_sgd), ("by hand", by_hand)):
            x = torch.ones(3, dtype=torch.float64, requires_grad=True)
            y, state = [torch.ones(3, dtype=torch.float64, requires_grad=True)], None
            for _ in range(steps):
                slopes = list(torch.autograd.grad(0.5 * (h * y[0] ** 2).sum() - x @ y[0], y, create_graph=True))
                y, state = step(y, slopes, state, weight_decay=0.0, momentum=momentum, lr=0.5)
            value = (y[0] ** 2).sum() / 2
            got = torch.autograd.grad(value, x, allow_unused=True)[0] if value.requires_grad else None
            print(steps, momentum, name, "none" if got is None else [round(v, 4) for v in got.tolist()])
PYTHON
"$work/env/bin/python" -W ignore "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'OUT'
1 0.0 diff_sgd [0.625, 0.55, 0.5]
1 0.0 by hand [0.625, 0.55, 0.5]
1 0.5 diff_sgd none
1 0.5 by hand [0.625, 0.55, 0.5]
2 0.0 diff_sgd [1.2578, 0.928, 0.75]
2 0.0 by hand [1.2578, 0.928, 0.75]
2 0.5 diff_sgd [0.7812, 0.605, 0.5]
2 0.5 by hand [1.7578, 1.2705, 1.0]
5 0.0 diff_sgd [2.6888, 1.4186, 0.9688]
5 0.0 by hand [2.6888, 1.4186, 0.9688]
5 0.5 diff_sgd [4.198, 1.9675, 1.25]
5 0.5 by hand [4.5614, 1.9023, 1.125]
OUT
