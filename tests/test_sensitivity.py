"""What hangs on a step, from the scores of tuning."""

import pytest

from bilevelbench.stats import sensitivity

STEP = {"instances": 3, "score": 0.5, "cost": 10.0}


def line(problem, solver, shares, chosen=0.1):
    steps = [{"lr": lr, "share": share, "chosen": lr == chosen, **STEP} for lr, share in shares.items()]
    return {"problem": problem, "asked": solver, "solver": f"{solver}(lr={chosen})", "steps": steps}


def test_steps_are_told_as_multiples_of_the_chosen_one():
    found = sensitivity.table([line("p", "bome(T=5)", {0.05: 0.1, 0.1: 0.9, 0.2: 0.3, 0.8: 0.0})])
    assert found["factor"].tolist() == [0.5, 1, 2, 8]
    assert set(found["solver"]) == {"bome"}
    assert not len(sensitivity.table([{**line("p", "lower_only", {}), "steps": []}]))


def test_families_weigh_alike_and_a_knife_edge_shows():
    lines = [
        line("a1", "edge", {0.05: 0.0, 0.1: 1.0, 0.2: 0.0}), line("a2", "edge", {0.05: 0.0, 0.1: 1.0, 0.2: 0.0}),
        line("b", "edge", {0.05: 0.6, 0.1: 0.7, 0.2: 0.6}), line("b", "robust", {0.05: 0.5, 0.1: 0.6, 0.2: 0.5}),
    ]  # fmt: skip
    found = sensitivity.curves(sensitivity.table(lines), {"a1": "a", "a2": "a"})
    assert found.loc["edge", [0.5, 1.0, 2.0]].tolist() == pytest.approx([0.3, 0.85, 0.3])
    ranks = sensitivity.ranks(found)
    assert ranks[1.0].to_dict() == {"edge": 1, "robust": 2}
    assert ranks[0.5].to_dict() == {"edge": 2, "robust": 1}
