#!/usr/bin/env bash
# cosmic-ray 8.7.0: the mutant of `except package.Error` is no other exception but a name that does not exist.
#
# Its ExceptionReplacer puts CosmicRayTestingException in place of an exception that is handled. Of a dotted name it
# replaces the dot: `except subprocess.TimeoutExpired` becomes
# `except subprocessCosmicRayTestingExceptionTimeoutExpired`. Nothing is said, and the mutant is scored like any other:
# it dies of a NameError when an exception of any kind passes by, not because a test asks for the right one, and survives
# otherwise. `except TimeoutExpired`, imported by name, is replaced as it should be.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0
cd "$work"
cat > subject.py <<'EOF'
import subprocess
from subprocess import TimeoutExpired


def dotted(work):
    try:
        return work()
    except subprocess.TimeoutExpired:
        return None


def plain(work):
    try:
        return work()
    except TimeoutExpired:
        return None
EOF
cat > settings.toml <<'EOF'
[cosmic-ray]
module-path = "subject.py"
timeout = 60.0
excluded-modules = []
test-command = "python3 -c 'import subject'"
[cosmic-ray.distributor]
name = "local"
EOF
PATH="$work/env/bin:$PATH"
cosmic-ray init settings.toml session.sqlite
cosmic-ray exec settings.toml session.sqlite
cosmic-ray dump session.sqlite | python3 -c '
import json, sys
for job, result in map(json.loads, sys.stdin):
    for line in result["diff"].splitlines():
        if line.startswith("+    except"):
            print(result["worker_outcome"], line[1:].strip())
' | sort | tee out
diff out - <<'EOF'
normal except CosmicRayTestingException:
normal except subprocessCosmicRayTestingExceptionTimeoutExpired:
EOF
