"""The page: complete, self-contained, the same bytes for the same data, honest about what failed."""

import base64
import hashlib
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bilevelbench.api import results as api
from bilevelbench.core.errors import RequestError
from bilevelbench.report import figures, overall, sheet
from bilevelbench.report.page import write
from bilevelbench.report.rendered import prose
from bilevelbench.report.terminal import show
from bilevelbench.report.words import some
from tests.results_factory import write_run

pytestmark = pytest.mark.xdist_group("report")  # one process makes what the module's tests share
PICTURE = {
    "axes": [["y", 0], ["y", 1]], "labels": ["y[0]", "y[1]"], "box": [0, 3, 0, 2], "label": "level sets",
    "u": [0.0, 1.0, 2.0, 3.0], "v": [0.0, 1.0, 2.0], "level": [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]],
    "outline": [[0, 0], [1, 0], [1, 1]], "solution": [1.0, 1.0],
}  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for seed in (0, 1):
        write_run(folder, seed=seed, gaps=(1.0, 0.05, 1e-5 * (seed + 1)))
        write_run(folder, seed=seed, solver="itd", gaps=(1.0, 0.5, 0.01), order=2)
    write_run(folder, "toy", picture=PICTURE, selection="optimistic: the shortest", files=["/data/libsvm/w8a"])
    write_run(
        folder, "cleaning", metric="phi", gaps=(2.0, 1.0), extra={"accuracy": 0.8, "grad_phi": 0.1},
        references={"validation only": {"phi": 0.5, "accuracy": 0.9}}, better={"accuracy": "higher"},
        bar={"figure": "accuracy", "lines": ["validation only"]},
    )  # fmt: skip
    write_run(folder, solver="broken", status="error", reason="oh <b>no</b>", traceback="<script>alert(1)</script>")
    for status in ("diverged", "timeout", "oom", "unsupported"):
        write_run(
            folder,
            solver=f"is_{status}",
            gaps=() if status == "unsupported" else (1.0, 0.5),
            status=status,
            reason="why",
        )
    return folder


def page(results, out):
    report = write(results, out)
    return report, report.path.read_text(encoding="utf-8")


def test_the_page_has_every_part(results, tmp_path):
    report, html = page(results, tmp_path / "out")
    for anchor in ("leaders", "convergence", "trajectories", "memory", "failures", "provenance"):
        assert f'id="{anchor}"' in html
        assert f'href="#{anchor}"' in html
    for words in (
        "phi_gap",
        "accuracy",
        "validation only",
        "y*(x) is optimistic: the shortest",
        "data of w8a: 49749 rows; 15045 repeat an earlier row",
        "diverged",
        "timeout",
        "oom",
        "is_unsupported",
        "bilevelbench run",
    ):
        assert words in html
    assert html.count("data of ") == 1
    assert html.count("<svg") >= 5
    plain = " ".join(re.sub(r"<[^>]+>", " ", html).replace("&#39;", "'").split())
    assert all(sentence in plain for sentence in re.split(r"(?<=\.) ", report.verdict))


@pytest.mark.parametrize(
    ("levels", "rows"),
    [((0.5, 0.51, 0.9), {"high", "middle, low"}), ((0.2, 0.5, 0.9), {"high", "middle", "low"})],
)
def test_names_of_lines_do_not_overlap(levels, rows):
    ax = plt.figure().add_subplot()
    ax.set_ylim(0, 1)
    figures.names(ax, dict(zip(("low", "middle", "high"), levels, strict=True)))
    assert {text.get_text() for text in ax.texts} == rows
    plt.close("all")


def test_the_page_is_self_contained(results, tmp_path):
    _, html = page(results, tmp_path / "out")
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", html)
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", without_names)
    assert "@import" not in html
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'" in html
    assert set(re.findall(r"<script[^>]*?( src|type=[^ ]+)", html)) == {'type="application/json"'}
    for link in re.findall(r'href="((?:figures|data)/[^"]+)"', html):
        assert (tmp_path / "out" / link).stat().st_size > 0, link


def test_the_same_data_give_the_same_bytes(results, tmp_path):
    for name in ("one", "two"):
        write(results, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_words_in_backticks_are_code_and_nothing_else_is_markup():
    assert str(prose("`run --tune` tunes <b>alike</b> & `a<b`")) == (
        "<code>run --tune</code> tunes &lt;b&gt;alike&lt;/b&gt; &amp; <code>a&lt;b</code>"
    )


def test_tracebacks_are_escaped(results, tmp_path):
    _, html = page(results, tmp_path / "out")
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "oh &lt;b&gt;no" in html


def test_a_long_list_of_problems_is_counted_and_not_named():
    assert some(["a", "b", "c"]) == "a, b and c"
    assert some([*"abcdefg"]) == "7 problems"
    assert some([*"abcdefg"], "family") == "7 families"


def test_the_verdict_says_what_the_rows_say(results, tmp_path):
    report, _ = page(results, tmp_path / "out")
    assert "BOME held" in report.verdict
    assert "No winner among bome and itd: 3 instances cannot tell" in report.verdict
    assert "4 runs of 11 failed (1 diverged, 1 error, 1 oom and 1 timeout)" in report.verdict
    assert "No solver beats “validation only” in accuracy (higher is better) on cleaning: nothing" in report.verdict


@pytest.mark.parametrize(("better", "said"), [("lower", True), ("higher", False)])
def test_a_target_in_the_wrong_direction_is_named(tmp_path, better, said):
    """It is met by the start, and would silently be no target at all."""
    for seed in range(3):
        write_run(
            tmp_path / "in", "own", seed=seed, phi_star=None, metric="accuracy", gaps=(0.5, 0.7, 0.9),
            better={"accuracy": better}, target={"accuracy": 0.8},
        )  # fmt: skip
    report, _ = page(tmp_path / "in", tmp_path / "out")
    words = "The target accuracy = 0.8 of own (lower is better) is met by the start already, and so decides nothing."
    assert (words in report.verdict) == said


LINES = {"flips": {"accuracy": 0.7, "phi": 2.0}, "noise": {"accuracy": 0.6, "phi": 3.0}, "clean": {"accuracy": 0.9}}


@pytest.mark.parametrize(
    ("figure", "better", "hardest"),
    [("accuracy", {"accuracy": "lower"}, "noise"), ("accuracy", {"accuracy": "higher"}, "flips"), ("phi", {}, "flips")],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_line_is_beaten_in_the_direction_that_is_better(tmp_path, figure, better, hardest, sign):
    """The hardest of the lines to beat counts, and lines that are no bar do not; failed runs beat nothing."""
    value = LINES[hardest][figure] + 0.01 * sign
    how = {
        "references": LINES, "better": better, "bar": {"figure": figure, "lines": ["flips", "noise"]},
        "metric": "phi", "gaps": (5.0, value if figure == "phi" else 1.0), "extra": {"accuracy": value},
    }  # fmt: skip
    for solver, status in (("bome", "done"), ("itd", "diverged")):
        write_run(tmp_path, "attack", solver=solver, status=status, **how)
    said = write(tmp_path, tmp_path / "out").verdict
    way = better.get(figure, "lower")
    words = f"“{hardest}” in {figure} ({way} is better)"
    if (sign > 0) == (way == "higher"):
        assert f"On attack, bome beats {words}." in said
    else:
        assert f"No solver beats {words} on attack: nothing is shown there." in said


def test_files_without_a_bar_claim_nothing(tmp_path):
    write_run(tmp_path, metric="phi", extra={"accuracy": 0.8}, references={"validation only": {"accuracy": 0.9}})
    assert "beat" not in write(tmp_path, tmp_path / "out").verdict


def test_the_verdict_without_bome(tmp_path):
    write_run(tmp_path, solver="itd", order=2)
    assert "BOME" not in write(tmp_path, tmp_path / "out").verdict


def test_half_written_and_foreign_files_are_named_and_the_rest_is_shown(tmp_path):
    write_run(tmp_path)
    cut = write_run(tmp_path, solver="interrupted", status="cut off")
    (tmp_path / "foreign.jsonl").write_text("not ours\n")
    report, html = page(tmp_path, tmp_path / "out")
    assert len(report.troubles) == 2
    assert any(str(cut) in trouble for trouble in report.troubles)
    assert any("foreign.jsonl" in trouble for trouble in report.troubles)
    assert "interrupted" in html
    assert "cut off" in html


def test_all_runs_failed(tmp_path):
    write_run(tmp_path, gaps=(), status="error", reason="at once", traceback="...")
    report, html = page(tmp_path, tmp_path / "out")
    assert "No look of any run" in html
    assert "1 run of 1 failed" in report.verdict


def test_values_that_a_logarithm_cannot_show_are_said(tmp_path):
    write_run(tmp_path, gaps=(1.0, 1e-4, 0.0, -1e-9))
    _, html = page(tmp_path, tmp_path / "out")
    assert "2 values below 0.0001 drawn there" in html


def test_an_empty_folder_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no bilevelbench result"):
        write(tmp_path, tmp_path / "out")


def test_the_terminal_table_is_readable_in_80_columns(results, tmp_path):
    console = Console(width=80, record=True, force_terminal=False)
    show(write(results, tmp_path / "out"), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for words in ("bome", "itd", "targets", "peak"):
        assert words in text


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_a_sheet_reads_as_what_pandas_writes(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(sheet, "AT_ONCE", 3)
    table = pd.DataFrame(
        {
            "text": ["plain", 'a "quote"', "a, comma", "two\nlines", None, "ünï", ""],
            "float": [0.1, 1e-300, np.nan, -0.0, 1e22, 1 / 3, 5.0],
            "infinite": [np.inf, -np.inf, np.nan, 1.5, 2.0, 3.0, 0.1],
            "count": range(7),
            "flag": [True, False] * 3 + [True],
        }
    ).iloc[:rows]
    sheet.write(table, tmp_path / "ours.csv")
    table.to_csv(tmp_path / "theirs.csv", index=False)
    ours, theirs = (pd.read_csv(tmp_path / name) for name in ("ours.csv", "theirs.csv"))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


# -- subject and weights


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"subject": "bomme"}, "there is no solver 'bomme' in these results; they have bome, itd"),
        ({"weights": {"toys": 2.0}}, "there is no family 'toys' in these results; they have quadratic"),
        ({"weights": {"quadratic": -1.0}}, "the weight -1 of the family quadratic is not valid"),
        ({"weights": {"quadratic": math.nan}}, "the weight nan of the family quadratic is not valid"),
        ({"weights": {"quadratic": 0.0}}, "all families have the weight 0"),
    ],
)
def test_a_wrong_subject_or_weight_is_one_sentence(tmp_path, asked, words):
    for solver in ("bome", "itd"):
        write_run(tmp_path, solver=solver)
    results = api.load(tmp_path)
    for call in (results.verdict, results.report, results.duels):
        with pytest.raises(RequestError, match=words.replace("(", ".")):
            call(**asked)


def test_the_subject_is_the_users_own_then_bome(tmp_path):
    for solver in ("itd", "bome"):
        write_run(tmp_path, solver=solver)
    assert "BOME held" in api.load(tmp_path).verdict()
    assert "itd held" in api.load(tmp_path).verdict(subject="itd")
    path = write_run(tmp_path, solver="mine")
    path.write_text(path.read_text().replace('"given":"mine"', '"given":"a/mine.py"'))
    assert "mine held" in api.load(tmp_path).verdict()


def test_a_subject_whose_targets_nobody_holds_has_a_verdict(tmp_path):
    for solver in ("bome", "itd"):
        write_run(tmp_path, "easy", solver, gaps=(1.0, 1e-9))
    write_run(tmp_path, "hard", "mine", gaps=(1.0, 0.9))
    assert "mine held 0% of its targets" in api.load(tmp_path).verdict(subject="mine")


def test_weights_are_told_and_change_what_is_said(tmp_path):
    for seed in range(5):
        for problem, solver, price in (("a", "bome", 1), ("a", "itd", 30), ("b", "bome", 30), ("b", "itd", 1)):
            write_run(tmp_path, problem, solver, seed, gaps=(1.0, 1e-9), price=price)
    results = api.load(tmp_path)
    assert results.verdict().count("No winner among bome and itd") == 1
    assert "The winner is bome" in results.verdict(weights={"b": 0})
    report = results.report(tmp_path / "out", weights={"b": 0.0})
    assert "Weights of families that are not 1: b 0" in report.path.read_text()


def test_a_control_that_does_as_well_is_said(tmp_path):
    for solver in ("bome", "random_search"):
        path = write_run(tmp_path, solver=solver)
        if solver == "random_search":
            path.write_text(path.read_text().replace('"order":1', '"order":1,"family":"control"', 1))
    said = api.load(tmp_path).verdict()
    assert "A control is as cheap as any method in 1 problem: random_search on quadratic." in said


def test_tuned_beside_untuned_is_said(tmp_path):
    for solver, tuned in (("bome", "true"), ("itd", '"edge"'), ("mine", "false")):
        path = write_run(tmp_path, solver=solver)
        path.write_text(path.read_text().replace('"order":1', f'"order":1,"tuned":{tuned}', 1))
    said = api.load(tmp_path).verdict()
    assert "mine was not tuned here, the others were (`run --tune` tunes alike)." in said
    assert "1 choice of tuning lies at the edge of what was tried." in said


def test_what_hangs_on_the_step_is_drawn_from_the_scores_of_tuning(tmp_path, monkeypatch):
    steps = [
        {"lr": 0.1 * 2**k, "share": share, "score": 0.1, "cost": 1.0, "instances": 3, "chosen": k == 0}
        for k, share in ((-1, 0.2), (0, 0.9), (1, 0.0))
    ]
    line = {"problem": "quadratic", "asked": "bome", "steps": steps}
    monkeypatch.setattr(overall, "_scores", lambda suite: [line])
    write_run(tmp_path)
    page = write(tmp_path, tmp_path / "out").path.read_text()
    assert "Most targets: bome with half the step" in page
    assert (tmp_path / "out" / "data" / "steps.csv").read_text().count("\n") == 4
    assert (tmp_path / "out" / "figures" / "steps.pdf").exists()
