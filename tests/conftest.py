"""One thread where the environment names no number, no deadlines (the machine may be busy, and no test here judges
seconds), and a cache of their own.

``--cpu N`` lists the N tests that took the most CPU seconds, their children's included: a busy machine spoils the wall
seconds of ``--durations``. What is over 15 of them belongs to a slower tier (CONTRIBUTING, "Tests in tiers").
"""

import atexit
import os
import shutil
import tempfile

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

os.environ["BILEVELBENCH_CACHE"] = tempfile.mkdtemp(prefix="bilevelbench-")  # what earlier code made does not count
os.environ["BILEVELBENCH_CORES"] = f"{os.environ['BILEVELBENCH_CACHE']}/cores"  # other runs of this machine hold some
os.makedirs(os.environ["BILEVELBENCH_CORES"])
atexit.register(shutil.rmtree, os.environ["BILEVELBENCH_CACHE"], ignore_errors=True)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_addoption(parser):
    parser.addoption("--cpu", type=int, default=0, metavar="N", help="list the N tests that took the most CPU seconds")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    item.cpu = sum(os.times()[:4])
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    now = sum(os.times()[:4])  # user and system seconds, the process's and its ended children's
    report.user_properties = [*report.user_properties, ("cpu", now - item.cpu)]
    item.cpu = now
    return report


def pytest_terminal_summary(terminalreporter, config):
    count = config.getoption("--cpu")
    if not count:
        return
    seconds = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "cpu":
                    seconds[report.nodeid, report.when] = value
    total = sum(seconds.values())
    terminalreporter.write_sep("=", f"most CPU seconds, of {total:.0f} in all")
    for (test, when), value in sorted(seconds.items(), key=lambda pair: -pair[1])[:count]:
        terminalreporter.write_line(f"{value:8.2f}s {when:8} {test}")
