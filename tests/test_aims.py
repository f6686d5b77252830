"""What a header wants of a problem's own figures."""

import pytest

from bilevelbench.store.aims import aims

LINES = {"a": {"acc": 0.5, "phi": 2.0}, "b": {"acc": 0.75, "phi": 3.0}, "c": {"acc": 0.9}, "d": {"acc": None}}


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ({}, {}),
        ({"target": {"acc": 0.5}}, {}),  # nobody says which way is better
        ({"target": {"acc": 0.5, "loss": None}, "better": {"acc": "higher", "loss": "lower"}},
         {"acc": (0.5, "higher", "target")}),
        ({"bar": {"figure": "acc", "lines": ["a", "b"]}, "references": LINES, "better": {"acc": "higher"}},
         {"acc": (0.75, "higher", "bar")}),
        ({"bar": {"figure": "acc", "lines": ["a", "b"]}, "references": LINES, "better": {"acc": "lower"}},
         {"acc": (0.5, "lower", "bar")}),
        ({"bar": {"figure": "phi", "lines": ["a", "b", "c", "none"]}, "references": LINES},
         {"phi": (2.0, "lower", "bar")}),
        ({"bar": {"figure": "acc", "lines": ["d"]}, "references": LINES, "better": {"acc": "higher"}}, {}),
        ({"bar": {"figure": "acc", "lines": ["a"]}, "references": LINES, "better": {"acc": "higher"},
          "target": {"acc": 1}}, {"acc": (1.0, "higher", "target")}),
    ],
)  # fmt: skip
def test_aims(problem, expected):
    assert aims(problem) == expected
