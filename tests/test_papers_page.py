"""The published page of papers' claims: what it says follows from its data, and it is of the claims of the package."""

import html
import re
from pathlib import Path

import pandas as pd
import pytest

from bilevelbench import claims
from bilevelbench.cli import cli
from bilevelbench.stats.rulings import MISSING, SHOWN, UNSUPPORTED, interval, ruling, verdict

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "reports" / "papers"
TEXT = (PAGE / "index.html").read_text(encoding="utf-8")
CLAIMS, CELLS, VALUES = (pd.read_csv(PAGE / "data" / f"{name}.csv") for name in ("claims", "cells", "values"))
TRIED = CLAIMS[CLAIMS["runs"] > 0]["claim"].tolist()


def test_it_has_all_claims_of_the_package():
    assert CLAIMS["claim"].tolist() == [claim.id for claim in claims()]


@pytest.mark.parametrize("name", TRIED)
def test_its_verdict_follows_from_the_figures_of_each_seed(name):
    """From data/values.csv alone, by the rules; and the page says the same."""
    row, cells = CLAIMS[CLAIMS["claim"] == name].iloc[0], CELLS[CELLS["claim"] == name].reset_index(drop=True)
    values = VALUES[VALUES["claim"] == name]
    judged = int((cells["band"] != "not judged").sum())
    found = []
    for place, cell in cells.iterrows():
        own = values[values["cell"] == place]
        if not len(own) or cell["ruling"] in (MISSING, UNSUPPORTED, SHOWN) or not pd.isna(cell["note"]):
            found.append(cell["ruling"])
            continue
        band, fixed = (own["above"].iloc[0], own["below"].iloc[0]), bool(own["fixed"].iloc[0])
        found.append(ruling(own["value"].tolist(), band, fixed, judged))
        assert found[-1] == cell["ruling"]
        assert interval(own["value"].tolist(), fixed).mean == pytest.approx(cell["measured"], rel=1e-9, abs=1e-300)
    stands_for = next(claim for claim in claims() if claim.id == name).stands_for
    assert verdict(found, row["scale"], bool(stands_for)) == row["verdict"]
    said = re.search(rf'<h3 id="{name}">.*?<span class="[^"]*">([^<]*)</span>', TEXT)
    assert html.unescape(said[1]) == row["verdict"]


def test_its_figures_are_those_that_the_claims_hold_now():
    """A claim whose cells are changed has its page made anew."""
    for claim in claims():
        own = CELLS[CELLS["claim"] == claim.id]
        if claim.id in TRIED:
            scale = own["scale"].iloc[0]
            assert own["solver"].tolist() == [cell.solver for cell in claim.cells if scale in cell.scales]
            assert set(own["solver_spec"]) <= set(claim.solvers.values())


def test_everything_it_links_to_is_there_and_small():
    links = re.findall(r'href="((?:figures|data)/[^"]+)"', TEXT)
    assert links
    assert [link for link in links if not (PAGE / link).is_file()] == []
    assert sum(path.stat().st_size for path in PAGE.rglob("*") if path.is_file()) < 1_500_000


def test_its_commands_exist():
    said = (ROOT / "reports" / "README.md").read_text(encoding="utf-8")
    assert "bilevelbench report results/papers --papers -o reports/papers" in said
    assert "papers" in {option.name for option in cli.commands["report"].params}
    codes = re.findall(r"<code>(.*?)</code>", TEXT)  # of words that are not to be broken
    commands = {html.unescape(re.sub(r"</?span>", "", text)).strip() for text in codes}
    assert commands
    for text in commands:
        assert re.fullmatch(r"bilevelbench run papers --claim [BP][0-9a-z]+ --scale (quick|published)", text)
