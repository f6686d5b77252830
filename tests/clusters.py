"""Real clusters on this machine, started by the tests that need them and stopped after."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

SLURM = ("slurmctld", "slurmd", "sbatch", "munged")


def lacking():
    """Why there can be no Slurm here; '' where there can."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in SLURM if shutil.which(name, path=path) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)})"
    return "" if os.geteuid() == 0 else "slurmd needs root"


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]


class Started:
    """Processes that end with the test, by the names under which they can be killed and started again."""

    def __init__(self, folder):
        self.folder, self.commands, self.running = folder, {}, {}

    def start(self, name, *command, env=None):
        self.commands[name] = command, env
        log = (self.folder / f"{name}.log").open("ab")
        self.running[name] = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        )  # fmt: skip

    def kill(self, name, how=signal.SIGKILL):
        """End a process with all of its session, as where a node is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, how)
        self.running[name].wait(60)

    def again(self, name, **env):
        """Start it again; ``env``: what is different now."""
        command, before = self.commands[name]
        self.start(name, *command, env={**(before or {}), **env})

    def stop(self):
        for name in reversed(list(self.running)):
            self.kill(name, signal.SIGTERM) if self.running[name].poll() is None else None


@contextlib.contextmanager
def dask(folder, workers, host="127.0.0.1", nodes=(), env=None):
    """A scheduler and workers; yields its address and the processes, ``scheduler`` and ``worker-K``.

    ``nodes``: where the workers run, see ``tests.nodes``; else all are on this machine.
    """
    started, port = Started(folder), free_port()
    address = f"tcp://{host}:{port}"
    tool = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    try:
        started.start("scheduler", *tool, "--host", host, "--port", str(port), "--no-dashboard", env=env)
        for k in range(workers):
            command = [*worker, "--local-directory", str(folder / f"worker-{k}")]
            inside = nodes[k].inside(*command, "--host", nodes[k].address) if nodes else command
            started.start(f"worker-{k}", *inside, env={**(env or {}), **(nodes[k].env() if nodes else {})})
        yield address, started
    finally:
        started.stop()


CONF = """
ClusterName=bb
SlurmctldHost={host}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPort={port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=2,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=10
KillWait=3
ReturnToService=2
SlurmdTimeout=20
MpiDefault=none
{more}
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


@contextlib.contextmanager
def slurm(folder, nodes, host="127.0.0.1", apart=(), more=""):
    """A controller and nodes ``n0``, ``n1``...; yields the environment that the tools need, and the processes.

    ``apart``: where the nodes run, see ``tests.nodes``; else all are on this machine. ``more``: of the configuration.
    """
    started = Started(folder)
    ports = [free_port() for _ in range(nodes + 1)]
    where = [one.address for one in apart] or ["127.0.0.1"] * nodes
    same = f"NodeHostname={socket.gethostname()} CPUs=1 State=UNKNOWN"
    lines = [f"NodeName=n{k} Port={ports[k]} NodeAddr={where[k]} {same}" for k in range(nodes)]
    conf, key = folder / "slurm.conf", folder / "munge.key"
    about = {"host": socket.gethostname(), "address": host, "folder": folder, "port": ports[-1], "more": more}
    conf.write_text(CONF.format(**about, nodes="\n".join(lines)))
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for name in ("state", *(f"spool-n{k}" for k in range(nodes))):
        (folder / name).mkdir()
    env = {"SLURM_CONF": str(conf), "PATH": os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])}
    files = [
        f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "key-file", "pid-file", "seed-file")
    ]
    try:
        started.start("munged", "/usr/sbin/munged", "--foreground", "--force", *files, f"--log-file={folder}/munge.log")
        time.sleep(1)
        started.start("controller", "/usr/sbin/slurmctld", "-D", "-c", env=env)
        for k in range(nodes):
            command = ["/usr/sbin/slurmd", "-D", "-N", f"n{k}"]
            started.start(f"n{k}", *(apart[k].inside(*command) if apart else command), env=env)
        _wait(env, nodes)
        yield env, started
    finally:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["scancel", "--user", "root"], env={**os.environ, **env}, timeout=20, capture_output=True)
        started.stop()


def _wait(env, nodes):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        asked = subprocess.run(["sinfo", "-h", "-N", "-p", "low", "-t", "idle"], env={**os.environ, **env}, text=True,
                               capture_output=True, check=False)  # fmt: skip
        if len(asked.stdout.splitlines()) == nodes:
            return
        time.sleep(1)
    raise AssertionError(f"Slurm did not start: {asked.stdout}{asked.stderr}")
