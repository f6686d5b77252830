"""The documentation: what it shows is run, what it names is there, and nothing in it asks the internet."""

import ast
import html
import importlib.util
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module

import pytest

import bilevelbench as bb
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.run import child
from bilevelbench.run.search import LEAST
from bilevelbench.run.server import NEEDED
from tests.forked import Forks
from tests.tree import ROOT

DOCS = ROOT / "docs"


def cells(page):
    """The code that a page runs."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*\n?(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shown(cell):
    """What a notebook shows of a cell, the value of its last line, in the place of that line."""
    tree = ast.parse(cell)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.parse(f"SHOWN.append({ast.unparse(tree.body[-1])})").body[0]
    return compile(ast.fix_missing_locations(tree), "tutorial", "exec")


def test_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child, "processes", Forks)
    for needed in NEEDED:  # once, and not in every fork
        import_module(needed)
    names = {"__name__": "__main__", "SHOWN": []}
    for cell in cells("tutorial.md"):
        exec(shown(cell), names)
    kept = names["kept"]
    assert kept[::4].mean() < 0.5 < kept[[k for k in range(40) if k % 4]].mean(), "wrong rows weigh less"
    assert names["accuracy"] > 0.8
    assert names["half"].step == 120
    assert names["whole"].x.tolist() == names["solution"].x.tolist(), "to the bit"
    assert names["early"].status == "stopped"
    assert names["results"].runs["status"].tolist() == ["done"] * 3
    (figure,) = [one for one in names["SHOWN"] if hasattr(one, "_repr_png_")]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in bb.__all__ if name != "__version__")


def test_the_figure_of_the_readme_is_of_the_published_data():
    drawing = module(DOCS / "draw_reference.py")
    stale = "python docs/draw_reference.py draws it anew"
    assert drawing.digest(drawing.DATA) in drawing.FIGURE.read_text(encoding="utf-8"), stale


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


# -- the pages of solvers and problems


@pytest.fixture(scope="module")
def catalogue():
    return module(DOCS / "_ext" / "catalogue.py")


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("y*(x) in |y|_2, ``a*b``", r"y\*(x) in \|y\|\_2, `a*b`"), ("a line\nand another", "a line and another"),
        ("one\n\ntwo", "one\n\ntwo"), ("<b> [x] $5 # {a}", r"\<b\> \[x\] \$5 \# \{a\}"),
        ("    x = 1\n    y = 2", "```text\nx = 1\ny = 2\n```"),
    ],
)  # fmt: skip
def test_a_docstring_is_shown_as_it_is_written(catalogue, said, made):
    assert catalogue.prose(said) == made


def test_a_page_has_knobs_with_their_comments_and_the_code(catalogue):
    SOLVERS.load()
    PROBLEMS.load()
    page = catalogue.page("solvers", SOLVERS.entries["bome"], "FACTS")
    assert "| `lr_inner` | float | `0.1` | alpha: step of the inner loop |" in page
    assert "or 'heavy\\_ball' or 'adam' or 'sparse\\_adam' | `'plain'` | rule by which x moves |" in page
    assert SOLVERS.entries["bome"].file.read_text(encoding="utf-8") in page
    assert page.index("# bome") < page.index("NeurIPS 2022") < page.index("FACTS") < page.index("## Knobs")
    page = catalogue.page("problems", PROBLEMS.entries["quadratic"], "")
    assert "| `kappa` | float | `10.0` |" in page


# -- the site


class Asked(HTMLParser):
    """What a page makes a browser fetch from elsewhere."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        source = given.get("src") or (given.get("href") if tag == "link" else None) or ""
        if source.startswith(("http:", "https:", "//")) and given.get("rel") not in ("canonical", "search"):
            self.found.append(source)


@pytest.mark.skipif(not importlib.util.find_spec("sphinx"), reason="Sphinx is not installed: uv sync --group docs")
@pytest.mark.docs(sibling="test_the_tutorial_runs")
def test_the_site_is_built_without_a_warning_and_asks_for_nothing(tmp_path):
    ours = shutil.ignore_patterns("_build", "gallery", "generated", "solvers", "problems", "columns.md")
    shutil.copytree(DOCS, tmp_path / "docs", ignore=ours)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "site"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix(): path for path in (tmp_path / "site").rglob("*.html")}
    SOLVERS.load_own()
    PROBLEMS.load_own()
    wanted = [f"solvers/{name}.html" for name in SOLVERS.entries if ours_is(SOLVERS, name)]
    wanted += [f"problems/{name}.html" for name in PROBLEMS.entries if ours_is(PROBLEMS, name)]
    wanted += [f"generated/bilevelbench.{name}.html" for name in bb.__all__ if name != "__version__"]
    assert set(wanted) <= set(pages)
    asked = {}
    for name, path in pages.items():
        reader = Asked()
        reader.feed(path.read_text(encoding="utf-8"))
        asked |= {name: reader.found} if reader.found else {}
    assert asked == {}
    assert "<math" in pages["method.html"].read_text(encoding="utf-8")
    diverged = [name for name, path in pages.items() if name.startswith("gallery/") and "'nan'" in unescape(path)]
    assert diverged == []


def unescape(path):
    return html.unescape(path.read_text(encoding="utf-8"))


def ours_is(registry, name):
    return registry.entries[name].make.__module__.startswith("bilevelbench.")


def test_what_a_page_would_fetch_is_found():
    reader = Asked()
    reader.feed('<script src="https://cdn/x.js"></script><img src="a.png"><link rel="stylesheet" href="//cdn/y.css">')
    assert reader.found == ["https://cdn/x.js", "//cdn/y.css"]


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_pages_name_files_and_commands_that_there_are(page):
    """What stands in ``code`` as a command of ours is one, with options that it has."""
    from bilevelbench.cli import cli

    text = (DOCS / page).read_text(encoding="utf-8")
    for line in re.findall(r"(?:^[$!] ?|`)bilevelbench ([a-z]+[^`\n]*)", text, re.MULTILINE):
        name, *words = line.split()
        assert name in cli.commands, line
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        used = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        assert used <= known | {"-s", "-p", "-o"}, line
        assert all(int(count) >= LEAST for count in re.findall(r"--configs (\d+)", line)), line
    for path in re.findall(r"\*`([\w/.]+\.py)`", text):
        assert (ROOT / "harness" / path).is_file(), path
