"""Reports of any labels, of several machines, and of runs that did not see the same problem."""

import csv
import json
import re
import shutil
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bilevelbench.report import figures, parts, pictures, style, tables, verdict
from bilevelbench.report.page import write
from bilevelbench.report.parts import Atelier
from bilevelbench.report.terminal import show
from bilevelbench.stats import compare, targets
from bilevelbench.store import text
from bilevelbench.store.frame import load
from bilevelbench.store.summary import order
from tests.results_factory import write_run

pytestmark = pytest.mark.xdist_group("report")
CANNOT = "This figure cannot be drawn"
OVERALL = 2  # profiles by calls and by seconds; without prices and with one solver there are no others
ODD = [
    "x", "a" * 300, "a" * 299 + "b", "$x_1^2$", "${$", "\\frac{1}{0}", "\\", "a\nb", "a b", "[", "]", "[[x]", "{}", "_",
    "^", "日本語ソルバー", "e\u0301\U0001f600", "\u202eevil", "\x1b[31m", "=cmd()", "-1", "<b>", "&amp;", "%", " ",
    "\x00", "../x",
]  # fmt: skip
SETTINGS = [
    {"T": 10 * k, "eps": 10.0**-k, "eta": 0.5 / k, "lr": 0.1 * k, "lr_inner": 0.3 * k, "alike": 7} for k in range(1, 11)
]


def terminal(report, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(report, console)
    return console.export_text()


def gaps(k):
    return tuple((0.9 - 0.01 * k) ** step for step in range(6))


def test_odd_labels_have_a_readable_report(tmp_path):
    for k, label in enumerate(ODD):
        write_run(tmp_path, solver=label, gaps=gaps(k))
    for problem in (
        "p" * 300,
        "p" * 299 + "q",
        "$q_{",
        "a/b",
        "a-b",
        "a b",
        "=x",
        "memory",
        "leaders",
        ".",
        "Convergence",
    ):
        write_run(tmp_path, problem)
    report = write(tmp_path, tmp_path / "out")
    page = report.path.read_text(encoding="utf-8")
    assert CANNOT not in page
    assert not report.troubles
    assert len(report.leaders) == len(ODD) + 1, "all are told apart"
    anchors = re.findall(r' id="([^"]+)"', re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    assert len(anchors) == len(set(anchors))
    links = re.findall(r'href="((?:figures|data)/[^"]+)"', page)
    assert all((tmp_path / "out" / link).stat().st_size > 0 for link in links)
    assert len(list((tmp_path / "out" / "data").iterdir())) == 12 + 4 + 2 + OVERALL, "a file for each problem"
    for width in (80, 120):
        assert max(map(len, terminal(report, width).splitlines())) <= width


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=12), st.integers(12, 60))
def test_what_is_different_is_shown_differently(labels, most):
    shown = text.apart({label: label for label in labels}, most)
    assert len(set(shown.values())) == len(set(labels))
    assert all(0 < len(name) <= most and name.isprintable() and name.strip() == name for name in shown.values())
    assert all(shown[label] == label for label in labels if text.clean(label, most).strip() == label)


@pytest.mark.parametrize("count", [2, 10])
def test_settings_of_one_solver_are_told_apart(tmp_path, count):
    picture = {
        "axes": [["y", 0], ["y", 1]], "labels": ["y[0]", "y[1]"], "box": [0, 3, 0, 2], "label": "level sets",
        "u": [0.0, 1.0], "v": [0.0, 1.0], "level": [[0, 1], [1, 2]], "outline": [], "solution": None,
    }  # fmt: skip
    for k, knobs in enumerate(SETTINGS[:count]):
        write_run(tmp_path, knobs=knobs, gaps=gaps(k), picture=picture)
    report = write(tmp_path, tmp_path / "out")
    page = report.path.read_text(encoding="utf-8")
    assert CANNOT not in page
    labels = report.leaders["solver"].tolist()
    assert len(set(labels)) == count
    assert "bome[T=20,eps=0.01,eta=0.25,lr=0.2,lr_inner=0.6]" in labels, "all knobs that differ, and no other"
    data = load(tmp_path)
    short = set(data.runs["short"])
    assert len(short) == count
    assert "bome[T=20,…]" in short, "in figures as few as tell them apart"
    palette = Atelier(data, data.looks, tmp_path).palette
    assert len({(palette.colour(label), str(palette.line(label))) for label in labels}) == count
    shown = "".join(terminal(report, 120).split())
    assert all(label in shown for label in labels)


def test_knobs_that_differ_late_and_specs_without_knobs_are_told_apart(tmp_path):
    for lr in (0.1, 0.1 + 1e-12):
        write_run(tmp_path, knobs={"lr": lr})
    for solver in ("one.py:mine", "two.py:mine"):
        path = write_run(tmp_path, solver=solver)
        path.write_text(path.read_text().replace(f'"name":"{solver}"', '"name":"mine"'))
    labels = load(tmp_path).runs["solver"].tolist()
    assert len(set(labels)) == 4
    assert {"mine[one.py:mine]", "mine[two.py:mine]"} < set(labels)


@pytest.mark.parametrize(("solvers", "length", "problems"), [(1, 1, 1), (2, 52, 1), (10, 28, 2), (45, 300, 5)])
def test_memory_has_room_for_any_names(solvers, length, problems):
    style.apply()
    names = [f"{k}{'_a_solver_with_a_name' * 20}"[:length] for k in range(solvers)]
    rows = [(f"p{p}" * 60, name, 1024.0) for p in range(problems) for name in names]
    palette = style.Palette(text.apart({name: name for name in names}, 28))
    figure = pictures.memory(pd.DataFrame(rows, columns=["problem", "solver", "peak_bytes"]), palette)
    figure.canvas.draw()
    for ax in figure.axes[:problems]:
        box = ax.get_position()
        assert box.width * figure.get_figwidth() >= 1.2, "inches"
        assert box.height * figure.get_figheight() >= 0.1
        assert 0 < len(ax.get_title(loc="left")) <= 60
    assert min(label.get_window_extent().x0 for label in figure.axes[0].get_yticklabels()) >= 0
    plt.close("all")


def test_forty_five_solvers_fit_their_legend(tmp_path):
    for k in range(45):
        write_run(tmp_path, solver=f"a_solver_with_a_name_{k}", gaps=gaps(k))
    data = load(tmp_path)
    atelier = Atelier(data, data.looks, tmp_path)
    figure, _ = figures.convergence(data.looks, data.runs, "phi_gap", {}, atelier.palette)
    figure.canvas.draw()
    boxes = [name.get_window_extent() for name in figure.texts]
    assert len(boxes) == 45
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert min(box.y0 for box in boxes) >= 0
    rows = sorted((box.y0 + box.y1) / 2 for box in boxes)
    assert min(b - a for a, b in pairwise(rows)) > 0.1 * figure.dpi, "inches between two names"
    plt.close("all")


@pytest.mark.parametrize("label", ["café…", "решатель", "Φ → ∞"])
def test_a_pdf_brings_its_fonts(label):
    """As outlines that a publisher takes, which are no Type 3 fonts."""
    style.apply()
    figure = plt.figure(figsize=(1, 1))
    figure.text(0, 0, label)
    svg, pdf = style.drawn(figure, "x")
    assert label in svg
    assert b"/FontFile2" in pdf
    assert b"/CharProcs" not in pdf
    plt.close(figure)


# -- each figure by itself


@pytest.mark.parametrize("broken", [(figures, "convergence"), (pictures, "memory"), (pictures, "trajectories")])
def test_a_figure_that_cannot_be_drawn_is_a_sentence(tmp_path, monkeypatch, broken):
    write_run(tmp_path, picture={
        "axes": [["y", 0], ["y", 1]], "labels": ["y[0]", "y[1]"], "box": [0, 3, 0, 2], "label": "level sets",
        "u": [0.0, 1.0], "v": [0.0, 1.0], "level": [[0, 1], [1, 2]], "outline": [], "solution": None,
    })  # fmt: skip

    def fails(*_, **__):
        raise ValueError("left cannot be >= right")

    monkeypatch.setattr(*broken, fails)
    told = []
    report = write(tmp_path, tmp_path / "out", tell=told.append)
    page = report.path.read_text()
    assert told == [report]
    assert page.count(f"{CANNOT} (ValueError: left cannot be &gt;= right).") == 1
    assert page.count("<svg") == 2 + OVERALL, "the others are drawn"
    assert "<td>bome" in page or "bome</span>" in page
    links = re.findall(r'href="((?:figures|data)/[^"]+)"', page)
    assert all((tmp_path / "out" / link).exists() for link in links)


def test_the_table_is_there_before_a_figure_is_drawn(tmp_path, monkeypatch):
    write_run(tmp_path)
    seen = []
    monkeypatch.setattr(style, "drawn", lambda *_: pytest.fail("too early") if not seen else ("<svg></svg>", b"%PDF"))
    report = write(tmp_path, tmp_path / "out", tell=lambda report: seen.append(report.path.read_text()))
    assert "bome" in seen[0]
    assert "not drawn yet" in seen[0]
    assert "not drawn yet" not in report.path.read_text()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ((verdict, "paragraph"), "the verdict cannot be made (KeyError: 'no')"),
        ((tables, "final"), "the section of quadratic cannot be made"),
        ((tables, "memory"), "the section on memory cannot be made"),
        ((tables, "provenance"), "the list of what was run cannot be made"),
    ],
)
def test_a_part_that_cannot_be_made_is_a_sentence(tmp_path, monkeypatch, broken, words):
    write_run(tmp_path)
    monkeypatch.setattr(*broken, lambda *_: {}["no"])
    report = write(tmp_path, tmp_path / "out")
    assert len(report.leaders) == 1
    assert words in report.troubles[0]
    page = report.path.read_text()
    assert words.partition("(")[0] in page
    assert "bome</span>" in page


def test_headers_that_say_little(tmp_path):
    path = write_run(tmp_path)
    head, *lines = path.read_text().split("\n")
    for problem in (
        {},
        {"n_x": 3},
        dict.fromkeys(("n_x", "n_g", "selection", "references", "better", "bar", "picture")),
    ):
        header = json.loads(head) | {"problem": problem, "solver": {}, "environment": {}}
        path.write_text("\n".join([json.dumps(header), *lines]))
        assert not write(tmp_path, tmp_path / "out").troubles


def test_many_metrics_and_metrics_with_names_of_ours(tmp_path):
    extra = {f"m{k}": 1.0 for k in range(30)} | {
        "step": 3.0,
        "solver": 4.0,
        "seconds": 5.0,
        "two words": 6.0,
        "calls": 7.0,
    }
    write_run(tmp_path, extra=extra)
    data = load(tmp_path)
    assert data.looks["step"].tolist() == [0, 1, 2]
    assert data.looks["step (metric)"].tolist() == [3.0] * 3
    assert data.looks["two words"].tolist() == [6.0] * 3
    page = write(tmp_path, tmp_path / "out").path.read_text()
    assert page.count('type="radio"') == OVERALL
    assert len(re.findall(r'href="figures/quadratic-[^"]+.pdf"', page)) == parts.MOST_METRICS
    assert "26 more figures of this problem are in the CSV alone" in page


# -- sheets


def test_cells_that_start_a_formula_are_guarded(tmp_path):
    for label in ("=1+1", "+1", "-1", "@x", "plain"):
        write_run(tmp_path, label, solver=label, gaps=(1.0, -0.5))
    assert not write(tmp_path, tmp_path / "out").troubles
    sheets = list((tmp_path / "out" / "data").glob("*.csv"))
    assert len(sheets) == 5 + 4 + 2 + OVERALL
    for sheet in sheets:
        for row in csv.reader(sheet.open()):
            for cell in row:
                assert not cell.startswith(("=", "@", "\t", "\r")), sheet
                assert not cell.startswith(("+", "-")) or float(cell) is not None, sheet
    looks = (tmp_path / "out" / "data" / "plain.csv").read_text()
    assert ",-0.5" in looks, "numbers stay numbers"


# -- machines


def machine(path, cpu, place):
    """A copy of a run as another machine would have made it, under the name that it would have there."""
    head, *lines = path.read_text().split("\n")
    header = json.loads(head)
    header["environment"] |= {"cpu": cpu, "place": place}
    return "\n".join([json.dumps(header), *lines])


@pytest.mark.parametrize("apart", [True, False])
def test_a_folder_for_each_machine(tmp_path, apart):
    """Given as two folders, or as one that holds both."""
    for solver in ("bome", "itd"):
        path = write_run(tmp_path / "made", solver=solver)
        for cpu in ("m1", "m2"):
            (tmp_path / "results" / cpu).mkdir(parents=True, exist_ok=True)
            (tmp_path / "results" / cpu / path.name).write_text(machine(path, cpu, cpu * 4))
    root = tmp_path / "results"
    data = load([root / "m1", root / "m2"] if apart else root)
    assert len(data.runs) == 4
    assert data.runs["run"].nunique() == 4
    assert set(data.runs["problem"]) == {"quadratic"}
    hit = targets.hits(data.runs, data.looks).dropna(subset=["seconds"])
    for _, group in hit.groupby(["problem", "target"]):
        assert set(data.runs.set_index("run").loc[group["run"].unique(), "machine"]) == {"m1, 2 cores"}
    assert any("seconds are those of m1, 2 cores alone" in note for note in data.notes)
    assert data.superseded == 0


def test_the_same_run_made_again_on_one_machine_is_shown_once(tmp_path):
    path = write_run(tmp_path)
    again = path.read_text().replace("2026-01-01", "2026-01-02")
    (tmp_path / "again.jsonl").write_text(again)
    data = load(tmp_path)
    assert len(data.runs) == 1
    assert data.superseded == 1
    assert data.records[data.runs["run"][0]].path.name == "again.jsonl"


# -- what was seen


SAW = {"drawn": "aa", "computed": "bb", "numbers": [1.0, 2.0, None]}


def seen(tmp_path, cpu="m", **changes):
    """Two solvers on one problem and seed: the first saw SAW, the second something else."""
    write_run(tmp_path, solver="one", digest=SAW)
    path = write_run(tmp_path, solver="two", digest=SAW | changes)
    if cpu != "m":
        path.write_text(machine(path, cpu, cpu))
    return load(tmp_path)


@pytest.mark.parametrize(
    ("cpu", "changes", "words"),
    [
        ("m", {"drawn": "other"}, "what was drawn differs at seed 0"),
        ("m", {"computed": "other"}, "what was computed from the draws differs at seed 0"),
        ("m", {"numbers": [1.0, 2.0 + 1e-8, None]}, "f or g at the start differs at seed 0"),
        ("other", {"drawn": "other"}, "what was drawn differs at seed 0"),
        ("other", {"computed": "other", "numbers": [1.0, 2.0 + 1e-8, None]}, "f or g at the start differs at seed 0"),
        ("other", {"computed": "other", "numbers": [1.0, 2.0 + 1e-10, None]}, ""),
        ("other", {"computed": "other"}, ""),
        ("m", {"drawn": "", "computed": "", "numbers": []}, ""),
        ("m", {}, ""),
    ],
)
def test_runs_that_did_not_see_the_same_problem_are_in_no_ratio(tmp_path, cpu, changes, words):
    data = seen(tmp_path, cpu, **changes)
    notes = [note for note in data.notes if "saw the same problem" in note]
    assert len(notes) == bool(words)
    assert all(words in note for note in notes)
    together = data.runs["problem"].nunique() == 1
    assert together == (not words)


def test_the_many_that_agree_come_first(tmp_path):
    for k in range(4):
        write_run(tmp_path, solver=f"s{k}", digest=SAW if k != 1 else SAW | {"drawn": "other"})
        write_run(tmp_path, solver=f"s{k}", seed=1, digest=SAW | {"drawn": "of another seed"})
    runs = load(tmp_path).runs
    apart = runs[runs["problem"] == "quadratic, data 2"]
    assert apart[["solver", "seed"]].to_numpy().tolist() == [["s1", 0]]


# -- orders, growth, faults


@pytest.mark.parametrize(
    ("calls", "highest"),
    [
        ({}, None),
        ({"draw_f": 3, "project_x": 1, "normal": 2}, None),
        ({"f": 1, "g": 2}, 0),
        ({"h_f": 1}, 0),
        ({"f": 1, "dg_y": 1}, 1),
        ({"dh_g_x": 1}, 1),
        ({"dg": 5, "d2g": 0}, 1),
        ({"dg": 5, "d2g_yy": 1}, 2),
        ({"d2f": 1}, 2),
    ],
)
def test_the_order_is_the_one_that_was_counted(calls, highest):
    assert order(calls) == highest


def test_what_is_declared_counts_only_where_nothing_was_asked(tmp_path):
    write_run(tmp_path, solver="liar", order=1, kind="d2g")
    write_run(tmp_path, solver="idle", order=2, gaps=(1.0,), price=0)
    data = load(tmp_path)
    assert data.runs.set_index("solver")["order"].to_dict() == {"liar": 2, "idle": 2}
    table = compare.compare(data.runs, targets.hits(data.runs, data.looks)).leaders
    classes = {row["solver"]: row["class"] for row in tables.leaders(table, style.Palette({}))}
    assert classes["liar"] == "second order"


def test_a_solver_that_grows_is_named(tmp_path):
    write_run(tmp_path, solver="grows", memory={"growth_bytes": 8.0})
    write_run(tmp_path, "other", solver="grows", memory={"growth_bytes": 4096})
    write_run(tmp_path, solver="rests", memory={"growth_bytes": 7.9})
    write_run(tmp_path, solver="shrinks", memory={"growth_bytes": -100})
    notes = load(tmp_path).notes
    assert len(notes) == 1
    assert notes[0].startswith(
        "grows grows: on other it holds 4.1e+03 bytes more with every step, and it grows on 1 more"
    )
    assert "growth a step" in write(tmp_path, tmp_path / "out").path.read_text()


def test_only_the_solvers_own_faults_are_charged(tmp_path):
    for seed, (status, fault) in enumerate(
        [
            ("done", ""),
            ("error", "solver"),
            ("error", "problem"),
            ("lost", "machine"),
            ("timeout", "harness"),
            ("oom", "solver"),
        ]
    ):
        write_run(
            tmp_path,
            seed=seed,
            gaps=(1.0, 0.05),
            status=status,
            fault=fault,
            reason=f"because {seed}",
            attempts=seed + 1,
        )
    data = load(tmp_path)
    hit = targets.hits(data.runs, data.looks)
    assert set(hit["seed"]) == {0, 1, 5}
    (row,) = compare.compare(data.runs, hit).leaders.to_dict("records")
    assert (row["runs"], row["failed"], row["excused"], row["unsupported"]) == (3, 2, 3, 0)
    report = write(tmp_path, tmp_path / "out")
    assert "2 runs of 6 failed (1 error and 1 oom); they count as unsolved." in report.verdict
    assert "3 runs ended through no solver's fault (1 error, 1 lost and 1 timeout)" in report.verdict
    page = report.path.read_text()
    assert '><td>lost</td><td>machine</td><td class="n">4</td>' in page
    assert "2 of 3, 3 not its fault" in page
    shown = terminal(report, 120)
    assert "lost (machine), 4 attempts: quadratic bome seed 3" in shown


def test_a_problem_that_has_to_be_mended_is_said_and_one_that_does_not_fit_is_not(tmp_path):
    write_run(tmp_path, seed=0, status="unsupported", fault="problem", reason="two builds differ")
    write_run(tmp_path, seed=1, status="unsupported", fault="", reason="it needs minibatches")
    report = write(tmp_path, tmp_path / "out")
    assert report.failures["reason"].tolist() == ["two builds differ"]
    assert "unsupported (problem): quadratic bome seed 0" in terminal(report, 120)
    assert "1 run ended through no solver's fault (1 unsupported)" in report.verdict


def test_a_run_that_was_cut_off_is_charged_to_nobody(tmp_path):
    write_run(tmp_path, status="cut off")
    data = load(tmp_path)
    assert not len(targets.hits(data.runs, data.looks))
    assert "no solver's fault (1 cut off)" in write(tmp_path, tmp_path / "out").verdict


def test_the_report_folder_is_not_read_as_results(tmp_path):
    write_run(tmp_path)
    write(tmp_path, tmp_path / "report")
    shutil.copy(tmp_path / "report" / "index.html", tmp_path / "report" / "copy.html")
    assert len(load(tmp_path).runs) == 1
