"""What grows with the size of a network: rows come of processes of their own, and the page says what they say."""

import subprocess
import sys

import pandas as pd
import pytest

from bilevelbench import Draw, build_problem
from bilevelbench.asv import networks, scale
from bilevelbench.report import scaled
from tests.campaigns import at_size


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
@pytest.mark.parametrize("size", [10**3, 10**5])
def test_networks_have_about_the_size_that_is_asked_for(kind, size):
    made = networks.problem(kind, size, "cpu")
    assert 0.6 * size < len(made.y0) < 1.7 * size
    assert len(made.x0) == networks.ROWS


def test_a_row_says_what_a_step_costs():
    row = scale.measured("mlp", 1000, "bome(T=2)", "cpu", rounds=3, reach=0.05)
    assert row.n_y > 500
    assert 0.5 < row.over_hand < 2
    assert row.step_seconds > 0
    assert row.steps >= 2
    assert 0 < row.f_ratio < 10
    unrolled = scale.measured("mlp", 1000, "itd(T=8)", "cpu", rounds=1, reach=0.0)
    assert unrolled.copies > row.copies + 5, "it keeps the way"
    assert scale.measured("mlp", 1000, "nystrom(T=2)", "cpu", rounds=1, reach=0.0).over_hand == "", "no loop by hand"


def test_what_solvers_share_is_measured_once():
    made = networks.problem("mlp", 1000, "cpu")
    at = scale.begin(made)
    assert at.f < 0.9 * float(made.f(made.x0, made.y0)), "it can be learnt"
    row = scale.apart("mlp", 1000, "bome(T=2,lr_inner=0.0,lr_y=0.0,lr=0.0)", "cpu", at)
    assert row.f_ratio == pytest.approx(1.0), row.reason


def test_what_fails_is_a_row_with_its_reason():
    row = scale.apart("mlp", 1000, "bome(T=0)", "cpu")
    assert "T=0 is not valid" in row.reason
    assert row.n_y == ""


def rows():
    """Two networks, two sizes, three solvers, one of which did not fit."""
    made = [
        scale.Row(kind, n, n, solver, "cpu", 1e-6 * n * k, 1.02 if k == 1 else "", 20 * n * k, 5 * k, 0.9, 3)
        for kind in ("mlp", "transformer")
        for n in (10**3, 10**5)
        for k, solver in ((1, "bome(T=5)"), (4, "itd(T=5)"))
    ]
    made.append(scale.Row("mlp", 10**5, solver="aid_cg(T=5,K=5)", reason="oom"))
    return [*made, scale.Row("mlp", 10**3, 10**3, "soba", "cpu", 1e-3, 1.0, 10**5, 7.0, 0.95, 3)]  # at one size alone


def test_the_page_knows_how_it_was_measured():
    assert (scaled.ROWS, scaled.REACH, scaled.TRAINED) == (networks.ROWS, scale.REACH, scale.TRAINED)


def test_the_page_says_what_the_rows_say(tmp_path):
    pd.DataFrame(rows()).to_csv(tmp_path / "scale.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-m", "bilevelbench.report.scaled", str(tmp_path / "scale.csv")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    page = (tmp_path / "README.md").read_text()
    assert done.stdout.strip() == str(tmp_path / "README.md")
    assert "| `bome(T=5)` | 0.001 | 0.1 | 1.02 | 5.0 | 0.900 | 1.2e+09 | 4.0e+09 |" in page
    assert "| `itd(T=5)` | 0.004 | 0.4 |  | 20.0 | 0.900 | 3.0e+08 | 1.0e+09 |" in page
    assert "| `aid_cg(T=5,K=5)` |  | oom |" in page
    assert "| `soba` | 0.001 |  |  |  |  |" in page
    ahead = "| `bome(T=5)` (0.9) | `bome(T=5)` ({}) | `bome(T=5)` ({}) | {} |"
    assert f"| 1e+05 {ahead.format(0.1, '2e+06', '`aid_cg(T=5,K=5)`: oom')}" in page
    assert f"| 1e+03 {ahead.format(0.001, '2e+04', '')}" in page
    assert str(tmp_path) not in page
    svg = (tmp_path / "scale.svg").read_text()
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "bome" in svg
    assert "10⁵" in svg
    assert "mathdefault" not in svg, "numbers are to be read"
    missing = subprocess.run(
        [sys.executable, "-m", "bilevelbench.report.scaled", "none.csv"], capture_output=True, text=True, check=False
    )
    assert (missing.returncode, missing.stderr.strip()) == (
        2, "error: none.csv is no file; python -m bilevelbench.asv.scale --out makes one",
    )  # fmt: skip


def test_a_step_of_bome_holds_five_vectors_of_the_length_of_y():
    row = scale.measured("mlp", 10**5, "bome(T=2)", "cpu", rounds=1, reach=0.0)
    assert row.copies == pytest.approx(5.0, abs=0.05)


def test_a_small_residual_network_is_stepped_as_by_hand():
    made = at_size.resnet(width=4)
    assert made.y0.numel() > 40_000
    assert 0.5 < at_size.of_step(made, at_size.STEPS[0], 2) < 2
    assert at_size.of_record(build_problem("fair", Draw(0)), "soba(lr=0.01)", 5, 1) > 1
    whole, own = at_size.copies(made, at_size.STEPS[0])
    assert 4 < own <= 5.05 < whole
