#!/usr/bin/env bash
# torch 2.15.0: the second derivative of torch.logaddexp is NaN where it should be 0, from moderate arguments on.
#
# logaddexp(y, -y) is |y| to rounding for |y| above about 20, with first derivative 1 and second derivative 0. Value and
# first derivative are right at any y. The derivative of the derivative is NaN from y = 50 in float32 and from y = 400 in
# float64 on: its formula goes by exp(2 y), which overflows, although logaddexp exists to avoid that.
# torch.logsumexp of the same two numbers and softplus(2 y) - y give 0.
# A Newton step or a Hessian-vector product on such a loss is NaN without any warning; first-order methods see nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 numpy
cat > "$work/run.py" <<'EOF'
import torch
from torch.nn.functional import softplus

LOSSES = {
    "logaddexp": lambda y: torch.logaddexp(y, -y),
    "logsumexp": lambda y: torch.logsumexp(torch.stack([y, -y]), 0),
    "softplus": lambda y: softplus(2 * y) - y,
}
for dtype, at in ((torch.float32, 50.0), (torch.float64, 400.0)):
    for name, loss in LOSSES.items():
        y = torch.tensor([at], dtype=dtype, requires_grad=True)
        value = loss(y).sum()
        (first,) = torch.autograd.grad(value, y, create_graph=True)
        (second,) = torch.autograd.grad(first, y)
        print(str(dtype)[6:], at, name, value.item(), first.item(), round(second.item(), 9))
EOF
"$work/env/bin/python" "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'EOF'
float32 50.0 logaddexp 50.0 1.0 nan
float32 50.0 logsumexp 50.0 1.0 0.0
float32 50.0 softplus 50.0 1.0 0.0
float64 400.0 logaddexp 400.0 1.0 nan
float64 400.0 logsumexp 400.0 1.0 0.0
float64 400.0 softplus 400.0 1.0 0.0
EOF
