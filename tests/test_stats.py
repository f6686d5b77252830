"""Targets, what they cost, and what is concluded from it."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilevelbench.run import worth
from bilevelbench.stats import compare, paired, profiles, targets
from bilevelbench.store.frame import load
from tests.campaigns import verdicts
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


# -- targets


def hits_of(folder):
    data = load(folder)
    return targets.hits(data.runs, data.looks)


def calls(hit, solver="bome"):
    own = hit[hit["solver"] == solver]
    return dict(zip(own["target"], own["calls"], strict=True))


def looks_of(**curves):
    """Runs and looks by hand: for each run, named SOLVER or SOLVER_STATUS, a list of dictionaries of metrics."""
    runs, looks = [], []
    for name, rows in curves.items():
        solver, _, status = name.partition("_")
        fault = {"status": status or "done", "fault": "solver" if status else ""}
        known = {"problem": "p", "family": "f", "seed": 0, "reference": math.nan, "aims": {}}
        runs.append({"run": name, "solver": solver, **fault, **known})
        for step, metrics in enumerate(rows):
            cost = {"total_calls": 10 * step, "passes": 20.0 * step, "grads": 10.0 * step, "seconds": 0.1 * step}
            looks.append({"run": name, "seed": 0, "step": step, "status": "running", "unjudged": "", **cost, **metrics})
    return pd.DataFrame(runs), pd.DataFrame(looks)


def gaps(*values):
    return [{"phi_gap": value, "phi": 1 + value} for value in values]


def test_a_target_costs_what_the_first_look_does_from_which_on_it_is_held(tmp_path):
    write_run(tmp_path, gaps=(2.0, 0.3, 0.19, 0.5, 0.0001))
    found = calls(hits_of(tmp_path))
    assert found == {
        "phi_gap 1e-1": 40.0, "phi_gap 1e-2": 40.0, "phi_gap 1e-3": 40.0, "phi_gap 1e-4": 40.0,
        "phi_gap 1e-6": math.inf, "phi_gap 1e-8": math.inf,
    }  # fmt: skip


def test_a_look_below_twice_the_target_loses_nothing():
    runs, looks = looks_of(
        bome=gaps(1, 0.09, 0.19, 0.05), itd=gaps(1, 0.09, 0.21, 0.05), soba=gaps(1, 0.09, 0.21, 0.15)
    )
    hit = targets.hits(runs, looks)
    assert [calls(hit, name)["phi_gap 1e-1"] for name in ("bome", "itd", "soba")] == [10, 30, math.inf]
    assert hit[hit["passed"]]["solver"].tolist() == ["soba"]


@settings(max_examples=30)
@given(st.lists(st.floats(1e-12, 1e3), min_size=1, max_size=12))
def test_what_is_held_was_met_and_not_lost(values):
    runs, looks = looks_of(bome=gaps(1.0, *values))
    for row in targets.hits(runs, looks).itertuples():
        goal, seen = float(row.target.split()[1]), np.array([1.0, *values])
        if math.isfinite(row.calls):
            at = int(row.calls) // 10
            assert seen[at] <= goal
            assert (seen[at:] <= 2 * goal).all()
        else:
            assert seen[-1] > goal or not (seen <= goal).any()
            assert row.passed == bool((seen <= goal).any())


def test_a_run_that_ends_above_its_start_holds_nothing():
    runs, looks = looks_of(soba=gaps(1, 1e-9, 1e-9, 10))
    hit = targets.hits(runs, looks)
    assert not np.isfinite(hit["calls"]).any()
    assert hit["passed"].all()


@pytest.mark.parametrize("status", ["error", "diverged", "oom"])
def test_a_step_that_fails_on_arrival_holds_nothing(status):
    runs, looks = looks_of(**{f"soba_{status}": gaps(1, 1e-9), "bome": gaps(1, 1e-9)})
    hit = targets.hits(runs, looks)
    assert not np.isfinite(hit.loc[hit["solver"] == "soba", "calls"]).any()
    assert np.isfinite(hit.loc[hit["solver"] == "bome", "calls"]).all()


def test_a_run_that_timed_out_holds_what_it_held():
    runs, looks = looks_of(soba_timeout=gaps(1, 0.05))
    assert np.isfinite(targets.hits(runs, looks)["calls"]).sum() == 1


def test_a_start_at_the_optimum_gives_nothing_to_anybody(tmp_path):
    write_run(tmp_path, gaps=(0.0, 0.0), extra={"phi": 3.0})
    write_run(tmp_path, solver="itd", gaps=(1e-16, 0.0), extra={"phi": 3.0})
    assert not len(hits_of(tmp_path))


def test_a_saturating_step_gains_nothing():
    """Its hypergradient vanishes and its Phi is the worst of all: where a diagnostic was the target it came first."""
    flat = [{"phi": 0.69, "grad_phi": 1.0}, {"phi": 0.437, "grad_phi": 1e-9}]
    good = [{"phi": 0.69, "grad_phi": 1.0}, {"phi": 0.386, "grad_phi": 0.01}]
    runs, looks = looks_of(aid=flat, bome=good)
    assert not len(targets.hits(runs, looks)), "nobody knows what is good here"
    runs["reference"] = 0.385
    hit = targets.hits(runs, looks)
    assert calls(hit, "aid") == {"phi 1e-1": math.inf, "phi 1e-2": math.inf, "phi 1e-3": math.inf}
    assert calls(hit, "bome")["phi 1e-2"] == 10


def test_own_figures_against_their_bar_and_target():
    looks = [{"accuracy": value, "loss": 1 - value} for value in (0.5, 0.9, 0.71, 0.8)]
    runs, table = looks_of(bome=looks, itd=[*looks, {"accuracy": 0.6, "loss": 0.4}])
    runs["aims"] = [{"accuracy": (0.8, "higher", "bar"), "loss": (0.2000001, "lower", "target")}] * 2
    hit = targets.hits(runs, table)
    assert calls(hit, "bome") == {"accuracy bar": 10, "loss target": 10}, "a fall by less than half of the way"
    assert calls(hit, "itd") == {"accuracy bar": math.inf, "loss target": math.inf}
    equal = targets.hits(runs, table[table["accuracy"] <= 0.8])
    assert calls(equal, "bome") == {"accuracy bar": math.inf, "loss target": 30}, "a bar is to be beaten, not met"
    runs["aims"] = [{"accuracy": (0.4, "higher", "target")}] * 2
    assert not len(targets.hits(runs, table)), "the start has it already"


def test_what_could_not_be_judged_is_marked_and_not_held():
    dark = [{"phi_gap": math.nan, "phi": math.nan, "unjudged": "the lower level was not solved"}]
    runs, looks = looks_of(bome=gaps(1, 0.5) + dark, itd=gaps(1, 0.05, 0.05))
    hit = targets.hits(runs, looks)
    assert hit.loc[hit["solver"] == "bome", "unjudged"].all()
    assert not hit.loc[hit["solver"] == "itd", "unjudged"].any()
    assert not np.isfinite(hit.loc[hit["solver"] == "bome", "calls"]).any()
    wrong = [{**row, "phi_error": 1e-3} for row in gaps(1, 1e-7)]
    runs, looks = looks_of(bome=wrong)
    hit = targets.hits(runs, looks).set_index("target")
    assert math.isfinite(hit.loc["phi_gap 1e-2", "calls"])
    assert math.isinf(hit.loc["phi_gap 1e-4", "calls"]), "its error is larger than the target"
    assert hit.loc["phi_gap 1e-4", "unjudged"]


LOOK = st.tuples(st.sampled_from([2.0, 1.0, 0.2, 0.1, 0.05, 1e-3, 0.0]), st.sampled_from([0.4, 0.6, 0.7, 0.8, 0.9]))


@settings(max_examples=30)
@given(st.lists(LOOK, min_size=1, max_size=8), st.sampled_from(["bar", "target"]), st.sampled_from([None, 1.0, 0.9]))
def test_tuning_holds_what_the_ranking_holds(values, kind, reference):
    goals = {"accuracy": (0.8, "higher", kind)}
    rows = [{"phi": 1 + gap, "accuracy": accuracy} for gap, accuracy in [(1.0, 0.5), *values]]
    if reference is None:
        rows = [row | {"phi_gap": row["phi"] - 1} for row in rows]
    runs, looks = looks_of(bome=rows)
    runs["aims"], runs["reference"] = [goals], math.nan if reference is None else reference
    ranked = targets.hits(runs, looks)["calls"].tolist()
    found = worth.aims(rows, goals, runs["reference"][0])
    assert [worth.cost(aim, [10.0 * k for k in range(len(rows))]) for aim in found] == ranked
    assert len(found) >= (6 if reference is None else 3)


def test_a_measure_with_nothing_left_to_reach_sets_no_targets(tmp_path):
    write_run(tmp_path, gaps=(0.0, 0.0), extra={"grad_phi": 0.0, "distance": 1.0})
    hit = hits_of(tmp_path)
    assert set(hit["measure"]) == {"distance"}
    assert not np.isfinite(hit["calls"]).any()
    write_run(tmp_path, "other", gaps=(0.0, 0.0), extra={"grad_phi": 0.0})
    assert "other" not in set(hits_of(tmp_path)["problem"])


def test_unsolved_is_infinite_and_stays_in_the_denominator(tmp_path):
    write_run(tmp_path, solver="good", gaps=(1.0, 1e-9))
    write_run(tmp_path, solver="bad", gaps=(1.0, 0.9))
    write_run(tmp_path, solver="broken", gaps=(1.0, 0.05), status="diverged", reason="x is not finite")
    write_run(tmp_path, solver="nowhere", gaps=(), status="error", reason="raised")
    write_run(tmp_path, solver="absent", gaps=(), status="unsupported", reason="no data")
    data = load(tmp_path)
    hit = targets.hits(data.runs, data.looks)
    leaders = compare.compare(data.runs, hit).leaders.set_index("solver")
    assert leaders.loc["good", "share"] == 1.0
    assert leaders.loc["bad", "share"] == 0.0
    assert leaders.loc["bad", "targets"] == leaders.loc["nowhere", "targets"] == 6
    assert math.isinf(leaders.loc["bad", "calls_ratio"])
    assert leaders.loc["broken", "share"] == 0.0
    assert leaders.loc["broken", "passed"] == 1
    assert leaders.loc["broken", "failed"] == 1
    assert leaders.loc["absent", "runs"] == 0
    assert math.isnan(leaders.loc["absent", "share"])
    assert "absent" not in set(hit["solver"])


def test_the_order_of_files_does_not_matter(tmp_path):
    for seed in range(3):
        write_run(tmp_path, seed=seed, gaps=(1.0, 0.05 / (seed + 1)))
        write_run(tmp_path, seed=seed, solver="itd", gaps=(1.0, 0.2), order=2)
    data = load(tmp_path)
    one = compare.compare(data.runs, targets.hits(data.runs, data.looks)).leaders
    assert targets.of(data.runs, data.stored).equals(targets.hits(data.runs, data.looks))
    mixed, shuffled = data.looks.sample(frac=1, random_state=0), data.runs.sample(frac=1, random_state=1)
    other = compare.compare(shuffled, targets.hits(shuffled, mixed)).leaders
    pd.testing.assert_frame_equal(one, other)


# -- weights and paired costs


def table_of(costs, budget=1000.0, seeded=True):
    """Targets and runs by hand: {(family, problem, seed, solver): costs of its targets}."""
    rows = [
        {"family": f, "problem": p, "seed": s, "solver": who, "target": f"t{k}", "run": f"{p}{s}{who}",
         "calls": float(c), "passed": False, "unjudged": False, "passes": 1.0, "grads": float(c), "seconds": float(c)}
        for (f, p, s, who), own in costs.items() for k, c in enumerate(own)
    ]  # fmt: skip
    hit = pd.DataFrame(rows)
    runs = hit[["problem", "seed", "solver"]].drop_duplicates().assign(calls=budget, grads=budget, seeded=seeded)
    return hit, runs


def test_families_weigh_alike_then_problems_then_instances():
    who = {("a", "a1", 0): 1, ("b", "b1", 0): 1, ("b", "b1", 1): 1, ("b", "b2", 0): 1}
    hit, runs = table_of({(*key, "s"): [n] for key, n in who.items()})
    assert paired.instances(hit, runs).weight.tolist() == [1 / 2, 1 / 8, 1 / 8, 1 / 4]
    assert paired.instances(hit, runs, {"a": 3.0}).weight.tolist() == [3 / 4, 1 / 16, 1 / 16, 1 / 8]
    left = paired.instances(hit, runs, {"b": 0.0})
    assert left.weight.tolist() == [1.0]


def test_a_toy_that_is_counted_three_times_weighs_as_much_as_once():
    once = {("toys", "coreset", 0, s): [c] for s, c in (("bome", 100), ("f2sa", 300))}
    rest = {("closed", "quadratic", k, s): [c] for k in range(5) for s, c in (("bome", 200), ("f2sa", 100))}
    thrice = {("toys", f"coreset{k}", 0, s): [c] for k in range(3) for s, c in (("bome", 100), ("f2sa", 300))}
    ratios = [paired.Field(*table_of(rest | toys), "calls").ratio("bome", "f2sa")[0] for toys in (once, thrice)]
    assert ratios[0] == pytest.approx(ratios[1])
    assert ratios[0] == pytest.approx(math.sqrt(3 / 2))


def test_unsolved_costs_ten_budgets():
    costs = {("f", "p", 0, "a"): [100, math.inf], ("f", "p", 0, "b"): [100, 100]}
    field = paired.Field(*table_of(costs, budget=1000), "calls")
    assert field.ratio("b", "a")[0] == pytest.approx(math.sqrt(10_000 / 100))


def test_two_solvers_are_compared_on_what_both_took():
    costs = {("f", "p", 0, "a"): [100], ("f", "p", 0, "b"): [200], ("g", "q", 0, "a"): [1]}
    hit, runs = table_of(costs)
    field = paired.Field(hit, runs, "calls")
    assert field.ratio("a", "b")[0] == pytest.approx(2)
    assert field.taken.tolist() == [1.0, 0.5]
    few = {("f", "p", 0, "c"): [1], **{(f, f"{f}1", 0, s): [9] for f in "gh" for s in "ab"}}
    assert "c" not in paired.standing(paired.Field(*table_of(few | costs), "calls")).lead, "it took too little part"


def test_intervals_by_the_rule_that_the_page_states():
    def spread(values, seeded=True):
        costs = {("f", p, s, "a"): [c] for (p, s), c in values.items()} | {("f", p, s, "b"): [100] for p, s in values}
        _, low, high = paired.Field(*table_of(costs, seeded=seeded), "calls").ratio("a", "b")
        return low, high

    five = {("p", k): 10 * (k + 1) for k in range(5)}
    assert spread(five)[0] < spread(five)[1]
    assert all(map(math.isnan, spread({key: c for key, c in five.items() if key[1] < 4}))), "four instances"
    assert all(map(math.isnan, spread({(f"p{k}", 0): 10 * (k + 1) for k in range(6)}))), "no problem has two"
    low, high = spread({(f"p{k}", 0): 10 for k in range(6)}, seeded=False)
    assert low == high, "the seed changes nothing: nothing is uncertain"
    alone = spread(five | {("q", 0): 50})
    assert alone[0] < alone[1], "a single instance neither voids all nor counts as certain"
    several = spread(five | {("q", k): 50 for k in range(2)})
    assert math.log(alone[1] / alone[0]) > math.log(several[1] / several[0])


def test_the_interval_of_one_problem_is_students():
    values = np.log([10.0, 12.0, 9.0, 30.0, 11.0])
    table = pd.DataFrame({"problem": "p", "seed": range(5), "family": "f", "fixed": False})
    _, low, high = paired.Instances(table, np.full(5, 0.2)).mean(values)
    reach = 2.7764451 * values.std(ddof=1) / math.sqrt(5)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach))


# -- planted: the campaign's cases, fewer times


@pytest.mark.parametrize(("case", "winner"), [("twice as cheap", "s0"), ("two copies", ""), ("1.2 in half", "")])
def test_the_verdict_on_what_was_planted(case, winner):
    found = [verdicts.winner(case, seed) for seed in range(4)]
    assert found.count(winner) == 4


def test_coverage_of_the_intervals():
    low, high = verdicts.band(share := verdicts.coverage("normal", problems=4, seeds=5, trials=300), 300)
    assert low <= 0.95 <= high, share


def test_fewer_than_five_instances_name_nobody():
    costs = {("f", "p", k, s): [c] for k in range(4) for s, c in (("a", 1), ("b", 500))}
    found = paired.standing(paired.Field(*table_of(costs), "calls"))
    assert (found.winner, found.among) == ("", ["a"])
    more = {("f", "p", 4, s): [c] for s, c in (("a", 1), ("b", 500))}
    assert paired.standing(paired.Field(*table_of(costs | more), "calls")).winner == "a"


def test_duels_say_who_pays_how_much_where():
    costs = {
        (f, f, k, s): own
        for f, own_of in (("x", {"a": [10, 10], "b": [20, 20]}), ("y", {"a": [10, math.inf], "b": [10, 10]}))
        for k in range(5) for s, own in own_of.items()
    }  # fmt: skip
    hit, runs = table_of(costs, budget=10)
    found = compare.Comparison(pd.DataFrame(), {}, {"calls": paired.Field(hit, runs, "calls")}, {})
    (row,) = compare.duels(found, hit, "a").to_dict("records")
    assert row["ratio"] == pytest.approx(math.sqrt(2 / math.sqrt(10)))
    assert (row["wins"], row["ties"], row["losses"]) == (1, 0, 1)
    assert (row["only_one"], row["only_other"]) == (0.0, 0.25)
    assert not len(compare.duels(found, hit, "nobody"))


def test_another_winner_under_other_weights_is_found():
    costs = {
        (f, f, k, s): [c]
        for f, pair in (("x", (1, 900)), ("y", (30, 10)), ("z", (30, 10)))
        for k in range(5)
        for s, c in zip("ab", pair, strict=True)
    }
    hit, runs = table_of(costs)
    fields = {"calls": paired.Field(hit, runs, "calls")}
    found = compare.Comparison(pd.DataFrame(), {"calls": paired.standing(fields["calls"])}, fields, {})
    assert found.standings["calls"].winner == ""
    assert ("without x", "b") in compare.stability(runs, hit, found).otherwise


# -- profiles


def test_profiles_are_distributions_over_all_targets():
    costs = {("f", "p", 0, "a"): [10, 100], ("f", "p", 0, "b"): [20, math.inf], ("g", "q", 0, "a"): [5]}
    hit, runs = table_of(costs)
    table = profiles.weighed(hit, runs, "calls")
    found = profiles.curve(table, "cost")
    np.testing.assert_allclose(found["a"], [[5, 0.5], [10, 0.75], [100, 1.0]])
    np.testing.assert_allclose(found["b"], [[20, 0.25]])
    np.testing.assert_allclose(profiles.curve(table, "ratio")["a"], [[1, 1.0]])
    np.testing.assert_allclose(profiles.curve(table, "ratio")["b"], [[2, 0.25]])


def test_the_front_of_cost_and_memory():
    columns = {"lead": [1, 0, 0, np.nan], "cost": [1, 2, 3, 1.0], "vectors": [9, 5, 6, 1]}
    leaders = pd.DataFrame({"solver": list("abcd"), **columns})
    found = profiles.pareto(leaders).set_index("solver")["best"]
    assert found.to_dict() == {"a": True, "b": True, "c": False}


def test_rows_are_what_is_counted_where_they_are_the_budget():
    costs = {("f", "p", 0, "a"): [10], ("f", "p", 0, "b"): [20], ("g", "q", 0, "a"): [10], ("g", "q", 0, "b"): [10]}
    hit, runs = table_of(costs)
    hit["rows"] = np.where(hit["solver"] == "a", 900.0, 100.0)
    runs = runs.assign(rows=5000.0, unit=np.where(runs["problem"] == "p", "rows", "calls"))
    field = paired.Field(hit, runs, "calls")
    assert field.unit == "calls or rows"
    assert field.ratio("a", "b")[0] == pytest.approx(math.sqrt(1 / 9 * 1))
    assert paired.Field(hit[hit["problem"] == "q"], runs, "calls").unit == "calls"
    assert paired.Field(hit, runs, "grads").ratio("a", "b")[0] == pytest.approx(math.sqrt(2))


def test_where_nobody_holds_anything_there_is_still_a_comparison(tmp_path):
    for solver in ("bome", "itd"):
        write_run(tmp_path, solver=solver, gaps=(1.0, 0.9))
    data = load(tmp_path)
    found = paired.instances(targets.hits(data.runs, data.looks).iloc[:0], data.runs)
    assert len(found.table) == len(found.weight) == 0
    assert paired.Field(targets.hits(data.runs, data.looks).iloc[:0], data.runs, "calls").solvers == []
