"""Two versions side by side: the sequence that stops when it knows, what is exact, versions that cannot be had."""

import math
import random
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilevelbench.api import launches
from bilevelbench.api import versions as api
from bilevelbench.cli import main
from bilevelbench.core.errors import RequestError, Unsupported
from bilevelbench.report import compare as page
from bilevelbench.run.beside import Lost, Pair
from bilevelbench.run.revisions import between, version
from bilevelbench.stats import sequence
from bilevelbench.stats.versions import BIT, EVEN, FASTER, LEAST, OPEN, OTHER, ROUNDED, SLOWER, Cell

SOLVER = """
import time

from bilevelbench import Point, solver


@solver("mine")
class Mine:
    lr: float = 0.1
    calls = "dg_y"

    def step(self, o, s):
        {extra}
        return Point(s.x, s.y - self.lr * o.dg_y(s.x, s.y))
"""
SLOW = "[time.process_time() for _ in range(3000)]"  # a few steps' worth
MORE = "o.dg_y(s.x, s.y)"


# -- the sequence


@given(st.integers(1, 60))
def test_the_bet_is_fair(count):
    """Whoever bets on a fair coin holds one in expectation: with Ville's inequality that is all the method rests on."""
    held = sum(math.comb(count, k) * 0.5**count * math.exp(sequence.fortune(k, count)) for k in range(count + 1))
    assert held == pytest.approx(1, rel=1e-6)


@given(st.integers(1, 300), st.floats(1e-9, 0.5))
def test_what_is_needed_suffices_and_less_does_not(count, alpha):
    must = sequence.needed(count, alpha)
    assert must > count / 2
    assert must > count or sequence.fortune(must, count) >= math.log(2 / alpha)
    assert sequence.fortune(must - 1, count) < math.log(2 / alpha)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=80), st.floats(-1, 1))
def test_bounds_follow_the_data_and_an_outlier_is_one_sign(values, shift):
    found = sequence.median(values, 0.01)
    moved = sequence.median([value + shift for value in values], 0.01)
    assert found.low <= found.median <= found.high
    for one, other in zip(found, moved, strict=True):
        assert other == pytest.approx(one + shift) or one == other
    most = max(values)
    wild = [1e9 if value == most else value for value in values]
    assert sequence.median(wild, 0.01).low == pytest.approx(found.low) or found.low == most


def test_at_no_time_is_the_truth_left_out_too_often():
    """Looked at after each of 100 observations, 300 times: at most a tenth of the sequences may ever miss."""
    rng, missed = random.Random(0), 0
    for _ in range(300):
        values, wrong = [], False
        for _ in range(100):
            values.append(rng.choice([-1, 1]) * rng.expovariate(1))
            found = sequence.median(values, 0.1)
            wrong |= not found.low <= 0 <= found.high
        missed += wrong
    assert missed <= 30


# -- verdicts


def cell(ratio, launches=LEAST, noise=0.03, head=None, **more):
    rng = random.Random(1)
    made = [[math.log(ratio) + rng.gauss(0, noise) for _ in range(12)] for _ in range(launches)]
    exact = {"calls": {"dg_y": 8}, "passes": {"forward": 8}, "digests": ["a"], "points": [[1.0, 2.0]], "steps": 8,
             "bytes": 800, "exponent": 1.0}  # fmt: skip
    return Cell("mine", "quadratic", exact, exact | (head or {}), made, **more)


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.0, EVEN), (1.25, SLOWER), (0.8, FASTER), (1.02, EVEN), (1.15, SLOWER), (1.07, OPEN)]
)
def test_the_verdict_on_speed(ratio, words):
    assert cell(ratio).speed(0.001) == words
    assert cell(ratio, launches=LEAST - 1).speed(0.001) == OPEN, "one process may lie badly in memory"
    assert cell(ratio).worse(0.001) == (words == SLOWER)


def test_one_bad_launch_is_no_slow_down():
    """A launch that is 18 % off as a whole, as on a core with a busy neighbour, has blocks that all agree."""
    bad = cell(1.0)
    bad.launches[0] = [math.log(1.18)] * 12
    assert bad.speed(0.001) not in (SLOWER, FASTER)


@pytest.mark.parametrize(
    ("head", "path", "words", "worse"),
    [
        ({}, BIT, "same path, as fast", False),
        ({"digests": ["b"], "points": [[1.0, 2.0 + 1e-12]]}, ROUNDED, "same path, as fast", False),
        ({"digests": ["b"], "points": [[1.0, 2.1]]}, OTHER, "another algorithm, as fast", False),
        ({"digests": ["b"], "points": [[]]}, OTHER, "another algorithm, as fast", False),
        ({"calls": {"dg_y": 16, "f": 8}}, BIT, "calls +1 dg_y, +1 f", True),
        ({"calls": {"dg_y": 0}}, BIT, "calls -1 dg_y", False),
        ({"bytes": 1600}, BIT, "bytes 2.00x", True),
        ({"exponent": 2.0}, BIT, "n^2.0 for n^1.0", True),
    ],
)
def test_what_is_exact_is_told(head, path, words, worse):
    found = cell(1.0, head=head)
    assert found.path == path
    assert words in found.verdict(0.001)
    assert found.worse(0.001) == worse


# -- two processes


@pytest.mark.process(sibling="test_it_stops_when_it_knows_and_blames_the_one_that_is_lost")
def test_a_slower_version_is_found_and_an_equal_one_is_not(tmp_path):
    """One launch of two processes; how launches add up to a verdict is above."""
    file = tmp_path / "mine.py"
    knobs = "if self.slow:\n            " + SLOW + "\n        if self.more:\n            " + MORE
    text = SOLVER.format(extra=knobs).replace("    calls", "    slow: bool = False\n    more: bool = False\n    calls")
    file.write_text(text)
    made = version(str(file), tmp_path)
    with Pair(made, made) as pair:
        assert {"bome", "itd"} <= set(pair.base.ask("solvers"))
        for name, options in (("slow", "(slow=True)"), ("equal", ""), ("more", "(more=True)")):
            pair.open(name, "quadratic(d=3)", (str(file), f"{file}{options}"), "cpu")
        exact = {name: pair.both("exact", cell=name) for name in ("slow", "equal", "more")}
        logs = {name: sorted(pair.log_ratio(name) for _ in range(7)) for name in ("slow", "equal")}
        with pytest.raises(RequestError, match="there is no problem 'quadratik'; did you mean"):
            pair.open("wrong", "quadratik", ("bome", "bome"), "cpu")
        with pytest.raises(Unsupported, match="no way with"):
            pair.open("unfit", "coupled_equality", ("bome", "bome"), "cpu")
        pair.head._child.kill()
        with pytest.raises(Lost, match="its process ended"):
            pair.log_ratio("equal")
    assert logs["slow"][0] > math.log(1.2), "every block is slower by far"
    assert logs["equal"][0] < math.log(1.1), "some blocks are not"
    found = {name: Cell("mine", "q", *exact[name], [logs.get(name, [0.0])]) for name in exact}
    assert found["slow"].path == found["equal"].path == found["more"].path == BIT
    assert found["slow"].costs == found["equal"].costs == []
    assert "calls +1 dg_y" in found["more"].costs
    assert found["more"].worse(0.001)


class Pairs:
    """Stands for processes: ratios as they are told, and a process that is lost."""

    def __init__(self, ratios, lost=()):
        self.ratios, self.lost, self.launches = ratios, set(lost), 0

    def __call__(self, base, head, threads, core):
        self.base, self.head = (type("Side", (), {"version": one})() for one in (base, head))
        self.about = ({"file": "", "torch": "2", "python": "3"},) * 2
        self.launches += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def open(self, name, problem, solvers, device):
        if solvers[0] in self.lost:
            raise Lost(f"{self.head.version.label}: its process ended")

    def both(self, ask, cell=""):
        if ask == "solvers":
            return [*self.ratios, "gone"], [*self.ratios, "new"]
        return cell_of(1.0).base, cell_of(1.0).head

    def log_ratio(self, name):
        return math.log(self.ratios[name.partition(" ")[0]])


cell_of = cell


@pytest.fixture
def two(tmp_path):
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
    return [str(place) for place in places]


def test_it_stops_when_it_knows_and_blames_the_one_that_is_lost(monkeypatch, two):
    pairs = Pairs({"even": 1.0, "slow": 1.2, "dies": 1.0}, lost=["dies"])
    monkeypatch.setattr(launches, "Pair", pairs)
    found = api.compare(*two, progress=False)
    speeds = {cell.solver: cell.verdict(found.alpha) for cell in found.cells}
    assert speeds["even"] == "same path, as fast"
    assert speeds["slow"].startswith("same path, slower by 1.20")
    assert speeds["dies"] == f"{two[1]}: its process ended"
    assert pairs.launches == LEAST + 1, "one launch was lost, and none more was needed"
    assert found.worse
    assert found.notes == ["only base has gone", "only head has new"]
    text = found.markdown()
    assert text.startswith(f"### {two[1]} against {two[0]}: 2 of 2 worse") or "2 of" in text
    assert "**same path, slower by 1.20**" in text
    assert "slower by 1.20" in repr(found)


def test_what_is_never_decided_ends_with_the_time(monkeypatch, two):
    pairs = Pairs({"near": 1.07})
    monkeypatch.setattr(launches, "Pair", pairs)
    found = api.compare(*two, "near", seconds=1e-9, progress=False)
    assert pairs.launches == LEAST
    assert found.cells[0].verdict(found.alpha) == "same path, not decided"
    assert not found.worse


def test_the_page_asks_for_nothing(monkeypatch, two, tmp_path):
    monkeypatch.setattr(launches, "Pair", Pairs({"even": 1.0, "slow": 1.3}))
    found = api.compare(*two, problems=["quadratic", "coreset"], progress=False)
    text = page.write(found, tmp_path / "made" / "page.html").read_text()
    assert text.count("<svg") == 1
    assert "slower by 1.30" in text
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert len(found.table) == 4
    assert set(found.table["worse"]) == {True, False}


# -- versions


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Three commits of a solver, the last one slower; and the folder is the working folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for number, extra in enumerate(("pass", "None", SLOW)):
        (folder / "mine.py").write_text(SOLVER.format(extra=extra))
        if not number:
            subprocess.run(["git", "init", "-q"], check=True)
        subprocess.run(["git", "add", "."], check=True)
        who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
        subprocess.run(["git", *who, "commit", "-q", "-m", f"commit {number}"], check=True)
    return folder


def test_a_revision_is_laid_out_and_leaves_no_trace(repository, tmp_path):
    found = version("HEAD~1", tmp_path / "out")
    assert "None" in (found.folder / "mine.py").read_text()
    assert len(found.commit) == 40
    assert subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=True).stdout == b""
    assert len(between("HEAD~2", "HEAD")) == 2


def sentences(repository, tmp_path):
    wheel = tmp_path / "broken.whl"
    wheel.write_text("no zip")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "pyproject.toml").write_text("= no toml")
    return {
        "no_such": "there is no revision, file or folder 'no_such'",
        "--flag": "there is no revision, file or folder '--flag'",
        "none.py": "there is no file none.py",
        "none.whl": "there is no wheel none.whl",
        str(wheel): "is no wheel: it cannot be unpacked",
        str(tmp_path / "env"): "has no interpreter",
        str(tmp_path / "bad"): "its pyproject.toml cannot be read",
    }


def test_versions_that_cannot_be_had_are_one_sentence(repository, tmp_path, monkeypatch, capsys):
    for text, words in sentences(repository, tmp_path).items():
        with pytest.raises(RequestError, match=re.escape(words)):
            version(text, tmp_path / "scratch")
    monkeypatch.setattr(sys, "argv", ["bilevelbench", "compare", "no_such", "HEAD"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: there is no revision")
    assert said.count("\n") == 1


def test_a_dirty_tree_and_a_wrong_order_are_one_sentence(repository, tmp_path):
    with pytest.raises(RequestError, match="is HEAD the older one"):
        between("HEAD", "HEAD~1")
    (repository / "mine.py").write_text("changed")
    with pytest.raises(RequestError, match="1 of its files have changes that are not committed"):
        version("HEAD", tmp_path / "dirty")
    assert version("HEAD~1", tmp_path / "clean").commit, "another commit is not what is checked out"
    assert version(".", tmp_path / "folder").folder == repository


def test_no_git_and_no_repository_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(RequestError, match="no git repository around"):
        version("main", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="there is no git here"):
        version("main", tmp_path)


def test_another_lock_gets_an_environment_of_its_own_or_a_sentence(repository, tmp_path, monkeypatch):
    (repository / "uv.lock").write_text("other")
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", *who, "commit", "-q", "-m", "lock"], check=True)
    (repository / "uv.lock").write_text("changed since")
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    (tmp_path / "same").mkdir()
    subprocess.run(["git", *who, "commit", "-q", "-am", "another"], check=True)
    with pytest.raises(RequestError, match="no uv to install what it names; --same-environment"):
        version("HEAD~1", tmp_path / "lock")
    assert version("HEAD~1", tmp_path / "same", same=True).python == sys.executable
    assert version("HEAD", tmp_path / "this").python == sys.executable, "the lock of this checkout"


def test_a_wheel_and_an_environment_are_versions(tmp_path):
    with zipfile.ZipFile(tmp_path / "bilevelbench-9-py3-none-any.whl", "w") as archive:
        archive.writestr("bilevelbench/__init__.py", "")
    found = version(str(tmp_path / "bilevelbench-9-py3-none-any.whl"), tmp_path / "wheel")
    assert found.home == tmp_path / "wheel"
    assert version(sys.prefix, tmp_path).python.startswith(sys.prefix)
    assert version(sys.executable, tmp_path).python == sys.executable


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0}, "seconds=0"), ({"false_alarms": 2}, "false_alarms=2"), ({"problems": []}, "problems is empty"),
        ({"solvers": []}, "solvers is empty"), ({"progress": 3}, "progress=3"),
    ],
)  # fmt: skip
def test_impossible_options_are_one_sentence(two, options, words):
    with pytest.raises(RequestError, match=words):
        api.compare(*two, **options)


@pytest.mark.process(sibling="test_it_stops_when_it_knows_and_blames_the_one_that_is_lost")
def test_the_commit_is_named(repository, tmp_path):
    """The whole command, on revisions of somebody's own repository."""
    command = [sys.executable, "-m", "bilevelbench", "compare", "HEAD~2", "HEAD", "-s", "mine.py", "--bisect"]
    command += ["-p", "quadratic(d=3)", "--markdown", str(tmp_path / "table.md"), "--html", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "commit 2" in done.stdout, "the last commit is to blame"
    assert "slower by" in (tmp_path / "table.md").read_text()
    equal = subprocess.run(
        [*command[:5], "HEAD~1", *command[6:8], *command[9:11]], capture_output=True, text=True, check=False
    )
    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert "none of 1 worse" in equal.stdout
