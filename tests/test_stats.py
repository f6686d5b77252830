"""Targets, costs and shares."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.stats import compare, targets
from bilevelbench.stats.intervals import share_interval
from bilevelbench.store.frame import load
from tests.results_factory import write_run

numbers = st.lists(st.one_of(st.floats(0, 1e9), st.just(math.inf)), min_size=1, max_size=30)


@given(numbers)
def test_median_is_order_free_and_infinite_when_half_is(values):
    found = targets.median(np.array(values))
    assert found == targets.median(np.array(values[::-1]))
    finite = sum(map(math.isfinite, values))
    if 2 * finite > len(values):
        assert math.isfinite(found)
    if 2 * finite < len(values):
        assert math.isinf(found)
    assert min(values) <= found <= max(values)


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=12), min_size=1, max_size=4))
def test_the_interval_holds_the_share(strata):
    arrays = [np.array(s) for s in strata]
    low, high = share_interval(arrays)
    mean = float(np.mean([s.mean() for s in arrays]))
    assert 0 <= low <= high <= 1
    assert low - 0.35 <= mean <= high + 0.35


def test_no_interval_with_fewer_than_five_runs():
    assert share_interval([np.array([0.1, 0.2, 0.3, 0.4])]) is None
    assert share_interval([np.array([0.1])]) is None
    assert share_interval([np.array([0.5]), np.linspace(0, 1, 6)]) is not None


def table(tmp_path):
    data = load(tmp_path)
    return data.runs, targets.hits(data.runs, data.looks)


def test_first_hits_are_the_first_look_that_meets_a_target(tmp_path):
    write_run(tmp_path, gaps=(2.0, 0.3, 0.19, 0.5, 0.0001))
    _, hit = table(tmp_path)
    calls = dict(zip(hit["decade"], hit["calls"], strict=True))
    assert calls == {1: 20.0, 2: 40.0, 3: 40.0, 4: 40.0, 6: math.inf, 8: math.inf}


def test_a_flat_place_above_the_start_and_a_look_that_diverged_reach_nothing():
    runs = pd.DataFrame({"run": ["a", "b"], "problem": "p", "solver": ["s", "t"], "seed": 0, "status": "done"})
    look = {"step": 0, "total_calls": 0, "passes": 0, "grads": 0.0, "seconds": 0.0, "status": "running"}
    look |= {"phi": 2.0, "grad_phi": 1.0}
    end = {**look, "step": 1, "total_calls": 10, "grad_phi": 1e-9}
    far, lost, near = {"phi": 2.1}, {"phi": 1.0, "status": "diverged"}, {"phi": 1.0}
    for changes, share in ((far, 0.0), (lost, 0.0), (near, 1.0)):
        looks = pd.DataFrame([{**row, "run": run} for run in "ab" for row in (look, {**end, **changes})])
        assert np.isfinite(targets.hits(runs, looks)["calls"]).mean() == share


def test_a_measure_with_nothing_left_to_reach_sets_no_targets(tmp_path):
    write_run(tmp_path, gaps=(0.0, 0.0), extra={"grad_phi": 0.0, "distance": 1.0})
    _, hit = table(tmp_path)
    assert set(hit["measure"]) == {"distance"}
    assert not np.isfinite(hit["calls"]).any()
    write_run(tmp_path, "other", gaps=(0.0, 0.0), extra={"grad_phi": 0.0})
    assert "other" not in set(table(tmp_path)[1]["problem"])


def test_unsolved_is_infinite_and_stays_in_the_denominator(tmp_path):
    write_run(tmp_path, solver="good", gaps=(1.0, 1e-9))
    write_run(tmp_path, solver="bad", gaps=(1.0, 0.9))
    write_run(tmp_path, solver="broken", gaps=(1.0, 0.05), status="diverged", reason="x is not finite")
    write_run(tmp_path, solver="absent", gaps=(), status="unsupported", reason="no data")
    runs, hit = table(tmp_path)
    leaders = compare.leaders(runs, hit).set_index("solver")
    assert leaders.loc["good", "share"] == 1.0
    assert leaders.loc["bad", "share"] == 0.0
    assert leaders.loc["bad", "targets"] == 6
    assert math.isinf(leaders.loc["bad", "calls_ratio"])
    assert leaders.loc["broken", "share"] == pytest.approx(1 / 6), "it keeps what it reached before it failed"
    assert leaders.loc["broken", "failed"] == 1
    assert leaders.loc["absent", "runs"] == 0
    assert math.isnan(leaders.loc["absent", "share"])
    assert "absent" not in set(hit["solver"])


def test_the_order_of_files_does_not_matter(tmp_path):
    for seed in range(3):
        write_run(tmp_path, seed=seed, gaps=(1.0, 0.05 / (seed + 1)))
        write_run(tmp_path, seed=seed, solver="itd", gaps=(1.0, 0.2), order=2)
    data = load(tmp_path)
    one = compare.leaders(data.runs, targets.hits(data.runs, data.looks))
    mixed = data.looks.sample(frac=1, random_state=0)
    other = compare.leaders(data.runs.sample(frac=1, random_state=1), targets.hits(data.runs, mixed))
    pd.testing.assert_frame_equal(one, other)


def test_without_phi_star_the_hypergradient_is_the_measure(tmp_path):
    write_run(tmp_path, metric="grad_phi", gaps=(1.0, 0.05, 0.0001), extra={"phi": 2.0})
    _, hit = table(tmp_path)
    assert set(hit["measure"]) == {"grad_phi"}
    assert list(hit["decade"]) == [1, 2, 3]


def test_duels_are_at_the_hardest_target_that_either_reaches(tmp_path):
    write_run(tmp_path, solver="bome", gaps=(1.0, 0.05, 0.04, 0.03))
    write_run(tmp_path, solver="itd", gaps=(1.0, 0.5, 0.05, 0.0005), order=2)
    _, hit = table(tmp_path)
    (row,) = compare.duels(hit, "bome", ["itd"], "calls").itertuples()
    assert row.decade == 3
    assert math.isinf(row.cost)
    assert row.best == 30
