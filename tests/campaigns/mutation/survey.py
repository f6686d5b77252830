"""Which statements each test runs and what it costs: a map for each file of tests, made again where one has changed."""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from . import forks, probes

START = """\
import importlib.util, json, os, pathlib
spec = importlib.util.spec_from_file_location("_mutants_probes", {probes!r})
probes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(probes)
probes.install(pathlib.Path({shared!r}), pathlib.Path({site!r}), json.loads({numbers!r}))
"""


class Watcher:
    """A plugin of pytest: which statements each test comes by, what it takes, and whether it passes.

    Of a fixture that tests share each gets the statements; its seconds are kept apart, whoever asks first pays them.
    """

    def __init__(self, work: Path, site: Path, numbers: dict[str, int]) -> None:
        self._out, self._bytes = work / "found.json", probes.install(work / "shared.bin", site, numbers)
        self._imported: list[int] | None = None
        self._fixtures: dict[str, tuple[float, list[int]]] = {}
        self._tests: dict[str, tuple[float, list[int], list[str]]] = {}
        self._failed: set[str] = set()
        self._begun: set[str] = set()

    def _taken(self) -> list[int]:
        """The statements run since the last look."""
        found = bytes(self._bytes)
        self._bytes[:] = bytes(len(found))
        return [k for k, byte in enumerate(found) if byte]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        before, begin = self._taken(), _cpu()
        try:
            return (yield)
        finally:
            self._fixtures[fixturedef.argname] = _cpu() - begin, self._taken()
            for k in before:
                self._bytes[k] = 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        taken, begin, known = self._taken(), _cpu(), set(self._fixtures)
        self._imported = taken if self._imported is None else self._imported
        made = yield
        shared = [name for name in getattr(item, "fixturenames", ()) if name in self._fixtures]
        own = _cpu() - begin - sum(self._fixtures[name][0] for name in set(self._fixtures) - known)
        self._tests[item.nodeid] = max(0.0, own), self._taken(), shared
        return made

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        if report.skipped:
            self._begun.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        tests = {
            test: [round(seconds, 3), sorted({*hits, *(k for name in shared for k in self._fixtures[name][1])}), shared]
            for test, (seconds, hits, shared) in self._tests.items() if test not in self._begun
        }  # fmt: skip
        fixtures = {name: round(seconds, 3) for name, (seconds, _) in self._fixtures.items()}
        found = {"tests": tests, "fixtures": fixtures, "imported": self._imported or [], "failed": sorted(self._failed)}
        self._out.write_text(json.dumps(found))


def _cpu() -> float:
    return sum(os.times()[:4])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def survey(root: Path, work: Path, site: Path, rooms: Sequence[str], files: Sequence[str], kept: Path) -> None:
    """Make the maps that are missing or old; what another process is making is left to it."""
    kept.mkdir(exist_ok=True, parents=True)
    numbers = probes.firsts(site, list(rooms))
    sources = {name: _digest(site / name) for name in numbers}
    for file in files:
        out, claim = kept / f"{Path(file).stem}.json", kept / f"{Path(file).stem}.claim"
        if out.exists():
            was = json.loads(out.read_text())["sources"]
            if all(sources.get(name, _digest(root / name)) == digest for name, digest in was.items()):
                continue
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            found, spent = _watched(root, work, site, numbers, file)
            hit = {name for _, hits, _ in found["tests"].values() for name in hits}
            found["sources"] = {file: _digest(root / file)} | {name: sources[name] for name in sorted(hit)}
            out.write_text(json.dumps(found))
        finally:
            claim.unlink()
        print(f"{file}: {spent:.0f} CPU s, {len(found['tests'])} tests, watched in vain: {len(found['failed'])}, "
              f"failing: {found['bad']}", file=sys.stderr, flush=True)  # fmt: skip


def _watched(root: Path, work: Path, site: Path, numbers: dict[str, int], file: str) -> tuple[dict[str, Any], float]:
    """What a file's tests run and take, and the CPU seconds that this took; statements by module."""
    (work / "shared.bin").write_bytes(bytes(20_000))
    (work / "found.json").unlink(missing_ok=True)
    start = site.parent / "sitecustomize.py"
    start.write_text(START.format(probes=str(Path(probes.__file__)), shared=str(work / "shared.bin"), site=str(site),
                                  numbers=json.dumps(numbers)))  # fmt: skip
    code, spent = forks.in_a_fork(root, work, [*forks.QUIET, file], 1200, lambda: Watcher(work, site, numbers))
    start.unlink()
    if not (work / "found.json").exists():
        raise RuntimeError(f"{file}: {code}: {(work / 'out.txt').read_text()[-2000:]}")
    found: dict[str, Any] = json.loads((work / "found.json").read_text())
    found["bad"] = forks.failing(root, work, found["failed"])  # not those that merely find who looks
    found["tests"] = {
        test: [seconds, _by_module(hits, numbers), shared]
        for test, (seconds, hits, shared) in found["tests"].items() if test not in found["bad"]
    }  # fmt: skip
    found["imported"] = _by_module(found["imported"], numbers)
    return found, spent


def _by_module(hits: list[int], numbers: dict[str, int]) -> dict[str, list[int]]:
    """Numbers in each module: the same as long as its source is."""
    modules = sorted(numbers, key=numbers.__getitem__)
    begins = [numbers[name] for name in modules]
    found: dict[str, list[int]] = {}
    for k in hits:
        at = bisect.bisect_right(begins, k) - 1
        found.setdefault(modules[at], []).append(k - begins[at])
    return found
