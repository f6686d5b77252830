#!/usr/bin/env bash
# scipy 1.17.1: scipy.stats cannot be imported where the import of torch is blocked in the usual way.
#
# sys.modules["torch"] = None makes `import torch` raise ImportError; programs and tests do so to show that they get by
# without it. scipy does not need torch, but on the way of its array-API support it asks whether "torch" stands in
# sys.modules, finds the None, and raises AttributeError over NumPy arrays, as early as at its import. Where torch is not installed, or not imported,
# nothing happens.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.3.5
cat > "$work/run.py" <<'EOF'
import sys

if sys.argv[1] == "blocked":
    sys.modules["torch"] = None

import numpy as np

try:
    from scipy.stats import bootstrap

    print(sys.argv[1], bootstrap(([1.0, 2.0, 3.0],), np.mean, rng=0, n_resamples=99).confidence_interval.low >= 1)
except AttributeError as error:
    print(sys.argv[1], error)
EOF
for torch in absent blocked; do "$work/env/bin/python" "$work/run.py" $torch; done | tee "$work/out"
diff "$work/out" - <<'EOF'
absent True
blocked 'NoneType' object has no attribute 'Tensor'
EOF
