"""Figures and tables for a paper: their width, their type, what is bold, and how wrong requests are answered."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.collections import LineCollection
from matplotlib.text import Text

import bilevelbench as bb
from bilevelbench.cli import cli
from bilevelbench.report import paper, style
from tests.results_factory import write_run
from tests.test_report import PICTURE

pytestmark = pytest.mark.xdist_group("report")
LONG = "s" * 300
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for seed in range(5):
        for k, solver in enumerate(("bome", "itd", "aid_cg", "$x_{$", LONG)):
            gaps = [(0.2 + 0.1 * k) ** step * (1 + 0.1 * seed) for step in range(9)]
            write_run(folder, "quadratic", solver, seed, gaps, price=10 * 3**k)
            write_run(folder, "other(d=3)", solver, seed, gaps, price=10 * 3**k, references={"line": {"phi_gap": 0.1}})
    write_run(folder, "toy", picture=PICTURE)
    return folder


@pytest.mark.parametrize(
    "asked",
    [{"kind": "convergence", "problem": "quadratic"}, {"kind": "convergence", "problem": ["quadratic", "other"]},
     {"kind": "profile"}, {"kind": "ecdf", "x": "seconds"}, {"kind": "memory", "problem": "quadratic"},
     {"kind": "trajectory", "problem": "toy"}],
)  # fmt: skip
@pytest.mark.parametrize("width", ["icml", "neurips", "500pt"])
def test_a_figure_is_as_wide_as_its_column_and_its_type_can_be_read(folder, asked, width, tmp_path):
    figure = bb.load(folder).figure(**asked, width=width)
    assert figure.get_figwidth() == pytest.approx(paper.inches(width))
    figure.write(tmp_path / "figure.pdf")
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) >= 7
    wide, high = figure.get_size_inches()
    for part in (*figure.axes, *figure.legends):
        with paper.theme():
            box = part.get_tightbbox()
        assert min(box.x0, box.y0) > -0.02 * figure.dpi, part
        assert box.x1 < (wide + 0.02) * figure.dpi, part
        assert box.y1 < (high + 0.02) * figure.dpi, part
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    figure.write(tmp_path / "again.pdf")
    assert (tmp_path / "again.pdf").read_bytes() == pdf


def test_names_in_the_legend_do_not_overlap(folder):
    figure = bb.load(folder).figure("convergence", "quadratic", width="icml")
    with paper.theme():
        figure.draw_without_rendering()
    (legend,) = figure.legends
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert all(legend.get_window_extent().y1 <= ax.get_tightbbox().y0 for ax in figure.axes)


def test_only_those_that_are_named_are_shown(folder):
    results = bb.load(folder)
    names = lambda **asked: [text.get_text() for text in results.figure(**asked).legends[0].get_texts()]  # noqa: E731
    assert names(kind="convergence", problem="other", solvers=["itd", "bome"]) == ["bome", "itd"]
    assert set(names(kind="profile", solvers="itd")) == {"itd"}


def test_what_papers_write():
    assert set(paper.SYMBOLS) >= {"phi", "phi_gap", "grad_phi", "f"}
    assert all(symbol.count("$") == 2 for symbol in paper.SYMBOLS.values())


def test_the_command_draws_and_says_where(folder, tmp_path):
    for out in ("a/one.pdf", "two.svg", "three.png"):
        done = CliRunner().invoke(
            cli, ["figure", str(folder), "-p", "quadratic", "-s", "bome", "-o", str(tmp_path / out)]
        )
        assert done.exit_code == 0, done.output
        assert (tmp_path / out).stat().st_size > 1000


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--kind", "profil"], "kind='profil' is not valid here; choose from 'profile'"),
        (["-p", "quadratik"], "problem='quadratik' is not valid here; choose from 'quadratic'"),
        (["-p", "quadratic", "-s", "bomme"], "solver='bomme' is not valid here; choose from 'bome'"),
        (["-p", "quadratic", "--y", "phi_gab"], "y='phi_gab' is not valid here; choose from 'phi_gap'"),
        (["-p", "quadratic", "--x", "call"], "x='call' is not valid here; choose from 'calls'"),
        (["--for", "nips"], "width='nips' is no width of a figure; it is neurips, icml, jmlr, siam, or points such as"),
        (["--for", "9pt"], "'9pt' is no width"),
        (["--kind", "sensitivity"], "kind='sensitivity': the suites of these results came without scores"),
        (["--kind", "trajectory", "-p", "quadratic"], "kind='trajectory': quadratic has no picture"),
        (["-o", "x.docx"], "--out x.docx is not valid for kind='convergence'; its name ends in .pdf or .svg or .png"),
        (["--kind", "table", "-o", "x.pdf"], "its name ends in .tex"),
        ([], "problem=None is not valid here; choose from 'other(d=3)', 'quadratic', 'toy'"),
    ],
)
def test_a_wrong_request_is_one_sentence(folder, tmp_path, monkeypatch, asked, words):
    monkeypatch.chdir(tmp_path)
    out = [] if "-o" in asked else ["-o", "x.pdf"]
    done = CliRunner().invoke(cli, ["figure", str(folder), *asked, *out])
    assert isinstance(done.exception, bb.RequestError)
    assert words in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_folder_without_runs_is_one_sentence_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "bilevelbench", "figure", str(tmp_path), "-o", str(tmp_path / "x.pdf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no bilevelbench result" in done.stderr


def test_the_table_has_in_bold_only_what_leads_surely(tmp_path):
    folder = tmp_path / "results"
    for seed in range(5):
        for k, solver in enumerate(("bome", "itd", "aid_cg", "$x_{$", LONG)):
            write_run(folder, solver=solver, seed=seed, gaps=[(0.2 + 0.1 * k) ** step for step in range(9)])
    text = bb.load(folder).to_latex()
    assert re.findall(r"(\w+) & .*textbf", text) == ["bome"]
    assert "dagger" not in text
    assert r"\$x\_\{\$" in text
    assert text.count("\n") == 5 + 5 + 1
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    done = CliRunner().invoke(cli, ["figure", str(folder), "--kind", "table", "-o", str(tmp_path / "t.tex")])
    assert done.exit_code == 0
    assert (tmp_path / "t.tex").read_text() == text


def test_ties_are_marked_and_nothing_is_bold(tmp_path):
    for seed in range(5):
        for solver in ("bome", "itd"):
            write_run(tmp_path, solver=solver, seed=seed)
    text = bb.load(tmp_path).to_latex()
    assert "textbf" not in text
    assert text.count(r"$^\dagger$") == 2
    assert text.endswith("% dagger: nobody leads surely among these\n")


def test_solvers_of_ours_are_told_apart():
    """Those that are listed, all of which there are; one that is not has its looks by lot."""
    ours = [*style.KNOWN, *style.OTHERS]
    assert set(ours) <= {path.stem for path in (ROOT / "solvers").glob("*.py")}
    looks = {name: (style.colour(name), style.line(name)) for name in ours}
    assert len(set(map(str, looks.values()))) == len(looks)


def test_of_many_solvers_ten_are_coloured():
    names = {f"solver{k}": f"solver{k}" for k in range(20)}
    palette = style.Palette(names, [f"solver{k}" for k in (19, *range(15))])
    coloured = [name for name in names if not palette.grey(name)]
    assert len(coloured) == style.MOST_COLOURED
    assert "solver19" in coloured
    assert palette.colour("solver3") == style.colour("solver3"), "stable by name"
    assert {palette.colour(name) for name in names if name not in coloured} == {style.GREY}
    few = dict(list(names.items())[:10])
    assert not any(style.Palette(few, ["solver3"]).grey(name) for name in few)


def structure(figure):
    """What a reader sees, whatever the pixels: of each panel its labels and scales, how many curves, how many rules."""
    return [
        (
            ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale(), ax.get_yscale(),
            sum(len(part.get_segments()) for part in ax.collections if isinstance(part, LineCollection)), len(ax.lines),
        )
        for ax in figure.axes
    ]  # fmt: skip


GAP = paper.SYMBOLS["phi_gap"]
KEPT = [
    ({"kind": "convergence", "problem": "quadratic", "x": "steps"}, [("outer steps", GAP, "log", "log", 10, 0)]),
    ({"kind": "convergence", "problem": "other", "width": "neurips"},
     [("oracle calls", GAP, "log", "log", 10, 1), ("seconds", GAP, "log", "log", 10, 1)]),
    ({"kind": "convergence", "problem": "quadratic", "solvers": ["bome"], "x": "calls"},
     [("oracle calls", GAP, "log", "log", 2, 0)]),
    ({"kind": "profile", "problem": "quadratic"},
     [("oracle calls ÷ the best solver's", "share of targets held", "log", "linear", 5, 0)]),
    ({"kind": "ecdf", "problem": "quadratic"}, [("oracle calls", "share of targets held", "log", "linear", 5, 0)]),
    ({"kind": "memory", "problem": "quadratic"}, [("peak live tensors, KiB", "", "linear", "linear", 5, 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "kept"), KEPT)
def test_pictures_are_made_as_those_that_are_kept(folder, asked, kept):
    assert structure(bb.load(folder).figure(**asked)) == kept
