#!/usr/bin/env bash
# jax 0.10.2 on the CPU: a float64 below 2.2e-308 prints as what it is, and equals 0.
#
# XLA lets the processor take subnormal numbers for 0, in every operation and in comparisons, not in what is only moved.
# So x = 1e-310 keeps its value, float(x) shows it, and yet x > 0 is False, x == 0 is True, 2 x is 0 and 1 / x infinite
# (in NumPy and torch 2e-310 and 1e310, which is infinite, too). Operations whose exact result is subnormal give 0.
# In float32 the border is 1.2e-38: squares of gradients of 1e-20 are 0 there. Stopping rules such as `while r > 0` and
# divisions guarded by `r == 0` take another way than the same code in NumPy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy
cat > "$work/run.py" <<'EOF'
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
for name, x in (("numpy", np.float64(1e-310)), ("jax", jnp.asarray(1e-310))):
    print(name, float(x), bool(x > 0), bool(x == 0), float(2 * x), bool(x * 1e3 > 0))
for name, g in (("numpy", np.float32(1e-20)), ("jax", jnp.float32(1e-20))):
    print(name, bool(g > 0), bool(g * g > 0))
EOF
"$work/env/bin/python" "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'EOF'
numpy 1e-310 True False 2e-310 True
jax 1e-310 False True 0.0 False
numpy True True
jax True False
EOF
