"""Claims: one maker at a time, a stale one is succeeded, and whoever wakes up late changes nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bilevelbench.store import claims as module
from bilevelbench.store import files, heartbeat
from bilevelbench.store.claims import Claims
from bilevelbench.store.journal import Journal, read
from bilevelbench.store.schema import End, Header, Row
from tests.results_factory import key

KEY = key()
STEM, NAME = KEY.stem, files.final_name(KEY, "0" * 8)
QUICK = {"beat": 0.05, "patience": 0.4}


def make(part, maker="", status="done"):
    """A small finished run in a private file."""
    with Journal(part) as journal:
        journal.begin(Header(KEY, {"given": KEY.problem}, {"given": maker or KEY.solver}, {}))
        journal.append(Row(0))
        journal.append(Row(1, status=status))
        journal.end(End())


def maker_of(path):
    return read(path).header["solver"]["given"]


@pytest.fixture
def other_machine(monkeypatch):
    """Nobody can be asked whether a process is there: what is left is the counter."""
    monkeypatch.setattr(heartbeat, "_ended", lambda content: False)


def wait_for(claims, stem=STEM, seconds=20.0):
    """Ask until the claim is had."""
    end = time.monotonic() + seconds
    while (claim := claims.take(stem)) is None:
        assert time.monotonic() < end, "the claim was not had"
        time.sleep(0.02)
    return claim


def test_a_claim_is_exclusive_until_it_is_given_back(tmp_path):
    with Claims(tmp_path) as one, Claims(tmp_path) as two:
        claim = one.take(STEM)
        assert claim is not None
        assert two.take(STEM) is None
        assert one.take(STEM) is None, "not twice by one driver"
        assert two.take(key(seed=1).stem) is not None
        claim.release()
        assert two.take(STEM) is not None
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_live_maker_keeps_its_claim_however_long_it_takes(tmp_path, other_machine):
    with Claims(tmp_path, **QUICK) as one, Claims(tmp_path, **QUICK) as two:
        assert one.take(STEM)
        end = time.monotonic() + 3 * QUICK["patience"]
        while time.monotonic() < end:
            assert two.take(STEM) is None
            time.sleep(0.02)


def test_a_maker_whose_counter_stands_still_is_succeeded(tmp_path, other_machine):
    one = Claims(tmp_path, **QUICK)
    first = one.take(STEM)
    make(first.part(NAME), "one")
    one._heart._over.set()  # its heart stops, as that of a stopped process does
    with Claims(tmp_path, **QUICK) as two:
        begin = time.monotonic()
        assert two.take(STEM) is None, "not at once"
        second = wait_for(two)
        assert time.monotonic() - begin >= QUICK["patience"]
        assert not first.owned()
        assert second.owned()
        make(second.part(NAME), "two")
        assert second.publish(NAME)
        second.release()
        content = (tmp_path / NAME).read_bytes()
        assert not first.publish(NAME), "it wakes up late"
        first.release()
        assert (tmp_path / NAME).read_bytes() == content
        assert maker_of(tmp_path / NAME) == "two"
    one.close()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_late_maker_does_not_publish_what_was_made_while_it_was_gone(tmp_path, other_machine):
    """Its seconds hold the time in which it stood still: the successor's run is the one to keep, finished or not."""
    one = Claims(tmp_path, **QUICK)
    first = one.take(STEM)
    make(first.part(NAME), "one")
    one._heart._over.set()
    with Claims(tmp_path, **QUICK) as two:
        second = wait_for(two)
        assert not first.publish(NAME)
        assert not (tmp_path / NAME).exists()
        make(second.part(NAME), "two")
        assert second.publish(NAME)
    one.close()


def test_a_looker_that_stood_still_itself_takes_nobody_for_gone(tmp_path, other_machine, monkeypatch):
    """A laptop that was closed: hours have gone by for all, and no counter has moved."""
    with Claims(tmp_path, beat=1000, patience=60) as one, Claims(tmp_path, beat=1000, patience=60) as two:
        assert one.take(STEM)
        assert two.take(STEM) is None
        later = time.monotonic() + 3600
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: later)
        assert (two._heart.patience, two._heart.beat) == (60, 1000)
        two._heart.beat = 5.0
        assert two.take(STEM) is None


SCRIPT = """
import sys, time
from pathlib import Path
from bilevelbench.store.claims import Claims
claims = Claims(Path(sys.argv[1]))
assert claims.take(sys.argv[2])
print("mine", flush=True)
time.sleep(600)
"""


def test_a_killed_maker_on_this_machine_is_succeeded_at_once(tmp_path):
    maker = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), STEM], stdout=subprocess.PIPE, text=True)
    assert maker.stdout.readline() == "mine\n"
    with Claims(tmp_path) as two:
        assert two.take(STEM) is None
        maker.kill()
        begin = time.monotonic()
        claim = wait_for(two)  # a zombie is gone, too: nobody has waited for it yet
        assert time.monotonic() - begin < 10 < two._heart.patience
        claim.release()
    maker.wait()
    assert not list(tmp_path.iterdir()), "what the dead have left is taken away"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
def test_a_stopped_maker_is_succeeded_and_wakes_up_too_late(tmp_path):
    script = SCRIPT.replace("Claims(Path(sys.argv[1]))", "Claims(Path(sys.argv[1]), beat=0.05, patience=0.4)")
    script = script.replace("time.sleep(600)", "sys.stdin.readline()").replace(
        "assert claims.take(sys.argv[2])",
        "from tests.test_claims import make\nclaim = claims.take(sys.argv[2])\nmake(claim.part(sys.argv[3]), 'late')",
    )
    script += "print(claim.publish(sys.argv[3]), flush=True)\nclaims.close()\n"
    maker = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), STEM, NAME],
        stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert maker.stdout.readline() == "mine\n"
    maker.send_signal(signal.SIGSTOP)
    with Claims(tmp_path, **QUICK) as two:
        claim = wait_for(two)
        make(claim.part(NAME), "second")
        assert claim.publish(NAME)
        claim.release()
        content = (tmp_path / NAME).read_bytes()
        maker.send_signal(signal.SIGCONT)
        said, _ = maker.communicate("go on\n", timeout=60)
    assert said == "False\n"
    assert (tmp_path / NAME).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_only_one_of_two_lookers_succeeds(tmp_path, monkeypatch):
    """Both have seen the same stale claim; the file of the next generation is made once."""
    (tmp_path / f".claim-{STEM}.0").write_text("f" * 16)
    with Claims(tmp_path, **QUICK) as one, Claims(tmp_path, **QUICK) as two:
        for looker in (one, two):
            monkeypatch.setattr(looker._heart, "gone", lambda token: token == "f" * 16)
            looker._look(anew=True)
        assert one.take(STEM)
        assert two.take(STEM) is None, "it still believes what it saw before"


def test_generations_that_begin_anew_have_one_owner(tmp_path, monkeypatch):
    """One looks, the owner gives back all, another claims generation 0 anew: the first must not have generation 1."""
    with Claims(tmp_path) as old, Claims(tmp_path) as slow, Claims(tmp_path) as quick:
        claim = old.take(STEM)
        monkeypatch.setattr(slow._heart, "gone", lambda token: token == old.token)
        slow._look(anew=True)
        claim.release()
        assert quick.take(STEM)
        assert slow.take(STEM) is None
        assert [path.name for path in tmp_path.glob(".claim-*")] == [f".claim-{STEM}.0"]


def test_the_first_to_publish_wins(tmp_path):
    with Claims(tmp_path) as one:
        claim = one.take(STEM)
        make(claim.part(NAME), "late")
        make(tmp_path / NAME, "first")
        assert not claim.publish(NAME)
        assert maker_of(tmp_path / NAME) == "first"
        assert not claim.part(NAME).exists(), "the private file goes"


def test_publishing_without_links(tmp_path, monkeypatch):
    def no_links(*_args, **_options):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(module.os, "link", no_links)
    with Claims(tmp_path) as one:
        for maker, wins in (("first", True), ("late", False)):
            claim = one.take(STEM)
            make(claim.part(NAME), maker)
            assert claim.publish(NAME) is wins
            claim.release()
        assert maker_of(tmp_path / NAME) == "first"
        (tmp_path / NAME).write_bytes(b"")  # who made it was killed before it could fill it
        claim = one.take(STEM)
        make(claim.part(NAME), "second")
        assert claim.publish(NAME)
        assert maker_of(tmp_path / NAME) == "second"


def test_an_outdated_file_is_replaced_and_no_other(tmp_path):
    make(tmp_path / NAME, "outdated")
    outdated = read(tmp_path / NAME)
    with Claims(tmp_path) as one:
        claim = one.take(STEM)
        make(claim.part(NAME), "new")
        assert not claim.publish(NAME), "nothing was said of replacing"
        make(claim.part(NAME), "new")
        assert claim.publish(NAME, instead=outdated)
        assert maker_of(tmp_path / NAME) == "new"
        make(claim.part(NAME), "late")
        assert not claim.publish(NAME, instead=outdated), "that one is gone already"
        assert maker_of(tmp_path / NAME) == "new"
        assert len(files.finals(tmp_path)[STEM]) == 1


def test_parts_of_earlier_makers_go_when_a_run_is_published(tmp_path):
    (tmp_path / f"{STEM}-00000000.{'a' * 16}.part").write_text("")
    (tmp_path / f"{STEM}-11111111.{'a' * 16}.part").write_text("")
    with Claims(tmp_path) as one:
        claim = one.take(STEM)
        make(claim.part(NAME))
        assert claim.publish(NAME)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, f"{STEM}-11111111.{'a' * 16}.part"])


# -- a stranger's folder


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    folder = tmp_path / "results"
    folder.mkdir()
    with Claims(folder, **QUICK) as one:
        for name in (f".claim-{STEM}.0", f"{STEM}-00000000.{one.token}.part", f".alive-{'a' * 16}"):
            (folder / name).symlink_to(secret)
        claim = wait_for(one)  # a claim that nobody can be asked about is stale in the end
        assert claim._generation == 1
        make(claim.part(NAME))
        assert claim.publish(NAME)
        claim = one.take(key(seed=1).stem)
        other = files.final_name(key(seed=1), "0" * 8)
        (folder / other).symlink_to(secret)
        make(claim.part(other))
        assert not claim.publish(other)
    assert secret.read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 9, b'{"pid": 1e9, "boot": "x"}', b"[" * 4000])
def test_a_heartbeat_that_says_nothing_is_no_death(content):
    assert not heartbeat._ended(content)


def test_a_process_with_the_number_of_one_that_ended_is_another():
    mine = heartbeat._identity(os.getpid())
    assert mine["boot"], "this test needs Linux"
    assert not heartbeat._ended(json.dumps(mine).encode())
    assert heartbeat._ended(json.dumps({**mine, "started": "1"}).encode())
    assert not heartbeat._ended(json.dumps({**mine, "started": "1", "namespace": "pid:[1]"}).encode())
    assert not heartbeat._ended(json.dumps({**mine, "started": "1", "boot": "another machine"}).encode())
