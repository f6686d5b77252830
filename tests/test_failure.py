"""What an exception means for a run, and the windows that are kept of it."""

import errno

import numpy as np
import pytest
import torch

from bilevelbench.core.errors import Unsupported
from bilevelbench.core.solver import Point
from bilevelbench.measure import marks
from bilevelbench.measure.failure import AtLook, Diverged, Foul, Full, Impure, broken, failed, room, status_of
from bilevelbench.measure.marks import Marks, collect, pack, read, tensors, unpack
from bilevelbench.store.schema import Row


@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [
        (Diverged("x"), "diverged", "solver"), (Unsupported("x"), "unsupported", ""),
        (Unsupported("x", "problem"), "unsupported", "problem"), (MemoryError(), "oom", "me"),
        (torch.OutOfMemoryError("x"), "oom", "me"), (RuntimeError("CPU: can't allocate memory"), "oom", "me"),
        (ValueError("x"), "error", "me"), (Foul("x"), "error", "solver"), (Impure("x"), "error", "solver"),
        (SystemExit(3), "error", "me"), (KeyboardInterrupt(), "error", "me"),
    ],
)  # fmt: skip
def test_a_status_for_each_exception_and_whose_fault_it_is(error, status, fault):
    assert status_of(error) == status
    row = broken(error, "me")
    assert (row.step, row.status, row.fault) == (0, status, fault)
    assert bool(row.traceback) is (status == "error")
    assert failed(Row(3), ValueError("x")).fault == "solver"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_nobody_s_failure(tmp_path, monkeypatch, number):
    with pytest.raises(Full, match="/a/b"), room():
        raise OSError(number, "no", "/a/b")
    with pytest.raises(PermissionError), room():
        raise OSError(errno.EACCES, "no", "/a/b")
    with pytest.raises(Full):
        failed(Row(3), Full("x"))
    with pytest.raises(Full):
        broken(Full("x"))
    point = Point(torch.zeros(2).double(), torch.zeros(2).double())
    kept = Marks(tmp_path)
    kept._folder = tmp_path / "none"  # torch says of a disk that is full what it says of a folder that is not there
    with pytest.raises(Full, match=r"0-1\.pt"):
        kept.write(0, 1, point, point, ({}, {}))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one\ntwo"), "one"), (ValueError(), "ValueError"), (ValueError("x" * 400), "x" * 300),
        (SystemExit(3), "raised SystemExit: 3"), (KeyboardInterrupt(), "raised KeyboardInterrupt"),
    ],
)  # fmt: skip
def test_a_reason_is_one_line(error, reason):
    assert broken(error).reason == reason


def test_a_failed_row_keeps_the_counts_of_the_last_look_and_no_figures():
    last = Row(
        3, 1.0, 2.0, {"f": 4}, 4, {"f": 9}, {"phi": 1.0}, unjudged="u", x=[1.0], y=[2.0], memory={"peak_bytes": 1}
    )
    row = failed(last, ValueError("x"))
    assert (row.step, row.seconds, row.calls, row.total_calls, row.rows) == (3, 1.0, {"f": 4}, 4, {"f": 9})
    assert (row.metrics, row.unjudged, row.x, row.y, row.memory) == ({}, "", None, None, None)
    assert (last.metrics, last.status) == ({"phi": 1.0}, "running")
    at = failed(last, AtLook(Row(5), Diverged("y is not finite")))
    assert (at.step, at.status, at.reason) == (5, "diverged", "y is not finite")


def test_marks_are_written_while_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "MOST", 64)
    kept, point = Marks(tmp_path), Point(torch.zeros(2).double(), torch.zeros(2).double())
    shot = {("f", None, "f"): "count(3)"}
    kept.write(0, 1, (), point, ({}, shot))  # 32 bytes
    kept.write(1, 2, (), point, (shot, {("f", None, "f"): "count(5)"}))  # and 32 more
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0-1.pt", "1-2.pt"]
    kept.write(2, 3, (), (), ({}, {}))
    assert not (tmp_path / "2-3.pt").exists()
    assert read(tmp_path, (1, 2))[2] == {("f", None, "f"): 2}
    fresh = Marks(tmp_path / "a" / "b")
    fresh.write(0, 1, point, point, ({}, {}))
    fresh.write(1, 2, point, point, ({}, {}))  # too large, and nothing comes after
    fresh.write(2, 3, (), (), ({}, {}))
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["0-1.pt"]


def test_windows_are_an_eighth_and_end_within_their_stretch(tmp_path):
    kept = Marks(tmp_path)
    for first, last, length in ((0, 1, 1), (0, 15, 1), (0, 16, 2), (10, 26, 2), (0, 10_000, 100)):
        drawn = [kept.within(first, last) for _ in range(200)]
        assert {end - begin for begin, end in drawn} == {length}
        assert min(drawn)[0] >= first
        assert max(drawn)[1] <= last
    assert {kept.within(0, 3) for _ in range(200)} == {(0, 1), (1, 2), (2, 3)}


def test_a_state_is_packed_by_what_it_holds():
    assert pack(True) is True
    assert pack("a") == "a"
    assert pack(None) is None
    assert (pack(3), pack(2.5)) == (3, 2.5)
    assert type(pack(np.int64(3))) is int
    assert type(pack(np.float32(0.5))) is float
    assert pack([1, (2,)]) == ["list", "", 1, ["tuple", "", 2]]
    assert pack({"a": 1, "b": 2}) == ["dict", ["a", "b"], 1, 2]
    assert unpack(pack({"a": [1, (2, "x")]}), {}, torch.device("cpu")) == {"a": [1, (2, "x")]}
    for wrong in ({1: 2}, {"a": object()}, {1, 2}):
        with pytest.raises(Foul, match="its state holds a"):
            pack(wrong)
    x = torch.arange(4.0)
    assert [tensor.tolist() for tensor in tensors(pack(Point(x, [x[:1]])))] == [[0, 1, 2, 3], [0]]
    assert tensors(3) == []
    whole = pack(x)
    assert whole.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()  # nothing is copied without need
    assert pack(x[1:]).untyped_storage().nbytes() == 12


def test_namedtuples_are_found_in_what_a_state_is_made_of():
    known = {}
    collect({"a": [Point(torch.zeros(1), (Point(1, 2),))]}, known)
    assert known == {"Point": Point}
    collect(3, known)
