"""The campaign of mutants asks the right tests: probes tell which statements ran, also in children."""

import os
import signal
import sys
import time

import pytest

from tests.campaigns.mutation import forks, probes
from tests.campaigns.mutation.asked import _imports, concerned, made_at_import
from tests.forked import forked

SOURCE = '''\
"""A module."""
from __future__ import annotations

LIMIT = 3  # line 4
OTHER = 4


def one(x: int = 1) -> int:
    """A docstring."""
    if x > LIMIT:
        return 10
    elif x < 0:
        y = (
            x
        )
        return y
    return 0


class Two:
    three: int = 7

    def four(self) -> int:
        return self.three
'''


def module(tmp_path):
    (tmp_path / "kit" / "room").mkdir(parents=True)
    (tmp_path / "kit" / "room" / "made.py").write_text(SOURCE)
    return tmp_path / "kit"


def test_probes_set_the_bytes_of_what_runs_here_and_in_children(tmp_path):
    folder = module(tmp_path)
    numbers = probes.firsts(folder, ["room"])
    (tmp_path / "shared").write_bytes(bytes(100))

    def run():
        shared = probes.install(tmp_path / "shared", folder, numbers)
        sys.path.insert(0, str(folder.parent))
        import kit.room.made as made

        shared[:] = bytes(100)
        assert made.one(9) == 10
        here = bytes(shared)
        shared[:] = bytes(100)
        child = os.fork()
        if child == 0:
            made.one(-5)
            os._exit(0)
        os.waitpid(child, 0)
        return here, bytes(shared)

    here, there = ({k for k, byte in enumerate(found) if byte} for found in forked(run))
    assert concerned(SOURCE, 10) <= here & there  # the question
    assert concerned(SOURCE, 11) <= here - there
    assert concerned(SOURCE, 12) <= there - here
    assert concerned(SOURCE, 14) <= there - here  # in the middle of a statement
    assert not concerned(SOURCE, 17) & (here | there)


def test_what_runs_at_import_concerns_the_functions_that_use_it():
    of_one, of_four = concerned(SOURCE, 8), concerned(SOURCE, 24)
    assert concerned(SOURCE, 10) < of_one
    assert len(of_one) == 7  # the docstring is a statement, too
    assert concerned(SOURCE, 4) == of_one
    assert of_four <= concerned(SOURCE, 20)  # a class
    assert concerned(SOURCE, 21) == of_four  # a field that a method reads
    assert concerned(SOURCE, 5) == of_one | of_four  # nobody names it here


def test_names_that_are_made_at_import_concern_other_modules_too():
    assert made_at_import(SOURCE, 4) == {"LIMIT"}
    assert made_at_import(SOURCE, 20) == {"Two"}
    assert made_at_import(SOURCE, 21) == {"three"}
    assert made_at_import(SOURCE, 11) == set()


def test_modules_that_tests_import_by_name():
    source = "from bilevelbench.run import drive, job as j\nfrom bilevelbench.store.files import mark\nimport os"
    assert {"run/drive.py", "run/job.py", "store/files.py"} <= _imports(source)


def fork(work):
    child = os.fork()
    if child == 0:
        os.setsid()
        work()
        os._exit(0)
    return child


def spin():
    end = time.process_time() + 60.0
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    ("work", "limit", "found"),
    [
        (lambda: os._exit(3), 60.0, 3), (lambda: os.kill(os.getpid(), signal.SIGKILL), 60.0, -signal.SIGKILL),
        (spin, 0.5, "hangs: CPU"), (signal.pause, 60.0, "hangs: asleep"),
    ],
)  # fmt: skip
def test_a_hang_is_told_by_cpu_seconds_or_by_sleep(monkeypatch, work, limit, found):
    monkeypatch.setattr(forks, "ASLEEP", 1.5)
    monkeypatch.setattr(forks, "LOOK", 0.1)
    assert forks.watch(fork(work), limit)[0] == found
