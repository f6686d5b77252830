#!/usr/bin/env bash
# pytest 9.2.0 with pytest-xdist 3.8.0: `--dist loadgroup` groups nothing, without a word.
#
# Tests that bear one mark `xdist_group` are to run in one worker, so that a fixture of the module is made once. With
# pytest 9.1.1 they do. With 9.2.0 the same xdist hands them out one by one: it tells a test's group by writing it into
# a private attribute of the test from which pytest no longer makes the test's name. Nothing fails; what tests were to
# share is made in every worker, and a test suite takes as much longer. Upstream: pytest-xdist, issue 1386.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/test_shared.py" <<'EOF'
import os

import pytest

pytestmark = pytest.mark.xdist_group("shared")


@pytest.mark.parametrize("i", range(20))
def test_in_one_worker(i):
    print("worker", os.environ["PYTEST_XDIST_WORKER"])
EOF
for version in 9.1.1 9.2.0; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/python" -m pip install --quiet --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0
  (cd "$work" && "$work/$version/bin/python" -m pytest -p no:cacheprovider -n 2 --dist loadgroup -rP test_shared.py) > "$work/log"
  echo "pytest $version: workers that ran tests of the one group: $(grep -o '^worker gw[0-9]' "$work/log" | sort -u | wc -l)"
done | tee "$work/out"
diff "$work/out" - <<'EOF'
pytest 9.1.1: workers that ran tests of the one group: 1
pytest 9.2.0: workers that ran tests of the one group: 2
EOF
