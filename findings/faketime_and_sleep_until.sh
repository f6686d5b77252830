#!/usr/bin/env bash
# Debian 12's libfaketime 0.9.10-2.1: told to leave the monotonic clock alone, it has every `time.sleep` of Python fail.
#
# DONT_FAKE_MONOTONIC=1 is what its manual offers to programs that wait by the monotonic clock, as all do that must not
# notice a shifted time of day. Python 3.11 and later sleep by `clock_nanosleep` until a moment of that clock, which the
# library still turns into a duration by clocks that it takes to be shifted: the call is refused, OSError 22 (invalid
# argument), for any length of sleep and any offset, 0 included. `subprocess` with a timeout sleeps so, too: worker
# processes of Dask under it took each task for lost. The same library as PyPI's package libfaketime 3.0.1 builds it,
# without FORCE_MONOTONIC_FIX, lets Python sleep.
# Seen with CPython 3.11.7 on Debian 12 (amd64). Needs apt (of Debian 12), dpkg and a C compiler.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -q libfaketime=0.9.10-2.1 > log 2>&1
dpkg -x libfaketime_0.9.10-2.1_*.deb debian
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check libfaketime==3.0.1
cat > sleep.py <<'EOF'
import time

for length in (0.001, 0.1):
    began = time.monotonic()
    try:
        time.sleep(length)
        print(f"{length} s:", "slept" if length <= time.monotonic() - began < 2 else "woke at the wrong time")
    except OSError as error:
        print(f"{length} s: OSError {error.errno}")
EOF
for library in debian/usr/lib/*/faketime/libfaketime.so.1 venv/lib/python*/site-packages/libfaketime/vendor/libfaketime/src/libfaketime.so.1; do
  for offset in +0s +3600s; do
    echo "${library%%/*} $offset"
    LD_PRELOAD="$work/$library" FAKETIME=$offset DONT_FAKE_MONOTONIC=1 timeout 30 python3 sleep.py
  done
done | tee out
diff out - <<'EOF'
debian +0s
0.001 s: OSError 22
0.1 s: OSError 22
debian +3600s
0.001 s: OSError 22
0.1 s: OSError 22
venv +0s
0.001 s: slept
0.1 s: slept
venv +3600s
0.001 s: slept
0.1 s: slept
EOF
