#!/usr/bin/env bash
# gradhpo 0.1.3: the second-order term of its T1-T2 method is the sum of a vector, written into each of its entries.
#
# Lower level |y|^2/2 - x'y, upper level c'y, one step of 0.5: the hypergradient is c/2. `_numerical_darts_approximation`
# moves all entries of an array of hyperparameters by the same eps at once, so that what it measures is the sum of the
# derivatives, and then fills the array with it. With one number to an array it is right; in three it is (3, 3, 3) for
# (0.5, 1, 1.5). The library's one-step method gives c/2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check uv
VIRTUAL_ENV="$work/env" "$work/env/bin/uv" pip install --quiet gradhpo==0.1.3 jax==0.10.2 optax==0.2.8
cat > "$work/run.py" <<'PYTHON'
import jax

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import optax
from gradhpo.algorithms.baselines import OneStepOptimizer
from gradhpo.algorithms.t1t2 import T1T2Optimizer

for c in (jnp.array([3.0]), jnp.array([1.0, 2.0, 3.0])):
    x, y = jnp.ones_like(c), jnp.ones_like(c)
    for kind in (OneStepOptimizer, T1T2Optimizer):
        method = kind(optax.sgd(0.5), optax.sgd(0.1))
        got = method.compute_hypergradient(
            method.init(y, x), None, None, lambda w, lam, batch: (w @ w) / 2 - lam @ w, lambda w, lam, batch: c @ w
        )
        print(kind.__name__, [round(float(v), 6) for v in got])
PYTHON
"$work/env/bin/python" -W ignore "$work/run.py" 2> /dev/null | tee "$work/out"
diff "$work/out" - <<'OUT'
OneStepOptimizer [1.5]
T1T2Optimizer [1.5]
OneStepOptimizer [0.5, 1.0, 1.5]
T1T2Optimizer [3.0, 3.0, 3.0]
OUT
