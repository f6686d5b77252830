#!/usr/bin/env bash
# torch 2.15.0 (CPU): the second derivative of weight normalisation is wrong, without an error.
#
# torch.nn.utils.parametrizations.weight_norm and the older torch.nn.utils.weight_norm call one fused operation where the
# normalised dimension is the first or the last. Its first derivative is right, and it says that it can be differentiated
# twice; but the norm of v that it keeps from its forward pass counts as a constant in the second derivative. The same
# formula out of elementary operations, g * v / |v|, has the right one. So Hessian-vector products, unrolled
# differentiation and gradient penalties of a network with weight norm are off, here by more than the largest entry.
# Where the whole tensor is normalised at once (dim=None) another way is taken and the second derivative is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet torch==2.15.0 numpy
cat > "$work/run.py" <<'EOF'
import torch
from torch.nn.utils.parametrizations import weight_norm

torch.manual_seed(0)


def hessian_error(dim):
    """Autograd's product with the Hessian of a loss of the weight, against central differences of its gradient."""
    layer = weight_norm(torch.nn.Linear(4, 6).double(), dim=dim)
    parameter = layer.parametrizations.weight.original1
    a, along = torch.randn(5, 4).double(), torch.randn(6, 4).double()

    def gradient(create=False):
        (found,) = torch.autograd.grad(layer(a).tanh().square().sum(), parameter, create_graph=create)
        return found

    (product,) = torch.autograd.grad((gradient(True) * along).sum(), parameter)
    step, start = 1e-6, parameter.detach().clone()
    moved = []
    for sign in (1, -1):
        parameter.data.copy_(start + sign * step * along)
        moved.append(gradient())
    exact = (moved[0] - moved[1]) / (2 * step)
    return float((product - exact).abs().max() / exact.abs().max())


for dim in (0, 1, None):
    error = hessian_error(dim)
    print(f"dim={dim}: {'wrong' if error > 0.01 else 'right' if error < 1e-6 else error}")
EOF
OMP_NUM_THREADS=1 "$work/env/bin/python" "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'EOF'
dim=0: wrong
dim=1: wrong
dim=None: right
EOF
