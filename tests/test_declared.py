"""What is wrong with a declaration is one sentence, as soon as it is registered, and says where and what to write."""

from typing import ClassVar

import pytest

from bilevelbench.core.errors import RequestError
from bilevelbench.core.registry import PROBLEMS, SOLVERS, problem, solver


class Steps:
    """What is not looked at in these tests."""

    def step(self, o, s):
        return s


class Other(Steps):
    """Has a knob, and a method that is none."""

    lr: float = 0.5

    def helper(self):
        return 1


def short(self, s):
    return s


def long(self, o, s, x):
    return s


def first(self, o):
    return o


SOLVERS_OF = [
    ({"lr": 0.1}, "the knob lr has no type; write lr: float = 0.1"),
    (
        {"way": "plain", "__annotations__": {"lr": float}, "lr": 1.0},
        "the knob way has no type; write way: str = 'plain'",
    ),
    ({"__annotations__": {"lr": "Flote"}, "lr": 1.0}, "the type of a knob cannot be read: name 'Flote' is not defined"),
    ({"__annotations__": {"lr": float}}, "the field lr needs a default value"),
    ({"__annotations__": {"lr": int}, "lr": 0.5}, "lr takes a whole number"),
    ({"step": short}, f"line {short.__code__.co_firstlineno}: step(self, s) of the solver 'wrong'"),
    ({"step": long}, "cannot be called as step(self, o, s)"),
    ({"init": first}, "init(self, o) of the solver 'wrong' cannot be called as init(self, o, x, y)"),
    ({"step": 3}, "has no step(self, o, s)"),
]


@pytest.mark.parametrize(("content", "words"), SOLVERS_OF, ids=[words for _, words in SOLVERS_OF])
def test_a_wrong_solver_is_refused(content, words):
    with pytest.raises(RequestError) as raised:
        solver("wrong")(type("Wrong", (Steps,), {"__module__": __name__, **content}))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "wrong" not in SOLVERS.entries


def test_a_value_in_the_place_of_a_method_is_no_knob_and_in_that_of_a_knob_it_is():
    solver("right")(type("Right", (Other,), {"__module__": __name__, "helper": None}))
    SOLVERS.entries.pop("right")
    with pytest.raises(RequestError, match="the knob lr has no type"):
        solver("wrong")(type("Wrong", (Other,), {"__module__": __name__, "lr": 0.1}))


def test_what_is_no_knob_needs_no_type():
    @solver("right")
    class Right(Steps):
        lr: float = 0.1
        scale: ClassVar[float] = 1.0
        _table = {"a": 1}  # noqa: RUF012
        family = "control"
        at_least = {"lr": 1e-3}  # noqa: RUF012

        @property
        def certificate(self):
            return "none"

        @staticmethod
        def helper(x):
            return x

    SOLVERS.entries.pop("right")
    assert Right(lr=0.5).lr == 0.5
    assert Right.scale == 1.0
    with pytest.raises(RequestError, match=r"lr is at least 0.001"):
        Right(lr=0.0)


def without():
    """Takes nothing."""


def untyped(rng, kappa=3.0):
    """A knob without a type."""


def bare(rng, kappa: float):
    """A knob without a value."""


def several(rng, *knobs: int):
    """Knobs without names."""


def unknown(rng, way: "Way" = "a"):  # noqa: F821
    """A type that is not there."""


PROBLEMS_OF = [
    (without, "takes no Draw; write wrong(rng: Draw, ...)"),
    (untyped, "the knob kappa has no type; write kappa: float = 3.0"),
    (bare, "the knob kappa needs a default value"),
    (several, "takes *knobs: int; name each knob"),
    (unknown, "the type of an argument cannot be read: name 'Way' is not defined"),
]


@pytest.mark.parametrize(("build", "words"), PROBLEMS_OF, ids=[build.__name__ for build, _ in PROBLEMS_OF])
def test_a_wrong_problem_is_refused_with_its_line(build, words):
    with pytest.raises(RequestError) as raised:
        problem("wrong")(build)
    assert words in str(raised.value)
    assert f"test_declared.py, line {build.__code__.co_firstlineno}: " in str(raised.value)
    assert "wrong" not in PROBLEMS.entries


def test_a_cell_that_is_run_again_registers_again_and_a_file_does_not():
    cell = "from bilevelbench import solver\n@solver('cell')\nclass Cell:\n    lr: float = {}\n" + (
        "    def step(self, o, s):\n        return s\n"
    )
    for k, lr in enumerate((0.1, 0.2)):
        exec(compile(cell.format(lr), f"<cell {k}>", "exec"), {"__name__": "__main__"})
    made = SOLVERS.entries.pop("cell").make
    assert made().lr == 0.2
    SOLVERS.load_own()
    with pytest.raises(RequestError, match="registered twice"):
        solver("bome")(type("Mine", (Steps,), {"__module__": __name__}))
