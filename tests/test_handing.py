"""Runs as texts, handed out to whoever makes them, and what is done about those that are lost."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bilevelbench.core.errors import RequestError
from bilevelbench.core.spec import DEFINITION
from bilevelbench.run.job import Job, Named
from bilevelbench.run.names import look_up
from bilevelbench.run.on import choose, maker, plan, text
from bilevelbench.run.on import dask as dasks
from bilevelbench.run.on import hand as hands
from bilevelbench.run.on.executor import Child
from bilevelbench.run.on.hand import Hand
from bilevelbench.run.on.text import Reader, Refused, text_of
from bilevelbench.run.plan import expand
from bilevelbench.run.request import requested
from bilevelbench.store.claims import Claims
from bilevelbench.store.journal import read
from tests.results_factory import key, write_run


def planned(folder, seeds=(0,), solvers=("bome",)):
    suite = requested(None, ["quadratic(d=3)"], solvers, list, seeds=seeds, steps=8)
    return expand(suite, folder, "bilevelbench run", 60.0, place=lambda: "0" * 8)


class Ask:
    """Looks names up in this process."""

    device, environment = "cpu", {"place": "0" * 8}

    def __init__(self, processes=None, patience=1.0, sent=()):
        self.sent = sent

    def place(self):
        return "0" * 8

    def __call__(self, kind, given, seed):
        for sort, name, path in self.sent:
            if (sort, name) == (kind, given):
                return Named(name, 1, Path(path))
        return look_up(kind, given, seed)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "Elsewhere", Ask)
    (tmp_path / "definitions").mkdir()
    return Reader(None, tmp_path / "definitions", 1.0)


# -- texts


def test_a_run_is_the_same_after_its_travel(tmp_path, reader):
    (job,) = planned(tmp_path)
    job = dataclasses.replace(job, keep=("x",), tuned="edge", suite="s")
    assert reader.job(text_of(job), tmp_path) == job


def test_definitions_travel_with_the_runs_that_need_them(tmp_path, reader):
    paths = {name: tmp_path / f"{name}.0123456789abcdef{DEFINITION}" for name in ("mine", "other")}
    for name, path in paths.items():
        path.write_bytes(name.encode())
    sent = tuple(("solver", name, str(path)) for name, path in paths.items())
    (job,) = planned(tmp_path)
    code = text.source_digest(look_up("problem", "quadratic(d=3)", 0).file, paths["mine"])
    job = dataclasses.replace(job, solver="mine", sent=sent, key=dataclasses.replace(job.key, solver="mine", code=code))
    ((kind, name, path),) = reader.job(text_of(job), tmp_path).sent
    assert (kind, name, Path(path).read_bytes()) == ("solver", "mine", b"mine")
    assert Path(path).parent == tmp_path / "definitions"
    said = json.loads(text_of(job))
    said["sent"][0][2] = "../evil.py"
    with pytest.raises(Refused, match=r"evil.py is no definition"):
        reader.job(json.dumps(said), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"code": "other"}, "the source of bilevelbench, of quadratic\\(d=3\\) or of bome differs"),
        ({"problem_version": 99}, "its version of the problem is 99, here"),
        ({"solver": "bome(lr=77.0)"}, "its solver is bome\\(lr=77.0\\), here bome"),
    ],
)
def test_other_code_refuses_in_a_sentence(tmp_path, reader, changes, words):
    (job,) = planned(tmp_path)
    with pytest.raises(Refused, match=words):
        reader.job(text_of(dataclasses.replace(job, key=dataclasses.replace(job.key, **changes))), tmp_path)


@pytest.mark.parametrize("change", [lambda said: said["key"].update(newer=1), lambda said: said.pop("keep")])
def test_a_run_that_another_version_asked_for_is_refused(tmp_path, reader, change):
    said = json.loads(text_of(planned(tmp_path)[0]))
    change(said)
    with pytest.raises(Refused, match=r"cannot read the run \(.*\): another version of bilevelbench has asked for it"):
        reader.job(json.dumps(said), tmp_path)


def test_a_name_that_is_not_known_here_is_refused(tmp_path, reader):
    (job,) = planned(tmp_path)
    with pytest.raises(Refused, match=r"cannot make the run: .*bmoe"):
        reader.job(text_of(dataclasses.replace(job, solver="bmoe")), tmp_path)


# -- handing out


class Scripted:
    """Answers each start of a run by the next of a list of functions of its text."""

    def __init__(self, *answers, room=2):
        self.answers, self.texts, self.most, self.closed, self._room = list(answers), [], 0, False, room
        self._waiting = []

    @property
    def room(self):
        return self._room - len(self._waiting)

    def start(self, name, given):
        self.texts.append(given)
        self._waiting.append((name, self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], given))
        self.most = max(self.most, len(self._waiting))

    def ended(self, seconds):
        waiting, self._waiting = self._waiting, []
        for name, answer, given in waiting:
            yield name, answer(given)

    def close(self):
        self.closed = True


def recorded(tmp_path, place="feedbeef"):
    """What a worker answers that has made the run."""

    def answer(given):
        said = json.loads(given)
        path = write_run(tmp_path / "made", seed=said["key"]["seed"])
        head, _, rest = path.read_text().partition("\n")
        header = json.loads(head) | {"key": said["key"], "digest": said["digest"]}
        header["environment"]["place"] = place
        return {"record": f"{json.dumps(header)}\n{rest}"}

    return answer


def lost(**more):
    return lambda given: {"lost": "the node is gone"} | more


def hand(out, executor, jobs):
    ended, begun = [], []
    out.mkdir(exist_ok=True)
    begin, end = (lambda job: begun.append(job.key.seed)), (lambda job, status: ended.append((job.key.seed, status)))
    Hand(out, executor, begin, end).run(jobs)
    assert executor.closed
    assert not [path for path in out.iterdir() if path.name.startswith(".") or path.suffix == ".part"]
    return begun, ended


def jobs_of(out, seeds):
    return [Job(key(seed=s), "quadratic", "bome", out / f"{key(seed=s).stem}.jsonl", place="0" * 8) for s in seeds]


def test_what_is_handed_out_is_published_under_the_name_of_its_machine(tmp_path):
    out = tmp_path / "out"
    executor = Scripted(recorded(tmp_path))
    begun, ended = hand(out, executor, jobs_of(out, range(5)))
    assert (begun, sorted(ended)) == ([0, 1, 2, 3, 4], [(seed, "done") for seed in range(5)])
    assert executor.most == 2
    assert {path.name for path in out.iterdir()} == {f"{key(seed=s).stem}-feedbeef.jsonl" for s in range(5)}
    assert all(read(path).troubles == [] for path in out.iterdir())
    again = Scripted(recorded(tmp_path))
    assert hand(out, again, jobs_of(out, range(5)))[0] == []
    assert again.texts == []


@pytest.mark.parametrize("damaged", [lost(), lambda given: {"record": "{}\n"}, lambda given: {}])
def test_what_is_lost_or_damaged_is_made_again_twice(tmp_path, damaged):
    out = tmp_path / "out"
    executor = Scripted(damaged, damaged, recorded(tmp_path))
    assert hand(out, executor, jobs_of(out, [3])) == ([3], [(3, "done")])
    assert len(executor.texts) == 3


def test_half_a_record_is_no_record(tmp_path):
    out, whole = tmp_path / "out", recorded(tmp_path)
    torn = lambda given: {"record": whole(given)["record"][:-20]}  # noqa: E731
    assert hand(out, Scripted(torn, whole), jobs_of(out, [0])) == ([0], [(0, "done")])


def test_what_is_lost_again_and_again_is_the_machine_s_fault(tmp_path):
    out, executor = tmp_path / "out", Scripted(lost())
    assert hand(out, executor, jobs_of(out, [0])) == ([0], [(0, "lost")])
    assert len(executor.texts) == hands.TRIES == 8
    record = read(next(out.glob("*.jsonl")))
    assert (record.status, record.fault, record.troubles) == ("lost", "machine", [])
    assert record.rows[-1]["reason"] == "the node is gone"
    assert record.end["attempts"] == 8


def test_what_an_executor_lost_by_itself_is_not_counted(tmp_path):
    out = tmp_path / "out"
    executor = Scripted(*[lost(free=True)] * 9, *[lost()] * 7, recorded(tmp_path))
    assert hand(out, executor, jobs_of(out, [0]))[1] == [(0, "done")]


def test_where_no_machine_can_make_a_run_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(hands, "MOST_FREE", 5)
    out, made = tmp_path / "out", recorded(tmp_path)
    good = Scripted(*[lost(free=True)] * 5, made, *[lost(free=True)] * 5, made, room=1)  # a record begins it anew
    assert sorted(hand(out, good, jobs_of(out, range(2)))[1]) == [(0, "done"), (1, "done")]
    with pytest.raises(RequestError, match="no run can be made any more: the node is gone; what is finished is in"):
        hand(tmp_path / "other", Scripted(lost(free=True)), jobs_of(tmp_path / "other", [0]))
    assert not list((tmp_path / "other").glob("*.jsonl"))


def test_a_refusal_ends_the_command_and_loses_nothing(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    executor = Scripted(recorded(tmp_path), lambda given: {"refused": "other code"}, room=1)
    with pytest.raises(RequestError, match="other code"):
        hand(out, executor, jobs_of(out, range(3)))
    assert executor.closed
    assert [read(path).status for path in out.iterdir()] == ["done"]


def test_what_another_driver_makes_is_left_to_it(tmp_path):
    out, (job,) = tmp_path / "out", jobs_of(tmp_path / "out", [0])
    out.mkdir()
    others = Claims(out)
    claim = others.take(job.key.stem)

    class Other(Scripted):
        def ended(self, seconds):  # the other one publishes its run in the meantime
            if not (out / job.name).exists():
                write_run(out).rename(out / job.name)
                claim.release()
                others.close()
            yield from ()

    executor = Other(recorded(tmp_path))
    assert hand(out, executor, [job]) == ([], [(0, "done")])
    assert executor.texts == []


def test_a_full_disk_is_a_sentence_and_what_is_finished_stays(tmp_path, monkeypatch):
    out = tmp_path / "out"
    full = iter([None, OSError(28, "No space left on device")])
    publish = Hand._publish

    def publishing(self, *given):
        if (error := next(full)) is not None:
            raise error
        publish(self, *given)

    monkeypatch.setattr(Hand, "_publish", publishing)
    with pytest.raises(RequestError, match="cannot be written \\(No space left on device\\); what is finished"):
        hand(out, Scripted(recorded(tmp_path), room=1), jobs_of(out, range(2)))
    assert len(list(out.glob("*.jsonl"))) == 1
    monkeypatch.undo()
    assert sorted(hand(out, Scripted(recorded(tmp_path)), jobs_of(out, range(2)))[1]) == [(0, "done"), (1, "done")]


# -- the run-maker


def orphans(marker):
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in path.read_bytes() and "Z" not in (path.parent / "stat").read_text().split()[2]:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_child_makes_runs_refuses_others_and_leaves_with_whoever_started_it(tmp_path, monkeypatch):
    marker = f"BB_MARK={tmp_path.name}{os.getpid()}"
    monkeypatch.setenv(*marker.split("="))
    job, slow = planned(tmp_path, (0, 1))
    child = Child(120.0)
    found = child.ask(text_of(dataclasses.replace(job, keep=("x",))))
    header, *_, end = map(json.loads, found["record"].splitlines())
    assert (header["digest"], end["kind"], end["audit"]["ok"]) == (job.key.digest, "end", True)
    assert "points" in found
    other = dataclasses.replace(job, key=dataclasses.replace(job.key, code="other"))
    assert "other code" in child.ask(text_of(other))["refused"]
    assert "lost" in child.ask("no text of a run")
    assert "record" in child.ask(text_of(slow))  # and goes on
    assert len(orphans(marker)) >= 2
    child._process.stdin.close()
    end = time.monotonic() + 60
    while orphans(marker) and time.monotonic() < end:
        time.sleep(0.1)
    assert orphans(marker) == []
    assert child._process.wait(60) == 0


@pytest.mark.parametrize(
    ("happens", "answer"),
    [
        ("full", {"lost": "NODE: RequestError: /x cannot be written", "free": True}),
        ("lost", {"lost": "NODE: the process was killed from outside, with signal 9"}),
    ],
)  # fmt: skip
def test_the_trouble_of_a_machine_is_no_end_of_a_run(tmp_path, monkeypatch, happens, answer):
    """A maker answers that a run may be made elsewhere, after a while: it must not be the first to be free again."""
    slept, (job,) = [], jobs_of(tmp_path, [0])

    class Machine:
        machine = Ask()

        def __init__(self, *_):
            pass

        def job(self, text, folder):
            return dataclasses.replace(job, path=folder / job.path.name)

        def run(self, jobs):
            if happens == "full":
                raise RequestError("/x cannot be written")
            reason = "the process was killed from outside, with signal 9"
            write_run(jobs[0].path.parent, status="lost", reason=reason).rename(jobs[0].path.parent / jobs[0].name)

    for name in ("Reader", "Driver"):
        monkeypatch.setattr(maker, name, Machine)
    monkeypatch.setattr(maker.time, "sleep", slept.append)
    monkeypatch.setattr(maker.platform, "node", lambda: "NODE")
    assert maker.Maker(None, tmp_path, 1.0).answer("") == answer
    assert slept == ([maker.PAUSE] if happens == "full" else [])
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_child_that_is_killed_loses_its_run_alone(tmp_path):
    child = Child(120.0)
    os.kill(child._process.pid, signal.SIGKILL)
    answer = child.ask("{}")
    assert answer["gone"]
    assert answer["lost"] == "the process that made it ended with -9"


# -- where


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("dusk", {}, False, False), "on 'dusk' is not valid; it takes here, dask, slurm, folder or the address"),
        (("dask", {"time": "1"}, False, False), "is for on slurm, and on is 'dask'"),
        (("dask", {}, True, False), "here is about this machine alone"),
        (("slurm", {}, False, True), "in_process is about this machine alone"),
    ],
)
def test_what_does_not_go_together_is_said(given, words):
    with pytest.raises(RequestError, match=words):
        choose.check(*given)


def test_a_missing_extra_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match=r"pip install 'bilevelbench\[dask\]'"):
        dasks.Dask("tcp://127.0.0.1:9", 1)


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    monkeypatch.setattr(dasks, "REACH", 1.0)
    with pytest.raises(RequestError, match=r"on tcp://127.0.0.1:9: no Dask scheduler answers there"):
        dasks.Dask("tcp://127.0.0.1:9", 1)


def test_seeds_in_one_pass_are_no_tasks(tmp_path):
    job = dataclasses.replace(jobs_of(tmp_path, [0])[0], key=key(engine="batched"))
    with pytest.raises(RequestError, match="batched is all seeds in one"):
        choose.make("here", tmp_path, [job], None, 1, {}, 1.0)


def test_an_executor_s_side_needs_no_torch():
    code = "import sys, bilevelbench.run.on.executor; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- plans


def test_a_plan_is_read_as_it_was_written(tmp_path, reader):
    jobs = planned(tmp_path, (0, 1))
    choose.make("folder", tmp_path, jobs, None, 1, {}, 1.0)
    plan.write(tmp_path, jobs[:1])  # that of another command
    assert sorted(plan.joined(tmp_path, reader.job), key=lambda job: job.key.seed) == jobs


def test_a_plan_that_cannot_be_had_is_said(tmp_path):
    with pytest.raises(RequestError, match=r"there is no folder .*none to join"):
        plan.joined(tmp_path / "none", None)
    with pytest.raises(RequestError, match="holds no plan to join"):
        plan.joined(tmp_path, None)
    (tmp_path / "a.plan").write_text("{")
    with pytest.raises(RequestError, match=r"a.plan cannot be read"):
        plan.joined(tmp_path, None)
