"""What the nodes of the fault campaigns are told: of their clock, and of nothing else."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from tests import nodes

ASKED = "import time; began = time.monotonic(); time.sleep(0.01); print(time.time(), time.monotonic() - began)"


@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("cc"), reason="needs cc and its loader")
@pytest.mark.parametrize("seconds", [-3600, 3600, 0])
def test_a_node_whose_clock_is_off_sleeps_as_others_do(tmp_path, seconds):
    folder = tmp_path / "cluster"
    folder.mkdir()
    node = nodes.Node(0, folder)
    node.seconds = seconds
    assert node.env()["TMPDIR"] == str(node.disk)
    before = time.time()
    said = subprocess.run(
        [sys.executable, "-c", ASKED], env={**os.environ, **node.env()}, capture_output=True, text=True
    )
    assert not said.stderr
    now, slept = map(float, said.stdout.split())
    assert before - 2 <= now - seconds <= time.time() + 2
    assert 0.01 <= slept < 60
