"""Nodes on this machine that can be cut off: each with a network of its own, a small disk, and a clock. Needs root."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

BRIDGE, NET = "bbnodes", "10.77.0"
DISK = 8 << 20  # bytes
SOURCE = "clock_off.c"
TOOLS = ("ip", "nsenter", "mount", "umount")


def lacking():
    """Why there can be no such nodes here; '' where there can."""
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found"
    return "" if os.geteuid() == 0 else "networks and disks need root"


def off_clock(folder):
    """A library that, preloaded, has the time of day ``CLOCK_OFF`` seconds off; '' where there is no C compiler.

    libfaketime 0.9.10 is none: told to leave the monotonic clock alone it has Python's ``time.sleep`` fail.
    """
    made = folder / "clock_off.so"
    if not made.exists() and (compiler := shutil.which("cc")):
        tool(compiler, "-shared", "-fPIC", "-O", "-o", str(made), str(Path(__file__).parent / SOURCE), "-ldl")
    return str(made) if made.exists() else ""


def tool(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60)


class Node:
    """One node: ``address``, ``disk``, and by ``seconds`` how far its clock is off."""

    def __init__(self, k, folder):
        self.name, self.link, self.address = f"bb{k}", f"bbv{k}", f"{NET}.{10 + k}"
        self.disk, self.clock = folder / f"disk-{k}", folder / f"clock-{k}"
        self.seconds = 0

    def begin(self):
        tool("ip", "netns", "add", self.name)
        tool("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        tool("ip", "link", "set", self.link, "master", BRIDGE, "up")
        for command in (["addr", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"],
                        ["link", "set", "lo", "up"]):  # fmt: skip
            tool("ip", "-n", self.name, *command)
        self.disk.mkdir()
        tool("mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(self.disk))

    def inside(self, *command):
        """The command as it is run in the node's network."""
        return ("nsenter", f"--net=/run/netns/{self.name}", *command)

    def env(self):
        """What processes of the node are told: where its disk is, and what time it is there."""
        off = {"LD_PRELOAD": off_clock(self.disk.parent), "CLOCK_OFF": str(self.seconds)}
        return {"TMPDIR": str(self.disk), **(off if self.seconds else {})}

    def plug(self, way):
        """Pull the node's cable, or put it in: ``up`` or ``down``."""
        tool("ip", "link", "set", self.link, way)

    def fill(self):
        """Fill its disk to the last byte."""
        with contextlib.suppress(OSError), (self.disk / "full").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self):
        (self.disk / "full").unlink(missing_ok=True)

    def full(self):
        """Whether there is no room."""
        try:
            (self.disk / "probe").write_bytes(bytes(8192))
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            (self.disk / "probe").unlink(missing_ok=True)
        return False

    def end(self):
        tool("umount", "-l", str(self.disk), check=False)
        tool("ip", "netns", "del", self.name, check=False)
        tool("ip", "link", "del", self.link, check=False)


@contextlib.contextmanager
def nodes(folder, count):
    """So many nodes on a bridge, on which this machine is ``NET``.1."""
    made = [Node(k, folder) for k in range(count)]
    try:
        tool("ip", "link", "add", BRIDGE, "type", "bridge")
        tool("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        tool("ip", "link", "set", BRIDGE, "up")
        for node in made:
            node.begin()
        yield made
    finally:
        for node in made:
            node.end()
        tool("ip", "link", "del", BRIDGE, check=False)


def family(pid):
    """A process and all that it has started."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def kill(processes, how=signal.SIGKILL):
    """Send a signal to processes, those that are gone already left out; how many there were."""
    sent = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(how)
            sent += 1
    return sent


def with_env(name, value):
    """The processes of this machine that have a variable in their environment."""
    wanted = f"{name}={value}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, psutil.Error):
            if wanted in path.read_bytes().split(b"\0"):
                yield psutil.Process(int(path.parent.name))
