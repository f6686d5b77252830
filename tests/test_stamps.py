"""Digests and marks of files; what counts as code of one's own; what a run was made on."""

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from bilevelbench.measure import env, provenance, stamps
from bilevelbench.measure.env import HOME, _digest, _nvidia, repository, source_digest
from bilevelbench.measure.provenance import counts, is_foreign, package_of, source_of


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(stamps, "_hashed", {})


def old(path, seconds=100.0):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return stamps.mark_of(os.stat(path))


def test_a_digest_is_of_the_content_alone(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert stamps.hash_of(str(file)) == stamps.digest_of(b"abc") == stamps.hash_now(str(file), "m")
    assert len(stamps.digest_of(b"abc")) == 16
    assert stamps.hash_now(str(tmp_path / "none"), "m") == "m"
    assert stamps.hash_now("a\x00", "m") == "m"
    assert stamps.hash_now(str(tmp_path), "m") == "unreadable"


def test_a_mark_is_size_times_and_inode(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    found = os.stat(file)
    assert stamps.mark_of(found) == (3, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def test_young_is_what_changed_within_two_seconds(monkeypatch):
    monkeypatch.setattr(stamps.time, "time", lambda: 100.0)
    at = [int(second * 1e9) for second in (98.1, 97.9)]
    assert stamps.is_young((10**18, at[0], at[1], 10**18))
    assert stamps.is_young((10**18, at[1], at[0], 10**18))
    assert not stamps.is_young((10**18, at[1], at[1], 10**18))


def test_a_file_is_hashed_once_while_its_mark_stays(tmp_path, monkeypatch):
    file, asked = tmp_path / "a", []
    file.write_bytes(b"abc")
    monkeypatch.setattr(stamps, "hash_of", lambda path: asked.append(path) or "d")
    monkeypatch.setattr(stamps, "is_young", lambda mark: True)
    assert [stamps.hash_now(str(file), "m") for _ in range(2)] == ["d", "d"]
    assert len(asked) == 2  # its mark says little yet
    monkeypatch.setattr(stamps, "is_young", lambda mark: False)
    assert [stamps.hash_now(str(file), "m") for _ in range(3)] == ["d"] * 3
    assert len(asked) == 3
    file.write_bytes(b"abcd")
    stamps.hash_now(str(file), "m")
    assert len(asked) == 4


# -- provenance


def test_what_is_foreign(tmp_path):
    assert is_foreign(str(tmp_path / "mine.py"))
    assert not is_foreign(os.__file__)
    assert not is_foreign(pytest.__file__)
    assert not is_foreign("/etc/hosts")
    assert not is_foreign(str(tmp_path / "pyvenv.cfg"))
    assert is_foreign(str(tmp_path / "my.cfg"))
    assert not is_foreign(str(tmp_path / "a.egg-info" / "x"))
    assert not is_foreign(str(tmp_path / "a.dist-info" / "deep" / "x"))
    assert is_foreign(str(tmp_path / "egg-info" / "x"))


def test_a_folder_of_one_s_own_that_is_linked_into_an_environment_is_foreign(tmp_path, monkeypatch):
    site, mine = tmp_path / "site", tmp_path / "mine"
    (site / "kit").mkdir(parents=True)
    mine.mkdir()
    (site / "linked").symlink_to(mine)
    known = provenance.roots()
    monkeypatch.setattr(provenance, "roots", lambda: (*known, f"{site}{os.sep}"))
    provenance._is_installed.cache_clear()
    try:
        assert not is_foreign(str(site / "kit" / "a.py"))
        assert is_foreign(str(site / "linked" / "a.py"))
        assert package_of(site / "kit" / "deep" / "a.py") == str(site / "kit")
        assert package_of(site / "lone.py") == ""
        assert package_of(tmp_path / "a.py") == ""
        assert package_of(HOME / "core" / "draw.py") == ""
    finally:
        provenance._is_installed.cache_clear()


def test_the_source_of_compiled_bytes(tmp_path):
    cache = tmp_path / "__pycache__"
    compiled = str(cache / f"a.{sys.implementation.cache_tag}.pyc")
    assert source_of(compiled) == compiled  # there is none
    (tmp_path / "a.py").touch()
    assert source_of(compiled) == str(tmp_path / "a.py")
    assert source_of(str(tmp_path / "a.pyc")) == str(tmp_path / "a.pyc")
    assert source_of(str(cache / "a.txt")) == str(cache / "a.txt")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (HOME / "core" / "draw.py", True), (HOME / "measure" / "env.py", True), (HOME / "run" / "job.py", True),
        (HOME / "data" / "find.py", True), (HOME / "store" / "schema.py", False), (HOME / "report" / "page.py", False),
        (Path("/a/b/mine.py"), True), (Path(f"/a/b/mine{provenance.DEFINITION}"), False),
    ],
)  # fmt: skip
def test_what_counts(place, expected):
    assert counts(str(place), ()) is expected


def test_of_solvers_and_problems_the_run_s_own_and_shared_pieces(tmp_path, monkeypatch):
    folder = tmp_path / "solvers"
    folder.mkdir()
    monkeypatch.setattr(provenance, "_shipped", lambda: (folder.resolve(),))
    assert not counts(str(folder / "bome.py"), ())
    assert counts(str(folder / "bome.py"), (folder / "bome.py",))
    assert counts(str(folder / "_shared.py"), ())
    assert not counts(str(folder / "__init__.py"), ())
    assert not counts(str(tmp_path / f"a{provenance.DEFINITION}"), ())
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    monkeypatch.setenv("BILEVELBENCH_CACHE", str(tmp_path / "cache"))
    for place, expected in [
        ("inductor/a", False), ("triton/a", False), ("jax/a", False), ("cache/made/a", False), ("cache/raw/a", True),
    ]:  # fmt: skip
        assert counts(str(tmp_path / place), ()) is expected
    assert provenance.cache_root() == tmp_path / "cache"
    monkeypatch.delenv("BILEVELBENCH_CACHE")
    assert provenance.cache_root().name == "bilevelbench"
    monkeypatch.setattr(provenance.tempfile, "gettempdir", lambda: str(tmp_path))
    assert not counts(str(tmp_path / "torchinductor_me" / "a"), ())
    assert counts(str(tmp_path / "torch"), ())
    assert not counts(str(HOME.parent / "uv.lock"), ()) or HOME.parent == Path(sysconfig.get_path("purelib"))


# -- what a run was made on


def test_a_digest_of_sources_goes_by_names_and_contents(tmp_path):
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a")
    other.write_text("b")
    whole = _digest([one, other])
    assert len(whole) == 16
    assert whole != _digest([other, one]) != _digest([one])
    assert _digest([one]) != _digest([other])
    one.write_text("c")
    assert _digest([one, other]) != whole
    first = source_digest(one)
    assert first != source_digest(other)
    source_digest.cache_clear()
    (tmp_path / "_shared.py").write_text("x")
    second = source_digest(one)
    assert second != first
    source_digest.cache_clear()
    (tmp_path / "__init__.py").write_text("x")
    (tmp_path / "beside.py").write_text("x")
    assert source_digest(one) == second
    nowhere = tmp_path / "nowhere.py"
    assert _digest([nowhere]) == _digest([nowhere])
    source_digest.cache_clear()


def test_what_nvidia_says_is_taken_by_name(monkeypatch):
    asked = []

    def says(text, code=0):
        done = subprocess.CompletedProcess([], code, text, "")
        monkeypatch.setattr(env.subprocess, "run", lambda *a, **k: asked.append((a, k)) or done)
        return _nvidia("a,b", ("a", "b"))

    assert says("1, 2 \n3, 4\n") == {"a": "1", "b": "2"}
    assert says("1, 2", 9) == {}
    assert says("1\n") == {}
    assert asked[0] == (
        (["nvidia-smi", "--query-gpu=a,b", "--format=csv,noheader,nounits"],),
        {"capture_output": True, "text": True, "timeout": 10},
    )

    def fails(*a, **k):
        raise FileNotFoundError

    monkeypatch.setattr(env.subprocess, "run", fails)
    assert _nvidia("a", ("a",)) == {}


def test_this_moment_s_load_and_frequency(monkeypatch):
    monkeypatch.setattr(env.os, "getloadavg", lambda: (0.123, 1.0, 2.0), raising=False)
    monkeypatch.setattr(env, "_megahertz", lambda: 900)
    assert env.moment() == {"load": [0.12, 1.0, 2.0], "megahertz": 900}
    monkeypatch.setattr(env, "_megahertz", lambda: None)
    assert env.moment() == {"load": [0.12, 1.0, 2.0]}
    monkeypatch.undo()

    class Frequency:
        current = 899.6

    monkeypatch.setattr(env.psutil, "cpu_freq", Frequency)
    assert env._megahertz() == 900
    monkeypatch.setattr(env.psutil, "cpu_freq", lambda: None)
    assert env._megahertz() is None
    Frequency.current = 0.0
    monkeypatch.setattr(env.psutil, "cpu_freq", Frequency)
    assert env._megahertz() is None
    assert time.strptime(env.now(), "%Y-%m-%dT%H:%M:%SZ")


def test_the_processor_is_named_by_the_system(monkeypatch):
    said = "processor\t: 0\nmodel name\t: One: two \nmodel name\t: Other\n"
    monkeypatch.setattr(env.Path, "exists", lambda path: str(path) == "/proc/cpuinfo")
    monkeypatch.setattr(env.Path, "read_text", lambda path: said)
    assert env._cpu() == "One: two"
    said = "processor\t: 0\n"
    monkeypatch.setattr(env.platform, "processor", lambda: "")
    monkeypatch.setattr(env.platform, "machine", lambda: "arm")
    assert env._cpu() == "arm"
    monkeypatch.setattr(env.platform, "processor", lambda: "P")
    assert env._cpu() == "P"


def test_environment_and_repository(tmp_path):
    found = env.environment("cpu")
    assert found["cores"] >= 1
    assert found["python"].startswith("3.")
    assert found["torch"]
    assert env._version("no-such-distribution") == ""
    assert found["memory_bytes"] > 2**28
    assert found["system"].count(" ") >= 2
    assert len(found["lock"]) in (0, 16)
    assert found["cpu"]
    assert repository(tmp_path / "a.py") == {"commit": "", "dirty": None}
