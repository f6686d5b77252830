"""Claims of papers: the shipped files, the rules, what runs say of them, and the command that tries them."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench import Draw, Oracle, RequestError, build_problem, make_solver
from bilevelbench import claims as shipped
from bilevelbench.api import papers as face
from bilevelbench.core.registry import PROBLEMS
from bilevelbench.core.resolve import resolve
from bilevelbench.core.solver import start
from bilevelbench.report import papers as shown
from bilevelbench.run.suite import block_of
from bilevelbench.stats import papers
from bilevelbench.stats.findings import best, findings, plain
from bilevelbench.stats.rulings import (
    FAILS,
    HOLDS,
    LEAST,
    MISSING,
    OPEN,
    OUT,
    SHOWN,
    UNSUPPORTED,
    VERDICTS,
    interval,
    ruling,
    verdict,
)
from bilevelbench.store.frame import load

from .results_factory import write_run

CLAIMS = shipped()
TRIED = [claim for claim in CLAIMS if claim.runs]

# -- the files


def test_all_23_are_there():
    numbered = [claim.id for claim in CLAIMS if not claim.stands_for]
    assert sorted(numbered) == sorted([f"B{k}" for k in range(1, 9)] + [f"P{k}" for k in range(1, 16)])


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_has_runs_or_a_reason(claim):
    assert bool(claim.runs) != bool(claim.reach)
    assert claim.says.endswith(".")
    assert bool(claim.changed) == bool(claim.runs)
    assert not claim.stands_for or claim.stands_for in {other.id for other in CLAIMS}


@pytest.mark.parametrize("claim", TRIED, ids=lambda claim: claim.id)
def test_what_a_claim_names_exists(claim):
    """Every spec is one that can be made, every block one that can be run, every cell has runs at its scales."""
    for text in claim.solvers.values():
        make_solver(text)
    for text in claim.problems.values():
        resolve(PROBLEMS, text)
    for runs in claim.runs:
        block_of(runs.block, claim.id)
    for cell in claim.cells:
        for scale in set(cell.scales) & set(claim.scales):
            for solver in filter(None, (cell.solver, cell.over, cell.minus)):
                pair = claim.problems[cell.problem], claim.solvers[solver]
                blocks = claim.blocks(scale)
                assert any(pair[0] in b["problems"] and pair[1] in b["solvers"] for b in blocks), (cell, scale)


@pytest.mark.parametrize("claim", TRIED, ids=lambda claim: claim.id)
def test_a_quick_run_has_at_least_a_tenth_of_the_steps(claim):
    longest = {scale: max((b.get("steps", 0) for b in claim.blocks(scale)), default=0) for scale in papers.SCALES}
    if all(longest.values()):
        assert 10 * longest["quick"] >= longest["published"]


def test_equal_runs_are_spelled_alike():
    """A record is found by the text that asked for it, so two spellings of one run would hide it."""
    spelled = {}
    for claim in TRIED:
        for text in claim.solvers.values():
            spelled.setdefault(repr(make_solver(text)), set()).add(plain(text))
    assert [texts for texts in spelled.values() if len(texts) > 1] == []


def test_wrong_names_are_one_sentence():
    with pytest.raises(RequestError, match="no paper 'bom'; did you mean bome"):
        shipped("bom")
    with pytest.raises(RequestError, match="no claim 'B11' of bome; did you mean B1"):
        papers.claims("bome", ["B11"])


# -- the authors' trajectories in float64

POINTS = [
    (claim, cell)
    for claim in TRIED
    for cell in claim.cells
    if isinstance(cell.published, tuple) and cell.at == 50 and claim.paper == "bome"
]


@pytest.mark.parametrize(("claim", "cell"), POINTS, ids=[f"{c.id}-{x.solver}-{x.problem}" for c, x in POINTS])
def test_fifty_steps_are_those_of_the_authors_code(claim, cell):
    problem = build_problem(claim.problems[cell.problem], Draw(0))
    solver, oracle = make_solver(claim.solvers[cell.solver]), Oracle(problem)
    state = start(solver, problem, oracle)
    for k in range(50):
        oracle.begin(k)
        state = solver.step(oracle, state)
    found = [float(getattr(state, name[0])[int(name[2:-1])]) for name in cell.figure]
    assert max(abs(a - b) for a, b in zip(found, cell.published, strict=True)) <= 1e-8


# -- the rules

PICTURE = {
    "axes": [["x", 0], ["y", 1]], "labels": ["x", "y"], "box": [0, 1, 0, 1], "label": "", "u": [0.0, 1.0],
    "v": [0.0, 1.0], "level": [[0, 1], [1, 2]], "outline": [], "solution": [1.0, 1.0],
}  # fmt: skip
figures = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)
ends = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(lambda pair: (min(pair), max(pair)))


@given(figures, st.booleans())
def test_an_interval_is_around_the_mean_or_not_there(values, fixed):
    mean, low, high = interval(values, fixed)
    assert math.isnan(low) or low <= mean <= high
    assert math.isnan(low) == (not fixed and len(values) < LEAST)


@given(figures, ends, st.booleans(), st.integers(1, 40))
def test_a_ruling_says_where_the_interval_lies(values, band, fixed, among):
    found, (_, low, high) = ruling(values, band, fixed, among), interval(values, fixed)
    if found == HOLDS:
        assert band[0] <= low <= high <= band[1]
    if found == FAILS:
        assert high < band[0] or low > band[1]
        assert ruling(values, band, fixed, 1) == FAILS  # to be one of many never makes a failure
    if not fixed and len(values) < LEAST:
        assert found == OPEN


@given(figures, ends, st.floats(0, 1e6))
def test_a_wider_band_never_fails_what_held(values, band, more):
    wider = (band[0] - more, band[1] + more)
    if ruling(values, band) == HOLDS:
        assert ruling(values, wider) == HOLDS
    if ruling(values, wider) == FAILS:
        assert ruling(values, band) == FAILS


def test_where_the_seed_changes_nothing_a_figure_is_a_point():
    assert ruling([1.0], (0.0, 2.0), fixed=True) == HOLDS
    assert ruling([3.0], (0.0, 2.0), fixed=True) == FAILS
    assert ruling([1.0], (0.0, 2.0)) == OPEN


@given(st.lists(st.sampled_from([HOLDS, FAILS, OPEN, MISSING, UNSUPPORTED, SHOWN]), max_size=8))
def test_a_verdict_is_of_all_cells(rulings):
    found = verdict(rulings, "published")
    judged = [one for one in rulings if one != SHOWN]
    assert (found == "refuted") == (FAILS in judged)
    assert (found == "reproduced") == (bool(judged) and set(judged) == {HOLDS})
    assert (found == "not finished") <= (MISSING in judged)
    for weaker in (verdict(rulings, "quick"), verdict(rulings, "published", stands_for=True)):
        assert weaker not in VERDICTS["published"]


# -- what runs say

SMALL = """
title = "A paper"
cite = "Nobody, nowhere"

[[claim]]
id = "Q1"
where = "figure 1"
says = "bome is good."
changed = "Nothing."
figure = "phi_gap"
cells = [ {cells} ]

[claim.problems]
here = "quadratic"

[claim.solvers]
ours = "bome(lr=0.10)"
rival = "penalty"

[[claim.run]]
seeds = "0-2"
steps = 10
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a paper of one claim in place of the shipped ones, with the given cells."""

    def write(*cells, **changes):
        text = SMALL.replace("{cells}", ", ".join(f"{{ {cell} }}" for cell in cells))
        for old, new in changes.items():
            text = re.sub(rf"(?m)^{old} = .*$", new, text)
        (tmp_path / "small.toml").write_text(text, encoding="utf-8")
        papers.paper.cache_clear()
        return papers.claims()

    monkeypatch.setattr(papers, "FOLDER", tmp_path)
    yield write
    papers.paper.cache_clear()


def runs(folder, solver, ends, **options):
    for seed, end in enumerate(ends):
        write_run(folder, "quadratic", solver, seed, (1.0, 0.5, *([] if end is None else [end])), **options)


def judged(written, folder, *cells, scale="published"):
    (found,) = findings(load(folder), written(*cells), scale)
    return found


def test_a_figure_is_read_from_the_runs_that_the_claim_asked_for(written, tmp_path):
    runs(tmp_path / "r", "bome(lr=0.1)", (0.1, 0.2, 0.3))  # spelled otherwise than in the claim
    runs(tmp_path / "r", "bome(lr=0.2)", (7.0, 7.0, 7.0))
    found = judged(written, tmp_path / "r", 'solver = "ours", published = 0.2, within = 0.5')
    assert found.verdict == "reproduced"
    assert found.cells[0].values == pytest.approx((0.1, 0.2, 0.3))
    assert found.runs == 3
    assert judged(written, tmp_path / "r", 'solver = "ours", below = 0.5', scale="quick").verdict == "agrees so far"
    assert judged(written, tmp_path / "r", 'solver = "ours", above = 2.0').verdict == "refuted"
    assert (
        judged(written, tmp_path / "r", 'solver = "ours", published = 0.2, within = 0.05').verdict == "not reproduced"
    )


@pytest.mark.parametrize(
    ("at", "value"),
    [('"end"', 0.2), ("1", 0.5), ('"least"', 0.2), ('"most"', 1.0), ('"swing"', 0.3), ('"most phi_gap"', 1.0)],
)
def test_a_curve_is_read_as_the_cell_says(written, tmp_path, at, value):
    runs(tmp_path / "r", "bome(lr=0.1)", (0.2, 0.2, 0.2))
    found = judged(written, tmp_path / "r", f'solver = "ours", at = {at}, below = 9.0')
    assert found.cells[0].found.mean == pytest.approx(value)


def test_solvers_are_compared_seed_by_seed(written, tmp_path):
    runs(tmp_path / "r", "bome(lr=0.1)", (1.0, 2.0, 3.0))
    runs(tmp_path / "r", "penalty", (2.0, 4.0, 6.0))
    found = judged(
        written, tmp_path / "r", 'solver = "ours", over = "rival", published = 0.5, within = 0.01',
        'solver = "ours", minus = "rival", below = 0.0',
    )  # fmt: skip
    assert found.cells[0].values == pytest.approx((0.5, 0.5, 0.5))
    assert found.cells[1].values == pytest.approx((-1.0, -2.0, -3.0))
    assert [cell.ruling for cell in found.cells] == [HOLDS, OPEN]  # -2 with three seeds is known to 2.5


def test_an_iterate_is_held_to_a_published_one(written, tmp_path):
    runs(tmp_path / "r", "bome(lr=0.1)", (0.2, 0.2, 0.2), picture=PICTURE)
    cell = 'solver = "ours", figure = ["x[0]", "y[1]"], at = 2, published = [2.0, 1.5], within = {}'
    assert judged(written, tmp_path / "r", cell.format(0.6)).verdict == "reproduced"
    found = judged(written, tmp_path / "r", cell.format(0.4))
    assert found.verdict == "refuted"
    assert found.cells[0].found.mean == pytest.approx(0.5)


def test_what_failed_or_is_not_there_reproduces_nothing(written, tmp_path):
    cell = 'solver = "ours", below = 9.0'
    assert findings(None, written(cell), "published")[0].verdict == "not run"
    runs(tmp_path / "r", "bome(lr=0.1)", (0.1, 0.2))
    write_run(tmp_path / "r", "quadratic", "bome(lr=0.1)", 2, (1.0,), status="diverged", reason="not finite")
    found = judged(written, tmp_path / "r", cell)
    assert found.verdict == "not reproduced"
    assert "1 of 3 runs: diverged" in found.why
    runs(tmp_path / "cut", "bome(lr=0.1)", (0.1, 0.2))
    write_run(tmp_path / "cut", "quadratic", "bome(lr=0.1)", 2, (1.0,), status="cut off")
    begun = judged(written, tmp_path / "cut", cell)
    assert begun.verdict == "not run"
    assert begun.cells[0].note == "1 seeds have not been run"
    missing = judged(written, tmp_path / "r", cell, 'solver = "rival", below = 9.0')
    assert missing.verdict == "not finished"
    assert "not run: rival" in missing.why


def test_data_that_are_missing_put_a_claim_out_of_reach(written, tmp_path):
    runs(tmp_path / "r", "bome(lr=0.1)", (None, None, None), status="unsupported", reason="no MNIST here")
    found = judged(written, tmp_path / "r", 'solver = "ours", below = 9.0')
    assert found.verdict == OUT
    assert "no MNIST here" in found.why


def test_the_published_scale_is_shown_where_it_was_run(written, tmp_path):
    made = written('solver = "ours", below = 9.0')
    runs(tmp_path / "r", "bome(lr=0.1)", (0.1, 0.2, 0.3))
    assert best(load(tmp_path / "r"), made)[0].scale == "published"
    small = [replace(made[0], runs=(replace(made[0].runs[0], scales=("quick",)),))]
    assert best(load(tmp_path / "r"), small)[0].verdict == "agrees so far"


# -- trying them


def test_a_tiny_claim_runs_end_to_end(written, tmp_path):
    """Runs, verdict and page of one claim; a second time nothing is made."""
    written('solver = "ours", published = 0.0, below = 1e9', here='here = "minimax"', seeds='seeds = "0"')
    found = face.run_papers(claims="Q1", scale="published", out=tmp_path / "r", progress=False)
    assert found.table["verdict"].tolist() == ["reproduced"]
    page = found.report(tmp_path / "page").read_text(encoding="utf-8")
    assert "Q1 is reproduced" in page
    assert "bilevelbench run papers --claim Q1 --scale published" in re.sub("</?span>", "", page)
    assert (tmp_path / "page" / "figures" / "Q1-published.pdf").is_file()
    with face.prepared_papers(None, ["Q1"], "published", tmp_path / "r", "") as trial:
        assert trial.comparison.todo == []
    again = face.load_papers(tmp_path / "r")
    assert again.table["verdict"].tolist() == ["reproduced"]
    assert found.table["cpu_minutes"].iloc[0] > 0


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": "publishd"}, "no scale 'publishd'; did you mean published"),
        ({"claims": ["Q2"]}, "no claim 'Q2'; did you mean Q1"),
        ({"paper": "smal"}, "no paper 'smal'; did you mean small"),
        ({"claims": ["Q1"], "scale": "quick"}, "claim Q1 has no quick scale; it has published"),
    ],
)
def test_what_cannot_be_tried_is_one_sentence(written, tmp_path, asked, words):
    written('solver = "ours", below = 9.0', seeds='scale = "published"')
    with pytest.raises(RequestError, match=words):
        face.run_papers(**asked, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_claim_out_of_reach_is_a_row_unless_it_is_asked_for_alone(tmp_path):
    with pytest.raises(RequestError, match=r"claim P4 is out of reach: CIFAR-10 .*those that can be tried: "):
        face.run_papers(claims="P4", out=tmp_path / "r")
    rows = {one.claim.id: one for one in findings(None, CLAIMS, "published")}
    assert rows["P4"].verdict == OUT
    assert "79.67" in rows["P4"].why


def test_a_line_says_published_and_measured(written, tmp_path):
    runs(tmp_path / "r", "bome(lr=0.1)", (0.1, 0.2, 0.3))
    found = judged(written, tmp_path / "r", 'solver = "ours", published = 0.25, spread = 0.01, within = 0.5')
    line = shown.lines([found])[1]
    assert "published 0.25 ± 0.01 | measured 0.2 [-0.0484, 0.448] | holds (-0.25 to 0.75)" in line
