"""From options to suites: each option at its own place, each wrong one a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import parse_seeds, spelled
from bilevelbench.run.request import DEFAULT_STEPS, requested
from bilevelbench.run.suite import Block, Suite, load_suite

EVERY = lambda: ("one", "two")  # noqa: E731


def block(**fields):
    return Block(**{"problems": ("p",), "solvers": ("s",), "steps": 1, **fields})


def test_problems_make_a_suite_of_one_block():
    (made,) = requested(None, ["p"], [], EVERY).blocks
    assert made == Block(("p",), ("one", "two"), steps=DEFAULT_STEPS)
    assert DEFAULT_STEPS == 1000
    (made,) = requested(None, ["p"], ["s"], EVERY, seeds=[3, 4], calls=7, dtype="float32", threads=None).blocks
    assert made == Block(("p",), ("s",), (3, 4), calls=7, dtype="float32")
    (made,) = requested(None, ["p"], ["s"], EVERY, steps=1, seconds=2.0).blocks
    assert (made.steps, made.seconds, made.calls) == (1, 2.0, None)


def test_a_suite_keeps_its_own_limits_unless_some_are_given():
    own = load_suite("smoke")
    assert requested("smoke", [], [], EVERY) == own
    assert requested(None, [], [], EVERY) == load_suite("default")
    made = requested("smoke", [], ["extra"], EVERY, calls=9, seeds=[1])
    assert [(b.steps, b.seconds, b.calls, b.seeds) for b in made.blocks] == [(None, None, 9, (1,))] * len(own.blocks)
    assert [b.solvers for b in made.blocks] == [(*b.solvers, "extra") for b in own.blocks]


@pytest.mark.parametrize(("way", "engine"), [("batch_seeds", "batched"), ("in_process", "in_process")])
def test_ways_to_run_are_engines(way, engine):
    (made,) = requested(None, ["p"], ["s"], EVERY, **{way: True}).blocks
    assert made.engine == engine
    (made,) = requested(None, ["p"], ["s"], EVERY, **{way: True}, engine=engine).blocks
    assert made.engine == engine
    with pytest.raises(RequestError, match=f"{way} is the engine {engine}, and the engine eager was asked for"):
        requested(None, ["p"], ["s"], EVERY, **{way: True}, engine="eager")
    (made,) = requested(None, ["p"], ["s"], EVERY).blocks
    assert made.engine == "eager"


def test_a_suite_or_problems():
    with pytest.raises(RequestError, match="both the suite 'smoke' and problems were given"):
        requested("smoke", ["p"], [], EVERY)


def test_defaults_of_a_block():
    made = block()
    assert (made.seeds, made.device, made.dtype, made.threads, made.iterates, made.engine) == (
        (0,),
        "cpu",
        "float64",
        1,
        False,
        "eager",
    )


@pytest.mark.parametrize("limit", ["steps", "seconds", "calls"])
@pytest.mark.parametrize(
    ("value", "good"), [(0, False), (-1, False), (1, True), (1e15, False), (9e14, True), (0.5, True)]
)
def test_limits_are_above_0(limit, value, good):
    fields = {"steps": None, limit: value}
    if good:
        assert getattr(block(**fields), limit) == value
    else:
        with pytest.raises(RequestError, match=f"{limit} .* is not valid; it is a number above 0"):
            block(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threads": 0}, "threads 0 is not valid; it is at least 1"),
        ({"dtype": "float16"}, "there is no dtype 'float16'; choose from float32, float64"),
        ({"engine": "egaer"}, "there is no engine 'egaer'; did you mean"),
        ({"engine": "batched", "seconds": 1.0}, "have no seconds of their own"),
        ({"problems": ()}, "at least one problem"),
        ({"solvers": ()}, "one solver"),
        ({"seeds": ()}, "one seed"),
        ({"steps": None}, "a run needs a limit"),
    ],
)
def test_a_wrong_block_is_one_sentence(fields, words):
    with pytest.raises(RequestError, match=words):
        block(**fields)


def test_one_limit_of_any_kind_will_do():
    for limit in ("steps", "seconds", "calls"):
        assert block(**{"steps": None, limit: 2})
    assert block(threads=1)
    assert block(engine="batched")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", (3,)),
        ("0-2", (0, 1, 2)),
        (" 4 , 0 - 1", (0, 1, 4)),
        ("2-2", (2,)),
        ("1,1", (1,)),
        (5, (5,)),
        ("9-10", (9, 10)),
        ("123456789", (123456789,)),
    ],
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "3-2", "1-", "1,,2", "1234567890", "1-1234567890", "1.5"])
def test_bad_seeds(text):
    with pytest.raises(RequestError, match="cannot be read; write 0-4, or 0,2,5, or 3"):
        parse_seeds(text)


def test_options_that_are_none_leave_a_block_s_own():
    suite = Suite("n", "a", (block(threads=2), block(threads=3)))
    assert suite.override(threads=None) == suite
    assert [b.threads for b in suite.override(threads=4, dtype=None).blocks] == [4, 4]
    assert Suite("n", "a").blocks == ()


WRONG = [
    ("x = 1", "has a wrong key 'x'"),
    ("include = 'smoke'", "include = 'smoke' is not valid"),
    ("include = [1]", "include holds names of suites"),
    ("about = 'a'", r"has no \[\[block\]\]"),
    ("block = 3", "block = 3 is not valid; it takes a list of tables"),
    ("block = [3]", "block holds tables"),
    ("include = []", r"has no \[\[block\]\]"),
    ("include = ['smok']", "includes 'smok', which is no suite; did you mean"),
    ("[[block]]\nproblems = ['p']", "a block lacks solvers"),
    ("[[block]]\nsteps = 3", "a block lacks problems and solvers"),
    ("[[block]]\nproblems = 'p'", "problems = 'p' is not valid; it takes a list of specs as strings"),
    ("[[block]]\nproblems = [3]", "problems holds specs as strings"),
    ("[[block]]\nsteps = true", "steps = True is not valid; it takes a whole number"),
    ("[[block]]\nseeds = true", "it takes a string or a whole number"),
    ("[[block]]\nseconds = 'x'", "it takes a number or a whole number"),
    ("[[block]]\niterates = 1", "it takes true or false"),
    ("[[block]]\nthreads = 1.5", "it takes a whole number"),
    ("[[block]]\nstep = 1", "has a wrong key 'step'; did you mean"),
    ("[[block]", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_wrong_file_is_one_sentence(tmp_path, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=words) as raised:
        load_suite(str(file))
    assert str(file) in str(raised.value)


def test_a_file_as_it_is_meant(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        "about = 'A'\n[[block]]\nproblems = ['p', 'q']\nsolvers = ['s']\nseeds = 3\nseconds = 2\niterates = true\n"
    )
    suite = load_suite(str(file))
    assert (suite.name, suite.about) == ("mine", "A")
    assert suite.blocks == (Block(("p", "q"), ("s",), (3,), seconds=2, iterates=True),)
    file.write_text("[[block]]\nproblems = ['p']\nsolvers = ['s']\nsteps = 1\n")
    assert load_suite(str(file)).blocks[0].seeds == (0,)
    assert load_suite(str(file)).about == ""
    with pytest.raises(RequestError, match="there is no suite file"):
        load_suite(str(tmp_path / "nowhere.toml"))
    with pytest.raises(RequestError, match="there is no suite 'smoek'; did you mean"):
        load_suite("smoek")


@given(st.sets(st.integers(0, 40), min_size=1))
def test_seeds_are_spelled_as_they_are_read(seeds):
    assert parse_seeds(spelled(seeds)) == tuple(sorted(seeds))


def test_a_run_of_seeds_is_spelled_by_its_ends():
    assert spelled(range(25_000)) == "0-24999"
    assert spelled((7, 0, 2, 1)) == "0-2,7"
