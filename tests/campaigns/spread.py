"""How far apart the values of the asv suite lie on one commit: what its thresholds have to be wider than.

    python -m tests.campaigns.spread [RUNS] [REGEX]

runs the suite (default profile; the benchmarks that REGEX names) so many times (2) on the commit that is checked out,
in this environment. For each class: how many values, the median and the largest ratio of the largest to the smallest
value of one cell; and how long a run took. Run it on a busy machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from asv import util
from asv.config import Config

from bilevelbench.store import history

SIBLING = "test_asv_runs_a_benchmark"
ROOT = Path(__file__).parents[2]


def run(folder, regex):
    """The values of one run of the suite, and the seconds of the wall that it took."""
    folder.mkdir()
    places = {"repo": ROOT, "benchmark_dir": ROOT / "harness" / "asv", "results_dir": folder / "results"}
    places |= {"html_dir": folder / "html", "env_dir": folder / "env"}
    conf = util.load_json(str(ROOT / "asv.conf.json"), Config.api_version, js_comments=True)
    conf |= {"version": Config.api_version} | {name: str(path) for name, path in places.items()}
    (folder / "asv.conf.json").write_text(json.dumps(conf))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    asv, env = (
        [sys.executable, "-m", "asv", "--config", str(folder / "asv.conf.json")],
        os.environ | {"HOME": str(folder)},
    )
    options = ["--set-commit-hash", commit.stdout.strip(), "-E", f"existing:{sys.executable}", "--bench", regex]
    begin = time.monotonic()
    for words in (["machine", "--yes"], ["run", "--show-stderr", *options]):
        subprocess.run([*asv, *words], env=env, check=True, stdout=sys.stderr)
    return history.read([folder / "results"]), time.monotonic() - begin


def main(runs=2, regex="."):
    """The table."""
    with tempfile.TemporaryDirectory() as scratch:
        found = [run(Path(scratch) / str(k), regex) for k in range(int(runs))]
    table = pd.concat([values for values, _ in found])
    cells = table.groupby(["figure", "unit", "solver", "problem"])["value"].agg(["min", "max"]).reset_index()
    cells["apart"] = np.where(cells["max"] > 0, cells["max"] / cells["min"], 1.0)
    for (figure, unit), one in cells.groupby(["figure", "unit"]):
        worst = one.loc[one["apart"].idxmax()]
        print(f"{figure:45} {unit:8} {len(one):3} values, apart by {one['apart'].median():.3f} in the middle, at most "
              f"{worst['apart']:.3f} ({worst['solver']} {worst['problem']})")  # fmt: skip
    print(f"{', '.join(f'{seconds:.0f}' for _, seconds in found)} s of the wall, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
