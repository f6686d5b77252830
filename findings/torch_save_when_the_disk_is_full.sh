#!/usr/bin/env bash
# torch 2.15.0: torch.save to a full disk raises RuntimeError without an errno, where open().write raises OSError ENOSPC.
#
# So a program that waits, or goes elsewhere, on OSError with errno ENOSPC takes a full disk for an error of its own.
# pickle.dump to the same file raises the OSError. /dev/full is a disk that is always full.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 numpy
cat > "$work/run.py" <<'EOF'
import pickle

import torch

value = torch.zeros(100_000)


def dump():
    with open("/dev/full", "wb") as file:
        pickle.dump(value.numpy(), file)


for name, write in (("pickle.dump", dump), ("torch.save", lambda: torch.save(value, "/dev/full"))):
    try:
        write()
    except Exception as error:
        print(name, type(error).__name__, getattr(error, "errno", None))
EOF
"$work/env/bin/python" "$work/run.py" | tee "$work/out"
diff "$work/out" - <<'EOF'
pickle.dump OSError 28
torch.save RuntimeError None
EOF
