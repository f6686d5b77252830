"""The published report: complete, small, of this version, and made by a command that exists."""

import html
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from bilevelbench.cli import cli
from bilevelbench.report.which import PUBLISHED

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "reports" / "reference"
PAGE = (REFERENCE / "index.html").read_text(encoding="utf-8")
FACTS = {name: html.unescape(value) for name, value in re.findall(r"<tr><th>([^<]*)</th><td>([^<]*)</td></tr>", PAGE)}


def test_everything_it_links_to_is_there():
    links = re.findall(r'href="((?:figures|data)/[^"]+)"', PAGE)
    assert links
    assert [link for link in links if not (REFERENCE / link).is_file()] == []


def test_it_is_small():
    """Everyone who clones the repository takes it along, packed to a quarter."""
    runs = (REFERENCE / "data" / "runs.csv").read_text(encoding="utf-8").count("\n") - 1
    assert sum(path.stat().st_size for path in REFERENCE.rglob("*") if path.is_file()) < 8_100 * runs


def test_what_it_says_of_kinds_is_what_the_package_says():
    """`bilevelbench list --for` reads it where there is no report."""
    shipped = (ROOT / "harness" / "suites" / PUBLISHED).read_text(encoding="utf-8")
    assert (REFERENCE / "data" / "which.csv").read_text(encoding="utf-8") == shipped


def test_the_readme_says_its_verdict():
    said = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    verdict = re.sub(r"<[^>]+>|\s+", " ", PAGE[PAGE.index('<div class="verdict">') :].partition("</div>")[0])
    leader = html.unescape(re.sub(r"\s+", " ", verdict)).strip().split(". ")[0]
    assert leader in said
    assert FACTS["made"][:10] in said


def test_its_command_exists():
    name, verb, suite, *_ = FACTS["command"].split()
    assert name == "bilevelbench"
    assert verb in cli.commands
    assert (ROOT / "harness" / "suites" / f"{suite}.toml").is_file()


def test_it_is_of_this_version():
    """A release makes it anew."""
    assert FACTS["bilevelbench"] == version("bilevelbench")
    assert re.search(r"[0-9a-f]{7}", FACTS["commit"])
    assert "uncommitted" not in FACTS["commit"]


@pytest.mark.parametrize("part", ["leaders", "convergence", "memory", "failures", "provenance"])
def test_it_has_the_parts_of_a_report(part):
    templates = (ROOT / "harness" / "report" / "templates").glob("*.jinja")
    for text in (PAGE, "".join(template.read_text(encoding="utf-8") for template in templates)):
        assert f'id="{part}"' in text


def test_its_readme_says_how_it_was_made():
    said = (ROOT / "reports" / "README.md").read_text(encoding="utf-8")
    assert FACTS["command"].partition(" --out")[0] in said
    assert re.search(r"[0-9a-f]{7}", FACTS["commit"])[0][:7] in said
