"""Every solver and every problem of the registries keeps the contract; the contract catches those that do not."""

import contextlib
from pathlib import Path

import pytest

from bilevelbench.contract import PROBLEM_CHECKS, SOLVER_CHECKS, check
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.core.resolve import knobs

FAULTY = Path(__file__).with_name("faulty_solvers.py")
BROKEN = Path(__file__).with_name("broken_contracts.py")

# Instances beyond the defaults: choices that change the numbers, small enough for a test.
REAL = (
    "mnist",
    "newsgroups",
    "omniglot",
    "a9a",
)  # too large for every check; tests of their own, marked data, read them

VARIANTS = {
    "solver": ["bome(eps=1e-8)"],
    "problem": [
        "quadratic(kappa=1000,d=5)",
        *(f"smd(number={i},p=2,q=3,r=2)" for i in (2, 3, 4, 5, 6, 7, 8, 10, 11)),
        "smd(number=12,p=2,q=3)",
        "few_shot(dataset='planted',tasks=3,ways=3,width=4,lower='network')",
        "few_shot(dataset='planted',tasks=3,ways=3,width=4,lower='cosine')",
    ],
}


def _choices(registry, kind):
    """Every name with its defaults, and once more for every other choice of a non-numeric knob."""
    for name in registry.names():
        yield name
        for knob, (hint, default) in knobs(registry.entries[name]).items():
            for value in getattr(hint, "__args__", ()) if isinstance(default, str) else ():
                if value not in (default, *REAL):
                    yield f"{name}({knob}={value!r})"
            if isinstance(default, bool):
                yield f"{name}({knob}={not default})"
    yield from VARIANTS[kind]


def _cases(registry, kind, checks):
    targets = sorted(set(_choices(registry, kind)))
    return [pytest.param(run, target, id=f"{target}-{name}") for target in targets for name, run in checks.items()]


def _keep(run, target):
    try:
        run(target)
    except Unsupported as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("run", "target"), _cases(SOLVERS, "solver", SOLVER_CHECKS))
def test_solvers_keep_the_contract(run, target):
    _keep(run, target)


@pytest.mark.parametrize(("run", "target"), _cases(PROBLEMS, "problem", PROBLEM_CHECKS))
def test_problems_keep_the_contract(run, target):
    _keep(run, target)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("changes_its_state", "changes the state"),
        ("forgets_its_seed", "two results"),
        ("starts_ahead", "init moves y"),
        ("keeps_a_point", "holds a point with its graphs"),
        ("hides_nan", "stay finite"),
        ("divides_by_zero", "not finite"),
        ("wanders", "leaves its bounds"),
        ("counts_unevenly", "calls differ"),
        ("remembers", "differ from four steps"),
    ],
)
def test_the_contract_catches_what_breaks_it(name, words):
    passed, text = check(f"{BROKEN}:{name}")
    assert not passed
    assert words in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrong_optimum", "beats phi_star"),
        ("wrong_y_star", "at y*(x)"),
        ("detached", "the gradient of f"),
        ("unseeded", "seeded=True"),
        ("draws_anew", "other numbers the second time"),
        ("stays_float64", "float32"),
    ],
)
def test_the_contract_catches_broken_problems(name, words):
    passed, text = check(f"{BROKEN}:{name}")
    assert not passed
    assert words in text


def test_rows_may_be_given_by_name(tmp_path, monkeypatch):
    """Every check that looks over the oracle's shoulder hands on what it is asked."""
    monkeypatch.setattr(SOLVERS, "entries", dict(SOLVERS.entries))
    file = tmp_path / "by_name.py"
    file.write_text(
        "from bilevelbench import Point, solver\n\n\n"
        "@solver('by_name')\nclass ByName:\n"
        "    batch: int | None = None\n    calls = 'dg_y, df_x'\n    memory = '1'\n\n"
        "    def step(self, o, s):\n"
        "        x = o.project_x(s.x - 0.1 * o.df_x(*s, rows=o.draw_f(self.batch)))\n"
        "        return Point(x, o.project_y(s.y - 0.1 * o.dg_y(*s, rows=o.draw_g(self.batch))))\n"
    )
    for knob in ("", "(batch=2)"):
        for check_one in SOLVER_CHECKS.values():
            with contextlib.suppress(Unsupported):
                check_one(f"{file}:by_name{knob}")


def test_check_names_what_is_missing():
    with pytest.raises(RequestError, match="did you mean bome"):
        check("bomme")
    with pytest.raises(RequestError, match="there is no file"):
        check("nowhere.py")
