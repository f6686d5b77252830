#!/usr/bin/env bash
# cloudpickle 3.1.3: the same class of __main__ is pickled to other bytes in every process; the same function is not.
#
# A class that is sent by value carries a random identifier, so that an instance that comes back finds its class. A digest
# of the pickled bytes is therefore no name for a class: two processes that run the same script never agree, and whatever
# is cached under it is never found again. Functions are pickled to equal bytes as long as they use no such class.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check cloudpickle==3.1.3
cat > "$work/run.py" <<'EOF'
import hashlib

import cloudpickle


class Step:
    size = 0.1


def step(x):
    return x - 0.1


def make():
    return Step()


for made in (Step, step, make):
    print(made.__name__, hashlib.sha256(cloudpickle.dumps(made)).hexdigest())
EOF
for process in 1 2; do PYTHONHASHSEED=0 "$work/env/bin/python" "$work/run.py" > "$work/$process"; done
for name in Step step make; do
  grep -qxF "$(grep "^$name " "$work/1")" "$work/2" && echo "$name: equal bytes" || echo "$name: other bytes"
done | tee "$work/out"
diff "$work/out" - <<'EOF'
Step: other bytes
step: equal bytes
make: other bytes
EOF
