"""What is said of the data sets: counted rightly, true of the files, shown, and heeded by the clean splits."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hilbert
from scipy.sparse import csr_matrix

from bilevelbench import Draw, RequestError, build_problem
from bilevelbench.cli import cli
from bilevelbench.data import count, find
from bilevelbench.data.facts import FACTS, behind
from bilevelbench.problems import fair, logistic, svm

needs_libsvm = pytest.mark.skipif(
    not (Path(os.environ.get("BILEVELBENCH_DATA", "nowhere")) / "libsvm").is_dir(), reason="no $BILEVELBENCH_DATA"
)
needs_all = pytest.mark.skipif(
    not (Path(os.environ.get("BILEVELBENCH_DATA", "nowhere")) / "omniglot-py").is_dir(), reason="no $BILEVELBENCH_DATA"
)

# -- counting

SMALL = st.lists(st.tuples(*[st.integers(-1, 1)] * 3, st.integers(0, 2)), min_size=1, max_size=12)


def labelled(rows):
    array = np.array(rows)
    return csr_matrix(array[:, :3].astype(float)), array[:, 3]


@given(SMALL, SMALL)
def test_counts_are_those_of_lists_of_rows(train, test):
    found = count.facts(labelled(train), labelled(test))
    inputs = [row[:3] for row in train]
    labels = {row[:3]: {other[3] for other in train if other[:3] == row[:3]} for row in train}
    assert found.duplicates == sum(row in inputs[:k] for k, row in enumerate(inputs))
    assert found.contradicted == sum(len(labels[row]) > 1 for row in inputs)
    assert found.empty == inputs.count((0, 0, 0))
    assert found.rank == np.linalg.matrix_rank(np.array(inputs))
    assert found.stretches == sum(k == 0 or row[3] != train[k - 1][3] for k, row in enumerate(train))
    assert found.test_seen == sum(row[:3] in labels for row in test)
    assert found.test_other == sum(row[:3] in labels and row[3] not in labels[row[:3]] for row in test)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([(40, 12), (12, 40)]))
def test_the_rank_of_a_sparse_product_is_found_whatever_the_scale_of_its_columns(seed, rank, shape):
    rng = np.random.default_rng(seed)
    product = rng.integers(-2, 3, (shape[0], rank)) @ rng.integers(-2, 3, (rank, shape[1]))
    scaled = csr_matrix(product * 10.0 ** rng.integers(-4, 5, shape[1]))
    assert count.rank(scaled) == np.linalg.matrix_rank(product)


def test_a_rank_that_cannot_be_told_is_not_told():
    assert count.rank(csr_matrix(hilbert(14))) is None
    assert count.rank(csr_matrix((3, 4))) == 0
    assert count.rank(csr_matrix(([0.0, 1.0], ([0, 1], [0, 1])))) == 1  # a zero that is stored


def test_rows_are_the_same_to_nine_decimals_and_only_then():
    rows = csr_matrix([[1 / 3, 0.0], [1 / 3 + 1e-14, 0.0], [1 / 3 + 1e-8, 0.0], [0.0, 1 / 3]])
    assert count.seen(rows[1:], rows[:1]).tolist() == [True, False, False]


def test_the_expected_stretches_are_those_of_shuffled_labels():
    labels = np.repeat([0, 1, 2], [200, 50, 150])
    rows = csr_matrix((len(labels), 1))
    rng = np.random.default_rng(0)
    mean = np.mean([count.facts((rows, rng.permutation(labels))).stretches for _ in range(200)])
    found = count.facts((rows, labels))
    assert found.shuffled == pytest.approx(mean, rel=0.02)
    assert found.stretches == found.classes == 3
    assert "sorted by class" in found.clauses()


# -- the files


def test_every_data_set_of_the_sources_has_its_facts():
    """A file of test rows belongs to the set before it; of Fashion-MNIST no copy was at hand to count."""
    sets = {n for n in find.SOURCES if n not in ("libsvm", "fashion")} | {
        file.name for file in find.SOURCES["libsvm"].files
    }
    assert set(FACTS) == sets - {"a9a.t"}
    paths = [path for source in find.SOURCES.values() for file in source.files for path in file.paths]
    assert {path for facts in FACTS.values() for path in facts.files} <= set(paths)
    assert all(facts.files for facts in FACTS.values())


def compared(name):
    assert count.counted(name) == FACTS[name]._replace(note="", files=())


@needs_libsvm
@pytest.mark.data
@pytest.mark.parametrize("name", ["a9a", "w8a", "australian", "breast-cancer_scale", "letter.scale"])
def test_the_facts_of_small_files(name):
    compared(name)


@needs_all
@pytest.mark.data
@pytest.mark.full(sibling="test_the_facts_of_small_files")
@pytest.mark.parametrize("name", ["mnist", "omniglot", "newsgroups"])
def test_the_facts_of_large_files(name):
    compared(name)


def test_the_known_figures_stand():
    """As counted by others, from the files' text."""
    a9a, w8a = FACTS["a9a"], FACTS["w8a"]
    assert round(100 * a9a.test_seen / a9a.test_rows) == 34
    assert (a9a.test_other, a9a.rank, a9a.features) == (634, 108, 123)
    assert (w8a.empty, w8a.rank, w8a.features) == (4203, 266, 300)


@needs_libsvm
@pytest.mark.data
def test_the_first_feature_of_breast_cancer_is_a_number_of_its_samples():
    """Steps between three samples' numbers, as UCI's file has them; and the twins that the number hides."""
    rows = find.libsvm("breast-cancer_scale")[0]
    first = rows[:3, 0].toarray().ravel()
    assert np.diff(first)[0] / np.diff(first)[1] == pytest.approx((1002945 - 1000025) / (1015425 - 1002945), rel=2e-3)
    repeats = len(set(count.keys(rows))) - len(set(count.keys(rows[:, 1:])))
    assert f"{repeats + FACTS['breast-cancer_scale'].duplicates} rows repeat" in FACTS["breast-cancer_scale"].note


def test_data_list_says_what_each_set_is_like():
    done = CliRunner().invoke(cli, ["data", "list"])
    assert done.exit_code == 0
    for facts in FACTS.values():
        assert f"  {facts.clauses()}\n" in done.output
    for words in ("5528 of 16281 test rows occur in training, 634 only with another label", "4203 are empty"):
        assert words in done.output


def test_the_files_that_a_run_read_tell_its_data():
    assert behind(["/home/x/data/libsvm/a9a", "C:\\data\\20newsgroups\\20news-bydate_py3.pkz"]) == [
        f"{name}: {FACTS[name].clauses()}" for name in ("a9a", "newsgroups")
    ]
    assert behind(["/home/x/a9a", "/home/x/mylibsvm/a9a", "/home/x/libsvm/a9a.t", "~/problem.py"]) == []


# -- clean splits


def test_twins_of_training_rows_are_left_out_of_what_comes_after():
    matrix = csr_matrix([[1.0, 5.0], [2.0, 6.0], [3.0, 5.0], [4.0, 7.0], [5.0, 7.0]])
    assert svm.without_twins(matrix, np.array([0, 1, 2, 3, 4]), 2).tolist() == [0, 1, 3, 4]
    assert svm.without_twins(matrix, np.array([3, 1, 2, 4, 0]), 1).tolist() == [3, 1, 2, 0]


@needs_libsvm
@pytest.mark.data
def test_a_clean_svm_has_the_training_rows_of_the_other_and_no_room_for_more_than_is_left():
    plain, clean = (build_problem(f"svm(n=100,m=100,clean={c})", Draw(0)) for c in (False, True))
    x, y = plain.x0, plain.y0
    assert (plain.h_g(x, y) == clean.h_g(x, y)).all()
    assert float(plain.f(x, y)) != pytest.approx(float(clean.f(x, y)), rel=1e-9)
    with pytest.raises(RequestError, match="have no twin"):
        build_problem("svm(n=300,m=380,clean=True)", Draw(0))


@needs_libsvm
@pytest.mark.data
def test_the_clean_split_of_a9a_has_the_validation_rows_that_training_has_not():
    rows, labels, rest, marks = logistic._parts((), True)
    facts = FACTS["a9a"]
    assert (len(labels), len(marks)) == (facts.rows, facts.test_rows - facts.test_seen)
    assert not count.seen(csr_matrix(rest), csr_matrix(rows)).any()
    assert len(logistic._parts(())[3]) == facts.test_rows


@needs_libsvm
@pytest.mark.data
def test_the_clean_split_of_fair_has_no_training_row_elsewhere():
    def twins(parts):
        train, *rest = (csr_matrix(part.inputs) for part in parts)
        return [int(count.seen(part, train).sum()) for part in rest]

    plain, clean = (fair._a9a(Draw(0), 400, c) for c in (False, True))
    assert twins(plain) == [6, 305]  # as the problem's page says
    assert twins(clean) == [0, 0]
    assert (clean[0].inputs == plain[0].inputs).all()
    assert (len(clean[1].labels), len(clean[2].labels)) == (400, len(plain[2].labels) - 305)
    with pytest.raises(ValueError, match="do not occur in training"):
        fair._a9a(Draw(0), 16000, True)
