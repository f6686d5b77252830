"""What is refused to a solver, argument by argument; what is watched of it; what must be intact."""

import contextlib
import dataclasses
import os
import shutil
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bilevelbench.core.draw import Draw
from bilevelbench.core.oracle import Oracle
from bilevelbench.core.resolve import build_problem
from bilevelbench.core.solver import Point, start, stretch
from bilevelbench.measure import hook, intact
from bilevelbench.measure.hook import _looks_inside, _opens, _words
from bilevelbench.measure.intact import Intact, _changed, _own, _Picture, _untouched
from bilevelbench.measure.watcher import Watcher, _among, _closed_over, watched_problem
from tests.forked import forked

PROBLEM = build_problem("quadratic(d=3)", Draw(0))


def opened(path, mode="r", flags=0):
    return _opens("open", (path, mode, flags))


@pytest.mark.parametrize("flag", ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"])
def test_each_way_to_write_is_refused(tmp_path, flag):
    path = str(tmp_path / "a.py")
    assert opened(path, "r", getattr(os, flag)) == f"writes the file {os.path.realpath(path)}"
    assert opened("/dev/null", "r", getattr(os, flag)) == ""


@pytest.mark.parametrize("mode", ["w", "a", "x", "r+", "wb"])
def test_each_mode_that_writes_is_refused(tmp_path, mode):
    assert "writes the file" in opened(str(tmp_path / "a.py"), mode)
    assert opened("/dev/null", mode) == ""


def test_what_may_be_read(tmp_path):
    for path in ("a.py", "a.pyc", "a.so", "a.pyd"):
        assert opened(str(tmp_path / path)) == ""
    for path in (os.__file__, pytest.__file__, "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/x"):
        assert opened(path) == ""
        assert opened(path, None, None) == ""
    assert opened(str(tmp_path / "a.txt")) == f"reads the file {os.path.realpath(tmp_path / 'a.txt')}"
    assert opened(os.fsencode(tmp_path / "a.txt")).startswith("reads the file")
    assert opened(3) == "opens a file descriptor"


def test_words_for_events():
    assert _words("socket.connect")("socket.connect", ()) == "uses the network (socket.connect)"
    assert _words("ctypes.dlopen")("ctypes.dlopen", ()) == "calls native code by ctypes (ctypes.dlopen)"
    assert _words("os.fork")("os.fork", ()) == "deals with another process (os.fork)"
    assert _words("subprocess.Popen")("subprocess.Popen", ()) == "starts another process"
    assert _words("sys.settrace")("sys.settrace", ()).startswith("follows what the harness does")
    assert _words("gc.get_objects")("gc.get_objects", ()).startswith("looks through memory")
    assert _words("socketpair") is None
    assert _words("compile") is None


def test_of_objects_only_code_and_frames_are_looked_into():
    assert _looks_inside("object.__getattr__", (object(), "name")) == ""
    for name in hook.ATTRIBUTES:
        said = _looks_inside("object.__getattr__", (object(), name))
        assert said in ("", "looks into frames and code")


def test_the_first_thing_refused_is_noted_once():
    hook._noted[:] = ["one", "two"]
    assert hook.noted() == "one"
    assert hook.noted() == ""


def refused(step):
    """What is refused to a solver whose step does this, or ''."""

    class Steps:
        name = "steps"

        def init(self, o, x, y):
            return Point(x, y)

        def step(self, o, s):
            step()
            return s

    def run():
        hook.install()
        with contextlib.suppress(hook.Refused):
            oracle = Oracle(PROBLEM)
            stretch(Steps(), oracle, start(Steps(), PROBLEM, oracle), 0, 1)
        return hook.noted()

    return forked(run)


def test_what_a_library_does_for_a_solver_is_the_solver_s(tmp_path):
    """Names of engines and modules excuse nothing, unless it is they."""
    out = tmp_path / "out.txt"

    def _find():
        out.write_text("x")

    def module():
        exec(compile(f"open({str(out)!r}, 'w')", str(tmp_path / "mine.py"), "exec"), {})

    for step in (lambda: out.write_text("x"), _find, module):
        assert refused(step).startswith("in a step it writes the file")
    assert refused(lambda: shutil.copy(__file__, out)).startswith("in a step it keeps things outside")
    assert not out.exists()
    assert refused(lambda: PROBLEM.g(PROBLEM.x0, PROBLEM.y0)) == ""
    assert refused(lambda: Path(__file__).read_text()) == ""


# -- what stands for something else


def test_a_picture_tells_the_first_name_that_changed():
    place = SimpleNamespace(a=1, b=2)
    place.__name__ = "place"
    picture = _Picture(place, ["a", "b", "c"])
    untouched = _untouched((picture.parts,))
    assert (picture.changed(), untouched(), _changed([picture])) == ("", True, "")
    place.d = 4
    assert picture.changed() == ""
    place.b = 3
    assert (picture.changed(), untouched(), _changed([picture])) == ("place.b", False, "place.b")
    del place.b
    assert (picture.changed(), untouched()) == ("place.b", False)
    place.b = 2
    assert (picture.changed(), untouched()) == ("", True)
    place.c = 1  # what was inherited
    assert picture.changed() == "place.c"


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b"]])
def test_pictures_of_none_one_and_two_names(names):
    place = SimpleNamespace(a=1, b=2, __name__="p")
    picture = _Picture(place, names)
    assert _untouched((picture.parts,))()
    assert picture.changed() == ""
    place.a = 5
    assert _untouched((picture.parts,))() is (names == [])
    assert picture.changed() == ("p.a" if names else "")


def test_of_a_class_all_is_held():
    class Held:
        one = 1

    picture = _own(Held)
    Held.one = 2
    assert picture.changed() == "Held.one"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "set torch's number of threads to"),
        (lambda: torch.set_default_dtype(torch.float16), "set torch's default dtype to torch.float16"),
        (lambda: torch._C._set_grad_enabled(False), "set torch's gradient mode to False (it was True)"),
        (lambda: setattr(torch, "no_grad", 1), "changed torch.no_grad"),
        (lambda: setattr(intact, "ROOMS", ()), "changed bilevelbench.measure.intact.ROOMS"),
        (lambda: None, ""),
    ],
)
def test_what_was_changed_is_said_and_settings_may_be_settled(change, words):
    def run():
        held = Intact()
        change()
        said = held.changed()
        code = "changed" in said
        held.settle()
        return said, held.untouched(), held.answering(), held.changed(), code

    said, untouched, answering, settled, code = forked(run)
    assert words in said
    assert bool(said) is bool(words)
    assert untouched is not code
    assert bool(answering) is ("torch." in said and code)
    assert bool(settled) is code


# -- the watcher


def watcher(problem=PROBLEM, data=(), file=""):
    watched, codes = watched_problem(problem, count())
    return watched, Watcher(problem, codes, data, file)


def test_functions_are_counted_as_they_are_entered():
    entered = count()
    watched, codes = watched_problem(PROBLEM, entered)
    watched.f(PROBLEM.x0, PROBLEM.y0), watched.g(PROBLEM.x0, PROBLEM.y0)
    assert next(entered) == 2
    assert {"function", "f", "g", "y_star"} <= {*codes.values()}
    assert watched.h_f is None


def test_the_first_thing_found_is_kept_while_nothing_is_answered():
    _, watch = watcher()
    with watch:
        PROBLEM.f(PROBLEM.x0, PROBLEM.y0)
        PROBLEM.g(PROBLEM.x0, PROBLEM.y0)
    assert watch.found == "the problem's own f is asked past the oracle"
    _, watch = watcher()
    with watch:
        watch.open = True
        PROBLEM.f(PROBLEM.x0, PROBLEM.y0)
    assert (watch.found, watch.open) == ("", False)


def test_data_are_what_was_put_and_what_functions_hold_but_not_the_start():
    held, put = torch.ones(3).double(), torch.ones(2).double()
    problem = dataclasses.replace(PROBLEM, f=lambda x, y: (held * x).sum(), g=lambda x, y: (x * y).sum())
    _, watch = watcher(problem, [put, problem.x0])
    found = [watch.is_data(t) for t in (held, held[1:], put, problem.x0, problem.y0, torch.ones(3), torch.empty(0), 3)]
    assert found == [True, True, True, False, False, False, False, False]
    assert not watch.is_data(torch.nn.Parameter(held))
    with watch:
        _ = held + 1
    assert "computes with the problem's own data" in watch.found or "reads the problem's own data" in watch.found
    own = watch.own((held, torch.ones(1)))
    assert torch.equal(own[0], held)
    assert own[0].data_ptr() != held.data_ptr()
    assert watch.own(put).data_ptr() != put.data_ptr()
    free = torch.ones(1)
    assert watch.own(free) is free
    assert watch.own(3) == 3
    _, watch = watcher()
    watch.own(torch.ones(1, requires_grad=True))
    assert "carries a graph" in watch.found


def test_what_a_function_holds_is_found_however_deep():
    t = [torch.full((1,), float(k)) for k in range(8)]
    layer = torch.nn.Linear(1, 1)

    @dataclasses.dataclass
    class Bag:
        one: object

    class Called:
        def __init__(self, part):
            self.part = part

        def method(self):
            pass

    def fn(x, default=t[0]):
        return t[1], inner, layer, x

    inner = {"a": [t[2], (t[3],)], "bag": Bag(t[4])}
    fn.keep = Bag
    found = {id(tensor) for tensor in _closed_over(fn, 0, set())}
    assert {id(tensor) for tensor in t[:5]} <= found
    assert {id(layer.weight), id(layer.bias)} <= found
    deep = t[5]
    for _ in range(6):
        deep = [deep]
    assert [id(x) for x in _closed_over(deep, 0, set())] == [id(t[5])]
    assert [*_closed_over([deep], 0, set())] == []
    assert [*_among([1, (2, [3]), "a"])] == [1, 2, 3, "a"]
    assert [*_closed_over(Bag, 0, set())] == []
    assert Path(sys.executable).exists()
