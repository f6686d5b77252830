"""Which solver for which kind of problem: no advice without rows."""

import re

import pytest
from click.testing import CliRunner

from bilevelbench.cli import cli
from bilevelbench.report import which
from bilevelbench.report.page import write
from bilevelbench.stats.compare import compare
from bilevelbench.stats.kinds import COLUMNS, KINDS, advice, kinds_of
from bilevelbench.stats.targets import hits
from bilevelbench.store.frame import load
from tests.results_factory import write_run

SMALL = {"flags": ["strongly_convex"], "n_y": 20, "n_x": 20}


@pytest.mark.parametrize(
    ("about", "names"),
    [
        (SMALL, ["small"]),
        (SMALL | {"n_y": 101, "n_x": 101, "n_g": 50}, ["large", "many upper", "rows"]),
        (SMALL | {"flags": ["strongly_convex", "kinked"]}, ["constrained"]),
        (SMALL | {"constraints": ["h_g"]}, ["constrained"]),
        ({"flags": ["nonconvex", "multi_valued"]}, ["several solutions", "nonconvex"]),
        (SMALL | {"flags": ["strongly_convex", "once"]}, ["once"]),
        ({"flags": None, "n_y": None}, []),
    ],
)
def test_a_problem_is_of_its_kinds(about, names):
    assert [kind.name for kind in kinds_of(about)] == names


def made(folder, seeds, second=(1.0, 0.5, 1e-9)):
    """A quadratic where bome has all targets at once, and another that needs one more step, or fails."""
    for seed in range(seeds):
        write_run(folder, "quadratic", "bome", seed, gaps=(1.0, 1e-9, 1e-9))
        write_run(folder, "quadratic", "itd", seed, gaps=second)


def test_advice_names_who_leads_and_on_what_it_rests(tmp_path):
    made(tmp_path, 5)
    data = load(tmp_path)
    hit = hits(data.runs, data.looks)
    table = advice(data.runs, hit, compare(data.runs, hit), {"quadratic": SMALL})
    assert list(table) == list(COLUMNS)
    assert table["solver"].tolist() == ["bome", "itd"]
    assert table["leads"].tolist() == [True, False]
    assert table["cost"].tolist() == pytest.approx([1, 2])
    assert which.sentence(table, "small") == (
        "bome leads, in 100% of the resamples (1 problem of 1 family, 5 instances)."
    )
    assert which.sentence(table, "large").startswith("We do not know")


def test_without_rows_we_do_not_know(tmp_path):
    made(tmp_path, 4)
    data = load(tmp_path)
    hit = hits(data.runs, data.looks)
    assert not len(advice(data.runs, hit, compare(data.runs, hit), {"quadratic": SMALL}))
    report = write(tmp_path, tmp_path / "out")
    assert 'id="which"' not in report.path.read_text()
    made(tmp_path, 5)
    page = write(tmp_path, tmp_path / "out").path.read_text()
    assert 'id="which"' in page
    assert page.count("We do not know: no problem of this kind") == len(KINDS) - 1


def test_what_nobody_leads_is_said_so(tmp_path):
    made(tmp_path, 5, second=(1.0, 1e-9, 1e-9))
    data = load(tmp_path)
    hit = hits(data.runs, data.looks)
    table = advice(data.runs, hit, compare(data.runs, hit), {"quadratic": SMALL})
    assert which.sentence(table, "small").startswith("No winner among bome and itd (1 problem")


def test_what_is_published_is_of_solvers_and_kinds_that_there_are():
    table = which.published()
    assert list(table) == list(COLUMNS)
    assert set(table["kind"]) <= {kind.name for kind in KINDS}
    assert (table.groupby("kind")["cost"].min() <= 1 + 1e-9).all()
    assert (table["instances"] >= 5).all()


def test_the_solvers_for_a_problem_of_ones_own(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from bilevelbench import Draw, Problem, problem\n\n@problem('mine')\ndef mine(rng: Draw) -> Problem:\n"
        "    h = lambda x, y, rows=None: (y - x).square().sum()\n"
        "    return Problem(h, h, rng.normal(2), rng.normal(2), flags={'strongly_convex'}, y_star=lambda x: x,\n"
        "                   h_g=lambda x, y: y.sum().reshape(1) - 100)\n"
    )
    said = CliRunner().invoke(cli, ["list", "--for", str(mine)])
    assert said.exit_code == 0, said.output
    assert "bounds or constraints that bind below" in said.output
    able = re.search(r"solvers that take it: (.*)", said.output)[1].split(", ")
    assert "bic_gaffa" in able
    assert "bome" not in able
    assert re.search(r"bome +bome has no way with", said.output)
    once = CliRunner().invoke(cli, ["list", "--for", "once"]).output
    assert re.search(r"itd +it asks for second derivatives", once)
    assert "bome" in re.search(r"solvers that take it: (.*)", once)[1].split(", ")
