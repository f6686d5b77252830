"""Real clusters, started on this machine: Dask from PyPI, Slurm from the system. What they make is what is made here.

Without them, ``tests/test_handing.py`` holds the same rules to executors that only say what they are told to.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import bilevelbench as bb
from bilevelbench.core.errors import RequestError
from bilevelbench.run.on import slurm as slurms
from bilevelbench.store.journal import read_folder
from tests import clusters

ASKED = {"problems": ["quadratic(d=4)"], "solvers": ["bome", "soba"], "seeds": [0, 1], "steps": 30, "progress": False}
COMMAND = "import sys, json, bilevelbench as bb; bb.run(**json.loads(sys.argv[1]))"


def told(out):
    """What must be the same wherever a run was made."""
    kept = ("step", "calls", "rows", "metrics", "status", "fault", "reason")
    return {
        record.header["digest"]: [{name: row.get(name) for name in kept} for row in record.rows]
        for record in read_folder(out)
    }


def started(out, env=None, **more):
    """The command as a process."""
    asked = json.dumps({**ASKED, "out": str(out), **more})
    return subprocess.Popen([sys.executable, "-c", COMMAND, asked], env={**os.environ, **(env or {})})


def finished(out):
    return len(list(out.glob("*.jsonl")))


def until(condition, process, seconds=300):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.1)


def whole(out, alone):
    """All is there, equal, and nothing is left."""
    assert told(out) == told(alone)
    assert all(record.troubles == [] and record.status == "done" for record in read_folder(out))
    assert not [path for path in out.iterdir() if path.suffix == ".part"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs, made by this machine without anybody's help."""
    out = tmp_path_factory.mktemp("alone")
    bb.run(**ASKED, out=out)
    return out


@pytest.mark.cluster(sibling="test_a_child_makes_runs_refuses_others_and_leaves_with_whoever_started_it")
def test_dask_makes_the_same_though_worker_scheduler_and_driver_are_killed(tmp_path, alone):
    pytest.importorskip("distributed", reason="Dask is not installed")
    out = tmp_path / "out"
    with clusters.dask(tmp_path, 2) as (address, processes):
        driver = started(out, on=address)
        until(lambda: finished(out) >= 1, driver)
        processes.kill("worker-0")
        processes.kill("scheduler")
        processes.again("scheduler")
        processes.again("worker-0")
        until(lambda: finished(out) >= 2, driver)
        driver.kill()
        driver.wait()
        before = {path: path.read_bytes() for path in out.glob("*.jsonl")}
        assert started(out, on=address).wait(600) == 0
        assert all(path.read_bytes() == content for path, content in before.items())
    whole(out, alone)


@pytest.mark.cluster(sibling="test_slurm_as_its_commands_see_it")
@pytest.mark.skipif(bool(clusters.lacking()), reason=clusters.lacking() or "-")
def test_slurm_makes_the_same_though_a_node_goes_and_a_worker_is_preempted(tmp_path, alone):
    out, shared = tmp_path / "out", tmp_path / "slurm"
    shared.mkdir()
    with clusters.slurm(shared, 2) as (env, processes):
        driver = started(out, env, on="slurm", slurm={"partition": "low"}, jobs=2)
        until(lambda: finished(out) >= 1, driver)
        urgent = ["sbatch", "-p", "high", "-w", "n0", "--output=/dev/null", "--wrap=sleep 5"]
        subprocess.run(urgent, env={**os.environ, **env}, check=True, capture_output=True)
        processes.kill("n1", signal.SIGKILL)
        processes.again("n1")
        assert driver.wait(600) == 0
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            asked = {**ASKED, "seeds": [7], "out": tmp_path / "none"}
            with pytest.raises(RequestError, match=r"sbatch refused the array: .*artition"):
                bb.run(**asked, on="slurm", slurm="partition=nosuch")
    whole(out, alone)


# -- Slurm as its commands see it


SBATCH = """#!{python}
import sys, pathlib
script, here = sys.stdin.read(), pathlib.Path({here!r})
(here / "script").write_text(script)
count = here / "count"
count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
if "nosuch" in script:
    sys.exit("sbatch: error: invalid partition specified: nosuch")
made = sorted((here / "made").glob("*"))[:1]  # one run for each array
for path in made:
    path.rename(here / "out" / path.name)
print("7;cluster")
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Commands of Slurm's of which an array makes one run and ends."""
    (tmp_path / "bin").mkdir()
    texts = {"sbatch": SBATCH.format(python=sys.executable, here=str(tmp_path)), "squeue": "#!/bin/sh\n",
             "scancel": f"#!/bin/sh\necho $1 >> {tmp_path}/cancelled\n"}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurms, "LOOK", 0.01)
    monkeypatch.setattr(slurms, "ASK", 0.05)
    for name in ("out", "made"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_slurm_as_its_commands_see_it(tools):
    """An array that ends and leaves runs is followed by another, until all are there."""
    from tests.results_factory import write_run
    from tests.test_handing import jobs_of

    jobs, ended = jobs_of(tools / "out", range(3)), []
    for job in jobs:
        path = write_run(tools / "made", seed=job.key.seed)
        path.rename(path.with_name(job.name))
    slurm = slurms.Slurm(2, {"partition": "short", "gres": "gpu:1"}, 9.0)
    slurm.make(tools / "out", jobs, lambda job: None, lambda job, status: ended.append((job.key.seed, status)))
    assert sorted(ended) == [(0, "done"), (1, "done"), (2, "done")]
    assert (tools / "count").read_text() == "3"
    script = (tools / "script").read_text()
    assert {"#SBATCH --partition=short", "#SBATCH --gres=gpu:1", "#SBATCH --requeue", "#SBATCH --array=0-0"} <= set(
        script.splitlines()
    )
    assert f"exec {sys.executable} -m bilevelbench run --join {tools / 'out'} --patience 9" in script
    assert len(list((tools / "out").glob("*.plan"))) == 1


def test_arrays_that_make_nothing_are_given_up(tools):
    from tests.test_handing import jobs_of

    with pytest.raises(RequestError, match=r"3 Slurm arrays ended without a run, see .*slurm-7_0.log"):
        slurms.Slurm(1, {}, 9.0).make(tools / "out", jobs_of(tools / "out", [0]), None, None)
    assert (tools / "cancelled").read_text().split() == ["7"] * 3


def test_what_sbatch_refuses_is_said(tools):
    from tests.test_handing import jobs_of

    with pytest.raises(RequestError, match=r"sbatch refused the array: .*invalid partition specified: nosuch; nothing"):
        slurms.Slurm(1, {"partition": "nosuch"}, 9.0).make(tools / "out", jobs_of(tools / "out", [0]), None, None)


def test_slurm_that_is_not_there_is_said(tmp_path, monkeypatch):
    from tests.test_handing import jobs_of

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="on slurm needs the command sbatch, which is not here"):
        slurms.Slurm(1, {}, 9.0).make(tmp_path, jobs_of(tmp_path, [0]), None, None)


@pytest.mark.parametrize("text", ["partition", "=x", "time=", "Bad=1", "a b=1", "time=1\n#SBATCH --x=1"])
def test_an_option_that_cannot_be_one_is_said(text):
    with pytest.raises(RequestError, match="it takes NAME=VALUE, such as partition=short,time=2:00:00"):
        slurms.options([text])


def test_options_of_slurm():
    assert slurms.options(["partition=a,time=2:00:00", "gres=gpu:1"]) == {
        "partition": "a", "time": "2:00:00", "gres": "gpu:1",
    }  # fmt: skip
