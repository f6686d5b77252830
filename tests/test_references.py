"""References: what is read, what holds for which run, and which comes first."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.store import frame, references
from bilevelbench.store.references import Reference
from tests.results_factory import write_run

SEEN = {"drawn": "d", "computed": "c", "numbers": [1.0, 2.0, 3.0, 4.0]}


def reference(problem="quadratic", phi=0.5, seed=0, **changes):
    fields = {
        "problem": problem, "version": 1, "seed": seed, "phi": phi, "phi_error": 1e-15, "grad_phi": 1e-9,
        "grad_phi_error": 1e-15, "ended": "settled", "starts": 3, "budget": 100, "gradients": 90, "method": "L-BFGS",
    }  # fmt: skip
    return Reference(**{**fields, **changes})


def looked_up(folder):
    runs = frame.load(folder).runs
    return runs.set_index(["asked_problem", "seed"])[["reference", "reference_how"]]


def test_a_run_has_the_reference_of_its_problem_version_and_seed(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, "one", seed=seed, phi_star=None)
    write_run(tmp_path, "two", phi_star=None)
    write_run(tmp_path, "known", phi_star=0.0)
    references.write(tmp_path, reference("one", 0.5))
    references.write(tmp_path, reference("one", 0.1, seed=1, version=2))
    references.write(tmp_path, reference("two", 0.25, seed=None, ended="budget"))
    references.write(tmp_path, reference("known", 0.1))
    found = looked_up(tmp_path)
    assert found.loc[("one", 0), "reference"] == 0.5
    how = found.loc[("one", 0), "reference_how"]
    assert how == "L-BFGS from 3 starts, 90 gradients of g, |grad Phi| 1.0e-09; an upper bound"
    assert math.isnan(found.loc[("one", 1), "reference"])  # of another version
    assert found.loc[("one", 1), "reference_how"] == ""
    assert found.loc[("two", 0), "reference"] == 0.25  # the seed changes nothing there
    assert "when its budget was spent" in found.loc[("two", 0), "reference_how"]
    assert math.isnan(found.loc[("known", 0), "reference"])


def test_ones_own_come_before_the_shipped_and_the_least_of_ones_own_first(tmp_path, monkeypatch):
    write_run(tmp_path / "here", "one", phi_star=None)
    monkeypatch.setattr(references, "shipped", lambda: [reference("one", 0.1, starts=7)])
    assert looked_up(tmp_path).loc[("one", 0), "reference"] == 0.1
    assert "7 starts" in looked_up(tmp_path).loc[("one", 0), "reference_how"]
    references.write(tmp_path, reference("one", 0.5))
    assert looked_up(tmp_path).loc[("one", 0), "reference"] == 0.5
    references.write(tmp_path / "here", reference("one", 0.4))
    assert looked_up(tmp_path).loc[("one", 0), "reference"] == 0.4


@pytest.mark.parametrize(
    ("seen", "holds"),
    [
        ({}, True),
        ({"drawn": "e"}, False),
        ({"numbers": [1.0, 2.0, 3.0, 4.1]}, False),
        ({"numbers": [1.0 + 1e-12, 2.0, 3.0, 4.0]}, True),
        ({"drawn": "", "numbers": []}, True),
    ],
)
def test_a_reference_holds_for_what_saw_the_same_problem_alone(tmp_path, seen, holds):
    write_run(tmp_path, "one", phi_star=None, digest=SEEN | seen)
    references.write(tmp_path, reference("one", drawn="d", numbers=SEEN["numbers"]))
    found = looked_up(tmp_path).loc[("one", 0)]
    assert math.isnan(found["reference"]) is not holds
    assert ("saw another problem" in found["reference_how"]) is not holds


FAULTY = {
    "no JSON": "{", "another shape": '{"problem": "one"}', "a text for a number": None, "an infinity": None,
    "nothing": "", "no text": b"\xff\xfe",
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTY)
def test_a_file_that_is_none_is_a_sentence_and_the_rest_is_read(tmp_path, kind):
    write_run(tmp_path, "one", phi_star=None)
    good = references.write(tmp_path, reference("one", 0.5))
    whole = good.read_text()
    text = {"a text for a number": whole.replace("0.5", '"0.5"'), "an infinity": whole.replace("0.5", "1e999")}.get(
        kind, FAULTY[kind]
    )
    bad = good.with_name("bad.json")
    bad.write_bytes(text if isinstance(text, bytes) else text.encode())
    read = frame.load(tmp_path)
    assert [said for said in read.troubles if said.startswith(f"{bad} is no reference: ")] == read.troubles
    assert len(read.troubles) == 1
    assert "\n" not in read.troubles[0]
    assert read.runs["reference"].tolist() == [0.5]


def test_a_link_is_not_followed(tmp_path):
    write_run(tmp_path, "one", phi_star=None)
    references.write(tmp_path / "elsewhere", reference("one", 0.5)).rename(tmp_path / "away.json")
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "one.json").symlink_to(tmp_path / "away.json")
    read = frame.load(tmp_path)
    assert math.isnan(read.runs["reference"][0])
    assert "is a symbolic link" in read.troubles[0]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(problem=TEXTS, method=TEXTS, phi=st.floats(-1e300, 1e300), seed=st.none() | st.integers(0, 2**53))
def test_what_is_written_is_read_again(problem, method, phi, seed):
    made = reference(problem, phi, seed, method=method)
    assert references.loads(references.dumps(made)) == made
    assert "\n" not in references.dumps(made)
    assert "/" not in made.name
    assert "\n" not in made.how


def test_the_shipped_ones_are_sorted_distinct_and_upper_bounds():
    shipped = references.shipped()
    keys = [(one.problem, one.seed or 0) for one in shipped]
    assert keys == sorted(set(keys))
    for one in shipped:
        assert one.how.endswith("; an upper bound")
        assert one.phi_error <= 1e-4 * abs(one.phi)
        assert one.gradients <= one.budget
