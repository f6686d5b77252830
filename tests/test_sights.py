"""Whether runs saw one problem: by digests on one machine, by numbers between machines."""

import pandas as pd
import pytest

from bilevelbench.store.sights import Sight, _classes, _some, _unlike, close, sights

HERE = Sight("d", "c", "m", "1 thread", (1.0, None))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""), ({"drawn": "e"}, "what was drawn"), ({"drawn": ""}, ""),
        ({"computed": "e"}, "what was computed from the draws"), ({"computed": ""}, ""),
        ({"computed": "e", "machine": "n"}, ""), ({"computed": "e", "on": "2 threads"}, ""),
        ({"numbers": (1.0 + 1e-8, None)}, "f or g at the start"), ({"numbers": (1.0 + 1e-10, None)}, ""),
        ({"numbers": ()}, ""), ({"numbers": (1.0,)}, "f or g at the start"),
        ({"numbers": (None, None)}, "f or g at the start"), ({"numbers": (1.0, 1.0)}, "f or g at the start"),
    ],
)  # fmt: skip
def test_what_tells_two_sights_apart(change, words):
    other = HERE._replace(**change)
    assert _unlike(HERE, other) == _unlike(other, HERE) == words


def test_numbers_agree_to_nine_digits():
    assert close((0.0,), (0.0,))
    assert not close((0.0,), (1e-300,))
    assert close((1e10,), (1e10 + 1,))


def test_classes_are_of_one_problem_each():
    a, b, c = HERE, HERE._replace(drawn="e"), HERE._replace(drawn="")
    assert _classes([a, b, c]) == [([a, c], ""), ([b], "what was drawn")]
    assert _classes([]) == []


def frame(*rows):
    usual = {"version": "1", "device": "cpu", "dtype": "float64", "seed": 0, **HERE._asdict()}
    return pd.DataFrame([usual | row for row in rows])


def test_the_most_frequent_sight_is_the_first_and_seeds_are_named():
    odd = {"drawn": "e"}
    numbers, words = sights(frame(odd, {}, {}, {"seed": 1}, {"seed": 1, "numbers": (2.0, None)}))
    assert numbers == [2, 1, 1, 1, 2]
    assert words == "f or g at the start differs at seed 1 and what was drawn differs at seed 0"
    assert sights(frame({}, {"seed": 1, "drawn": "e"}, {"device": "cuda", "drawn": "e"})) == ([1, 1, 1], "")


@pytest.mark.parametrize(
    ("seeds", "words"), [([1], "1"), ([*range(5)], "0, 1, 2, 3, 4"), ([*range(6)], "0, 1, 2, 3, 4 and 1 more")]
)
def test_so_many_seeds_are_named(seeds, words):
    assert _some(seeds) == words
