"""The statistics of a comparison with figures worked out by hand: every weight, boundary and denominator once."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as theory

from bilevelbench.stats import compare, paired, profiles, sensitivity, targets
from bilevelbench.stats.kinds import advice, kinds_of

from .test_stats import gaps, looks_of, table_of

INF, NAN = math.inf, math.nan


# -- targets


@pytest.mark.parametrize(
    ("values", "middle"),
    [([3, 1], 2), ([4, 1, 2, 3], 2.5), ([5], 5), ([1, 2, 9], 2), ([1, INF], INF), ([1, 2, INF], 2), ([INF, INF], INF)],
)
def test_the_median(values, middle):
    assert targets.median(pd.Series(values)) == middle
    assert math.isnan(targets.median([]))


def test_costs_are_medians_over_seeds_and_ratios_go_to_the_best():
    costs = {("f", "p", k, "a"): [c] for k, c in enumerate([10, 30, 50])}
    costs |= {("f", "p", k, "b"): [c] for k, c in enumerate([60, INF, 20])}
    costs |= {("f", "q", 0, "a"): [INF], ("f", "q", 0, "b"): [INF]}
    hit, _ = table_of(costs)
    cost = targets.costs(hit, "calls").set_index(["problem", "solver"])["cost"]
    assert cost.to_dict() == {("p", "a"): 30, ("p", "b"): 60, ("q", "a"): INF, ("q", "b"): INF}
    ratio = targets.ratios_to_best(targets.costs(hit, "calls"))
    assert ratio[["solver", "ratio"]].to_numpy().tolist() == [["a", 1.0], ["b", 2.0]], "nobody met that of q"
    hit.loc[hit["solver"] == "b", "grads"] = NAN
    assert set(targets.costs(hit, "grads")["solver"]) == {"a"}


def test_a_run_is_left_out_where_it_says_nothing_of_its_solver():
    rows = [("done", ""), ("error", "solver"), ("error", "problem"), ("lost", "machine"), ("unsupported", "")]
    runs = pd.DataFrame(rows, columns=["status", "fault"])
    assert targets.not_run(runs).tolist() == [False, False, True, True, True]
    assert targets.not_run(runs[["status"]]).tolist() == [False] * 4 + [True]


def test_each_measure_has_its_decades_and_is_alone():
    rows = [{"phi_gap": 1.0, "phi": 2.0, "distance": 1.0}, {"phi_gap": 1e-5, "phi": 1.0, "distance": 0.5}]
    hit = targets.hits(*looks_of(bome=rows))
    assert hit["target"].tolist() == [f"phi_gap 1e-{k}" for k in (1, 2, 3, 4, 6, 8)]
    assert np.isfinite(hit["calls"]).tolist() == [True] * 4 + [False] * 2
    runs, looks = looks_of(bome=[{"phi": 3.0}, {"phi": 1.09}, {"phi": 1.001}])
    runs["reference"] = 1.0
    hit = targets.hits(runs, looks)
    assert hit["target"].tolist() == ["phi 1e-1", "phi 1e-2", "phi 1e-3"]
    assert hit["calls"].tolist() == [10, 20, 20], "of the way from 3 to 1: .045, then .0005"
    only = targets.hits(*looks_of(bome=[{"distance": 2.0}, {"distance": 0.2}]))
    assert set(only["measure"]) == {"distance"}
    assert only["calls"].tolist()[:2] == [10, INF]


def test_the_start_is_shared_by_all_runs_of_an_instance():
    runs, looks = looks_of(a=gaps(1.0, 0.05), b=gaps(NAN, 0.05), c=gaps(1.0, 0.2))
    hit = targets.hits(runs, looks).groupby("solver")["calls"].first()
    assert hit.to_dict() == {"a": 10, "b": 10, "c": INF}, "b was not judged at its start, which it shares"


def test_what_is_paid_is_what_the_look_says_in_every_unit():
    runs, looks = looks_of(a=gaps(1.0, 0.5, 0.05), b=gaps(1.0, 0.05))
    looks.loc[looks["run"] == "b", "grads"] = NAN
    first = targets.hits(runs, looks).drop_duplicates("solver").set_index("solver")
    assert first.loc["a", ["calls", "passes", "grads", "seconds"]].tolist() == [20, 40, 20, 0.2]
    assert math.isnan(first.loc["b", "grads"])
    assert math.isnan(first.loc["a", "rows"]), "nobody counted rows"


def test_own_figures_lose_what_falls_back_more_than_half():
    def cost(*values, better="higher", goal=0.75, kind="target"):
        runs, looks = looks_of(bome=[{"figure": value} for value in values])
        runs["aims"] = [{"figure": (goal, better, kind)}]
        found = targets.hits(runs, looks)["calls"].tolist()
        return found[0] if found else None

    assert cost(0.25, 0.75, 0.5) == 10, "half of the way back is still held"
    assert cost(0.25, 0.75, 0.49) == INF
    assert cost(0.25, 0.75, 0.4, 0.8) == 30
    assert cost(0.25, 0.75, kind="bar") == INF, "a bar is to be beaten"
    assert cost(0.25, 0.8, kind="bar") == 10
    assert cost(0.75, 0.9) is cost(0.9, 0.9) is None, "a start that is there sets no target"
    assert cost(0.9, 0.75, better="lower") == 10
    assert cost(0.9, 0.7, 0.86, better="lower") == INF


def test_what_is_left_to_reach_is_measured_on_phi_s_own_scale():
    """A gap of 1e-13 is nothing beside Phi = 1 and much beside Phi = 1e-3; where Phi is 0 the scale is 1."""
    for phi, some in ((1.0, False), (1e-3, True), (0.0, False)):
        rows = [{"phi_gap": 1e-13, "phi": phi}, {"phi_gap": 0.0, "phi": phi}]
        assert (len(targets.hits(*looks_of(bome=rows))) > 0) == some, phi
    assert not len(targets.hits(*looks_of(bome=[{"distance": 1e-13}, {"distance": 0.0}])))
    assert len(targets.hits(*looks_of(bome=[{"distance": 1e-11}, {"distance": 0.0}])))


@pytest.mark.parametrize(("error", "held"), [(0.009, 2), (0.0009, 3), (0.011, 1), (0.05, 1), (0.2, 0)])
def test_a_target_is_as_fine_as_the_error_of_what_is_judged(error, held):
    rows = [{**row, "phi_error": error} for row in gaps(1.0, 0.0)]
    hit = targets.hits(*looks_of(bome=rows))
    assert int(np.isfinite(hit["calls"]).sum()) == held
    assert hit["unjudged"].sum() == len(hit) - held


def test_a_run_without_looks_has_passed_nothing_and_hangs_on_nothing():
    runs, looks = looks_of(a=gaps(1.0, 0.05, 0.3), b=gaps(1.0, 0.5))
    hit = targets.hits(runs, looks[looks["run"] == "a"]).set_index(["solver", "target"])
    assert hit.loc[("a", "phi_gap 1e-1"), "passed"]
    assert not hit.loc[("b", "phi_gap 1e-1"), ["passed", "unjudged"]].any()


def test_what_hangs_on_the_judge():
    """Of what is held only the last look counts; of what is not, any."""
    blind = {"unjudged": "no digits"}
    early = targets.hits(*looks_of(bome=[*gaps(1.0), blind, *gaps(0.05)]))["unjudged"].tolist()
    late = targets.hits(*looks_of(bome=[*gaps(1.0, 0.05), blind]))["unjudged"].tolist()
    assert early == [False] + [True] * 5
    assert late == [True] * 6


# -- weights, means, intervals


def table_with(seeds, fixed=()):
    rows = [(p, k, "f", p in fixed) for p, n in seeds.items() for k in range(n)]
    return pd.DataFrame(rows, columns=["problem", "seed", "family", "fixed"])


def test_means_are_over_what_is_there():
    whole = paired.Instances(table_with({"p": 2}), np.array([0.25, 0.75]))
    assert whole.centre(np.array([[1.0, 4.0], [5.0, NAN]])).tolist() == [4.0, 4.0]
    assert math.isnan(whole.centre(np.array([[NAN], [NAN]]))[0])
    assert whole.mean(np.array([NAN, 7.0]))[0] == 7.0
    assert all(map(math.isnan, whole.mean(np.array([NAN, NAN]))))


def test_the_error_of_several_problems():
    """Two of three instances, one of one, one that the seed does not change: the single one has the pooled variance."""
    table = table_with({"a": 3, "b": 3, "c": 1, "d": 2}, fixed={"d"})
    values = np.array([1.0, 2.0, 3.0, 2.0, 6.0, 4.0, 9.0, 5.0, 5.0])
    weight = np.array([1 / 12] * 3 + [1 / 12] * 3 + [1 / 4] + [1 / 8] * 2)
    found, low, high = paired.Instances(table, weight).mean(values)
    pooled = (2 * 1.0 + 2 * 4.0) / 4
    terms = np.array([1.0 / 3, 4.0 / 3, pooled / 1, 0]) / 16
    total = terms.sum()
    freedom = total**2 / (terms[0] ** 2 / 2 + terms[1] ** 2 / 2 + terms[2] ** 2 / 4)
    reach = math.sqrt(total) * theory.t.ppf(0.975, freedom)
    assert found == pytest.approx(weight @ values)
    assert (low, high) == pytest.approx((found - reach, found + reach))
    wide = paired.Instances(table, weight).mean(values, 0.99)
    assert wide[2] - wide[0] == pytest.approx(math.sqrt(total) * theory.t.ppf(0.995, freedom))


def test_without_four_differences_there_is_no_interval():
    values = np.arange(6.0)
    enough = paired.Instances(table_with({"a": 3, "b": 3}), np.full(6, 1 / 6)).mean(values)
    assert enough[1] < enough[0] < enough[2]
    few = paired.Instances(table_with({"a": 3, "b": 2, "c": 1}), np.full(6, 1 / 6)).mean(values)
    assert few[0] == pytest.approx(2.5)
    assert math.isnan(few[1])
    still = paired.Instances(table_with({"a": 3, "b": 3}, fixed="ab"), np.full(6, 1 / 6)).mean(np.r_[1.0:1:3j, 2, 2, 2])
    assert still == (1.5, 1.5, 1.5)


def test_an_unseeded_problem_is_fixed():
    hit, runs = table_of({("f", "p", 0, "a"): [1], ("f", "q", 0, "a"): [1]})
    runs["seeded"] = runs["problem"] == "p"
    assert paired.instances(hit, runs).table["fixed"].tolist() == [False, True]
    assert paired.instances(hit, runs.drop(columns="seeded")).table["fixed"].tolist() == [False, False]


# -- the field and its lead

PAIR = {("f", "p", k, s): [c] for k in range(5) for s, c in (("a", 100), ("b", 130))}


def test_what_is_paid_is_capped_below_and_targets_that_nobody_holds_are_left_out():
    costs = {("f", "p", 0, "a"): [0.0, INF], ("f", "p", 0, "b"): [10.0, INF]}
    field = paired.Field(*table_of(costs, budget=1000.0), "calls")
    assert np.exp(field.log).tolist()[0] == pytest.approx([1e-6, 10.0])
    assert field.ratio("a", "b")[0] == pytest.approx(1e7)
    assert field.over("b", "a")[0] == pytest.approx(math.log(1e-7))
    assert (field.unit, field.by) == ("calls", "calls")


def test_against_the_field_is_the_geometric_mean_of_the_others():
    costs = {("f", "p", k, s): [c] for k in range(5) for s, c in (("a", 10), ("b", 20), ("c", 80), ("d", 10))}
    field = paired.Field(*table_of(costs), "calls")
    assert field.against_field("a")[0] == pytest.approx((2 * 8 * 1) ** (1 / 3))
    assert field.against_field("a", {"b", "c", "a"})[0] == pytest.approx(4)
    assert all(map(math.isnan, field.against_field("a", {"a"})))


def test_resamples_have_the_weights_for_mean_and_are_the_same_each_time():
    costs = {(f, f"{f}{p}", k, "a"): [1] for f in "xyz" for p in range(2) for k in range(3)}
    field, again = (paired.Field(*table_of(costs), "calls", resamples=4000) for _ in range(2))
    np.testing.assert_array_equal(field.draws, again.draws)
    assert field.draws.shape == (4000, 18)
    np.testing.assert_allclose(field.draws.mean(axis=0), field.of.weight, rtol=0.1)
    family = field.draws.reshape(4000, 3, 6).sum(axis=2) / field.of.weight.sum() * 3
    drawn = np.unique(np.round(family[:, 0], 6))
    assert 0.0 in drawn, "of three families two are drawn, with what is left out at 0"
    own = paired._drawn(np.random.default_rng(1), 2000, np.arange(3), np.arange(3))
    assert {*np.unique(own)} == {0.0, 1.5, 3.0}
    assert paired._drawn(np.random.default_rng(1), 3, np.arange(1), np.zeros(2, int)).tolist() == [[1, 1]] * 3
    assert {*np.unique(paired._drawn(np.random.default_rng(1), 50, np.arange(2), np.arange(2)))} == {0.0, 2.0}


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_leads_of_all_pairs_at_once_are_those_of_each(factor):
    """Where a solver took no part pairs are compared one by one; with all there the same comes of both ways."""
    rng = np.random.default_rng(0)
    costs = {
        (f"family{k % 2}", f"problem{k}", seed, solver): [int(rng.integers(50, 150))]
        for k in range(4) for seed in range(5) for solver in "abcd"
    }  # fmt: skip
    field, each = (paired.Field(*table_of(costs), "calls") for _ in range(2))
    assert field._means is not None
    each._means = None
    for one in "abcd":
        found = field.leads(one, factor)
        assert 0 < found.mean() < 1
        np.testing.assert_array_equal(found, each.leads(one, factor))
    costs.pop(next(iter(costs)))
    assert paired.Field(*table_of(costs), "calls")._means is None


def test_a_lead_is_more_than_a_tenth():
    field = paired.Field(*table_of(PAIR), "calls")
    assert field.leads("a").all(axis=0).tolist() == [True, True], "and true for itself"
    assert field.leads("b").any(axis=0).tolist() == [False, True]
    near = {key: [109] if key[3] == "b" else own for key, own in PAIR.items()}
    tied = paired.standing(paired.Field(*table_of(near), "calls"))
    assert (tied.winner, tied.among, tied.lead) == ("", ["a", "b"], {"a": 0.0, "b": 0.0})
    found = paired.standing(field)
    assert (found.winner, found.among, found.lead) == ("a", ["a"], {"a": 1.0, "b": 0.0})
    assert (found.instances, found.families) == (5, 1)


def test_one_solver_alone_leads_nobody():
    alone = paired.standing(paired.Field(*table_of({("f", "p", k, "a"): [1] for k in range(6)}), "calls"))
    assert (alone.winner, alone.among, alone.instances) == ("", ["a"], 6)


def test_half_of_the_weight_is_enough_to_take_part():
    costs = PAIR | {("g", "q", k, s): [c] for k in range(5) for s, c in (("a", 100), ("c", 500))}
    field = paired.Field(*table_of(costs), "calls")
    assert field.taken.tolist() == [1.0, 0.5, 0.5]
    assert set(paired.standing(field).lead) == {"a", "b", "c"}
    assert paired.cheapest(field, ["a", "b", "c"]) == "a", "b and c never met: neither is cheaper than all"
    assert paired.cheapest(field, ["b", "c"]) == "b"


def test_who_is_cheapest_is_cheaper_than_each():
    costs = {("f", "p", k, s): [c] for k in range(5) for s, c in (("a", 30), ("b", 10), ("c", 20))}
    assert paired.cheapest(paired.Field(*table_of(costs), "calls"), ["a", "b", "c"]) == "b"
    assert paired.cheapest(paired.Field(*table_of(costs), "calls"), ["c", "a"]) == "c"


# -- the tables


def described(hit, runs, **columns):
    """What the tables of leaders take of runs, beside what ``table_of`` has."""
    known = {
        "status": "done", "fault": "", "order": 1, "peak_bytes": 800.0, "n_y": 10, "dtype": "float64", "device": "cpu",
        "cpu_seconds": 2.0, "floor_seconds": 1.0, "seconds": 3.0,
    }  # fmt: skip
    return hit, runs.assign(**known | columns)


def test_leaders_by_hand():
    costs = {("f", "p", k, "a"): [100, 100] for k in range(5)} | {("f", "p", k, "b"): [400, INF] for k in range(5)}
    hit, runs = described(*table_of(costs))
    runs.loc[runs["solver"] == "b", ["status", "fault", "order", "dtype"]] = ["diverged", "solver", 2, "float32"]
    extra = runs.iloc[[0, 1]].assign(solver=["b", "c"], status=["lost", "unsupported"], fault=["machine", ""])
    found = compare.compare(pd.concat([runs, extra]), hit).leaders.set_index("solver")
    assert found.index.tolist() == ["a", "b", "c"]
    assert found["cost"].tolist()[:2] == pytest.approx([1, math.sqrt(400 * 10_000) / 100])
    assert found["lead"].tolist()[:2] == [1.0, 0.0]
    assert found["share"].tolist()[:2] == [1.0, 0.5]
    assert found[["reached", "targets", "runs", "failed", "unsupported", "excused"]].to_numpy().tolist() == [
        [10, 10, 5, 0, 0, 0], [5, 10, 5, 5, 0, 1], [0, 0, 0, 0, 1, 0]
    ]  # fmt: skip
    assert found["vectors"].tolist()[:2] == [10, 20], "peak bytes over those of y"
    assert found["order"].tolist() == [1, 2, 1]
    assert found["over_floor"].tolist()[:2] == [2, 2]
    assert found["calls_ratio"].tolist()[:2] == pytest.approx([1, INF])
    assert found["taken"].tolist()[:2] == [1, 1]
    mixed = {("f", "p", k, "a"): [100, INF if k < 2 else 100] for k in range(5)}
    row = compare.compare(*described(*table_of(mixed))[::-1]).leaders.iloc[0]
    assert 0 < row["low"] < row["share"] == 0.8 < row["high"] <= 1, "the interval is cut to what a share can be"


def test_over_the_floor_takes_cpu_seconds_on_the_cpu_and_leaves_out_what_has_none():
    row = {"device": "cpu", "cpu_seconds": 2.0, "seconds": 30.0, "floor_seconds": 1.0}
    rows = [
        row,
        row | {"device": "cuda"},
        row | {"floor_seconds": 0.0},
        row | {"cpu_seconds": 0.0},
        row | {"cpu_seconds": 4.0},
    ]
    assert compare._over_floor(pd.DataFrame(rows)) == 4.0
    assert math.isnan(compare._over_floor(pd.DataFrame(rows[2:4])))


def test_what_is_held_of_each_problem():
    costs = {("f", "p", 0, "a"): [1, INF], ("f", "p", 1, "a"): [1, 1], ("f", "q", 0, "b"): [INF]}
    table = compare.reached(table_of(costs)[0])
    assert table.loc["p", "a"] == 0.75
    assert table.loc["q", "b"] == 0.0
    assert math.isnan(table.loc["q", "a"])


def test_duels_count_families_beyond_a_tenth_and_name_the_worst_first():
    costs = {}
    for family, (b, c) in {"x": (200, 100), "y": (105, 50), "z": (90, 100)}.items():
        for k in range(5):
            costs |= {(family, family, k, s): [n] for s, n in (("a", 100), ("b", b), ("c", c))}
    hit, runs = table_of(costs)
    found = compare.Comparison(pd.DataFrame(), {}, {"calls": paired.Field(hit, runs, "calls")}, {})
    table = compare.duels(found, hit, "a")
    assert table["solver"].tolist() == ["c", "b"]
    assert table.index.tolist() == [0, 1]
    assert table[["wins", "ties", "losses"]].to_numpy().tolist() == [[0, 2, 1], [1, 1, 1]]
    assert table["ratio"].tolist() == pytest.approx([0.5 ** (1 / 3), (2 * 1.05 * 0.9) ** (1 / 3)])
    assert table["only_one"].tolist() == table["only_other"].tolist() == [0, 0]
    assert not len(compare.duels(found, hit, "a", by="seconds"))


def test_the_mean_by_family_lets_problems_weigh_alike():
    costs = {("x", "x1", k, s): [c] for k in range(3) for s, c in (("a", 1), ("b", 2))}
    costs |= {("x", "x2", 0, s): [c] for s, c in (("a", 1), ("b", 8))}
    field = paired.Field(*table_of(costs), "calls")
    assert compare.families(field, field.over("a", "b")).to_dict() == pytest.approx({"x": math.log(4)})


def test_other_weighings_are_counted_and_what_could_not_be_judged_is_granted():
    costs = {(f, f, k, s): [c] for f in "xy" for k in range(6) for s, c in (("a", 100), ("b", INF))}
    hit, runs = table_of(costs)
    fields = {"calls": paired.Field(hit, runs, "calls")}
    found = compare.Comparison(pd.DataFrame(), {"calls": paired.standing(fields["calls"])}, fields, {})
    assert compare.stability(runs, hit, found) == (5, []), "each family, problems alike, both halves of the seeds"
    turned = hit.assign(calls=hit["calls"].where(hit["seed"] % 2 == 0, np.where(hit["solver"] == "a", INF, 100.0)))
    assert ("with the other seeds", "b") in compare.stability(runs, turned, found).otherwise
    blind = hit.assign(unjudged=hit["solver"] == "b")
    assert compare.stability(runs, blind, found) == (6, [("with all that could not be judged held at once", "")])
    assert compare._granted(blind)["calls"].tolist() == [100.0] * 24
    one = {key: own for key, own in costs.items() if key[0] == "x" and key[2] == 0}
    alone, of_alone = table_of(one)
    lonely = found._replace(fields={"calls": paired.Field(alone, of_alone, "calls")})
    assert compare.stability(of_alone, alone, lonely).tried == 0
    assert compare.stability(runs, hit, found._replace(standings={})) == (0, [])


# -- profiles, kinds, sensitivity


def test_a_curve_has_a_step_for_each_value():
    table = pd.DataFrame({"solver": ["a"] * 4, "cost": [3.0, 1.0, 3.0, 2.0], "weight": [0.1, 0.2, 0.3, 0.1]})
    np.testing.assert_allclose(profiles.curve(table, "cost")["a"], [[1.0, 0.2], [2.0, 0.3], [3.0, 0.7]])
    assert profiles.curve(table.iloc[:0], "cost") == {}


def test_targets_weigh_alike_within_an_instance_whoever_holds_them():
    costs = {("f", "p", 0, "a"): [0.0, 8, INF, INF], ("f", "p", 0, "b"): [6.0, 4, INF, INF], ("g", "q", 0, "a"): [5]}
    table = profiles.weighed(*table_of(costs), "calls")
    assert table.set_index(["problem", "solver"])["weight"].to_dict() == {
        ("p", "a"): 0.125, ("p", "b"): 0.125, ("q", "a"): 0.5
    }  # fmt: skip
    assert table.set_index(["problem", "target", "solver"])["ratio"].to_dict() == {
        ("p", "t0", "a"): 0, ("p", "t0", "b"): 6, ("p", "t1", "a"): 2, ("p", "t1", "b"): 1, ("q", "t0", "a"): 1
    }  # fmt: skip


def test_ties_on_the_front_are_both_on_it():
    columns = {"lead": [0.0] * 4, "cost": [1, 1, 2, 2.0], "vectors": [5, 5, 5, 4.0]}
    found = profiles.pareto(pd.DataFrame({"solver": list("abcd"), **columns}))
    assert found["best"].tolist() == [True, True, False, True]
    assert list(found) == ["solver", "cost", "vectors", "best"]


@pytest.mark.parametrize(("n", "names"), [(100, {"small"}), (101, {"large", "many upper"})])
def test_more_than_a_hundred_variables_are_many(n, names):
    assert {kind.name for kind in kinds_of({"flags": ["strongly_convex"], "n_y": n, "n_x": n, "n_g": 1})} == names


def test_finite_sums_have_more_than_one_row():
    assert [kind.name for kind in kinds_of({"n_g": 2})] == ["rows"]
    assert kinds_of({"n_g": 1}) == kinds_of({"n_g": None}) == []


def test_advice_is_by_cost_and_says_what_it_rests_on():
    costs = {("f", p, k, s): [c] for p in "pq" for k in range(5) for s, c in (("a", 100), ("b", 50), ("c", 104))}
    hit, runs = described(*table_of(costs))
    found = compare.compare(runs, hit)
    table = advice(runs, hit, found, {"p": {"n_g": 2}, "q": {"n_g": 2}, "r": {"n_g": 1}})
    assert table["kind"].unique().tolist() == ["rows"]
    assert table["solver"].tolist() == ["b", "a", "c"]
    assert table["cost"].tolist() == pytest.approx([1, 2, 2.08])
    assert table[["leads", "among"]].to_numpy().tolist() == [[True, True], [False, False], [False, False]]
    assert table[["problems", "families", "instances"]].to_numpy().tolist() == [[2, 1, 10]] * 3
    assert table["vectors"].tolist() == [10] * 3
    few = hit[(hit["problem"] == "q") | (hit["seed"] < 0)]
    assert len(advice(runs, few, found, {"p": {"n_g": 2}})) == 0


def test_a_step_is_told_by_the_power_of_two_that_is_nearest():
    steps = [
        {"lr": lr, "instances": 2, "score": lr, "share": 0.5, "cost": 1.0, "chosen": lr == 3.0}
        for lr in (1.5, 3.0, 6.1)
    ]
    lines = [
        {"problem": "p", "asked": "bome(T=2)", "solver": "bome", "steps": steps},
        {"problem": "p", "asked": "itd", "solver": "itd", "steps": [step | {"chosen": False} for step in steps]},
    ]
    table = sensitivity.table(lines)
    assert table[["problem", "solver", "factor", "share", "score", "instances"]].to_numpy().tolist() == [
        ["p", "bome", 0.5, 0.5, 1.5, 2], ["p", "bome", 1.0, 0.5, 3.0, 2], ["p", "bome", 2.0, 0.5, 6.1, 2]
    ]  # fmt: skip
    assert list(sensitivity.curves(table, {}).columns) == [2.0**k for k in range(-4, 5)]
