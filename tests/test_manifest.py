"""What a run read is known afterwards: an edit anywhere in it shows, whatever else happens to the files does not."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bilevelbench.core.registry import PROBLEMS, SOLVERS
from bilevelbench.measure import stamps
from bilevelbench.measure.changed import changed
from bilevelbench.measure.env import HOME, repository
from bilevelbench.measure.manifest import ABSENT, MIXED, Manifest

HELPER = "def lr():\n    return 0.1\n"
EDITED = "def lr():\n    return 0.3\n"  # of the same length
PLAIN = "from updates import lr\ndef step():\n    return lr()\n"


def in_a_child(work):
    """What a function answers in a forked process: what it imports and patches stays there."""
    ear, mouth = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(mouth, json.dumps(work()).encode())
            code = 0
        except BaseException as error:
            os.write(mouth, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(code)
    os.close(mouth)
    with os.fdopen(ear) as answer:
        text = answer.read()
    assert os.waitpid(pid, 0)[1] == 0, text
    return json.loads(text)


def ran(folder, *own):
    """(the manifest of importing and stepping ``mine.py`` in a folder, what the step answered)."""

    def work():
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        manifest = Manifest()
        answer = runpy.run_path("mine.py")["step"]()
        return manifest.files(*own), answer

    return in_a_child(work)


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def rewrite(name, content):
    return lambda folder: (folder / name).write_text(content)


def keeping_times(name, content):
    def edit(folder):
        found = (folder / name).stat()
        (folder / name).write_text(content)
        os.utime(folder / name, ns=(found.st_atime_ns, found.st_mtime_ns))

    return edit


def replaced(name, content):
    def edit(folder):
        (folder / "new").write_text(content)
        os.replace(folder / "new", folder / name)

    return edit


def retargeted(folder):
    (folder / "updates.py").unlink()
    (folder / "updates.py").symlink_to(folder / "other.txt")


def zipped(content):
    def edit(folder):
        with zipfile.ZipFile(folder / "code.zip", "w") as archive:
            archive.writestr("updates.py", content)

    return edit


def linked(folder):
    (folder / "updates.py").symlink_to(folder / "there.txt")


def as_array(*values):
    return lambda folder: np.save(folder / "data.npy", np.array(values))


READING = "import json\nSETTINGS = json.load(open('settings.json'))\ndef step():\n    return SETTINGS['lr']\n"
THREAD = """
import threading
def step():
    found = []
    thread = threading.Thread(target=lambda: found.append(open("data.txt").read()))
    thread.start(), thread.join()
    return found[0]
"""
CHILD = """
import multiprocessing
def step():
    child = multiprocessing.get_context("fork").Process(target=lambda: open("data.txt").read())
    child.start(), child.join()
"""
OPTIONAL = """
import os
def step():
    try:
        return open("settings.txt").read()
    except FileNotFoundError:
        return "0.1"
"""
DATABASE = """
import sqlite3
def step():
    return sqlite3.connect("data.db").execute("select 1").fetchone()
"""

# what there is, what is made besides, the edit
EDITS = {
    "imported helper": ({"mine.py": PLAIN, "updates.py": HELPER}, None, rewrite("updates.py", EDITED)),
    "the file itself": ({"mine.py": PLAIN, "updates.py": HELPER}, None, rewrite("mine.py", PLAIN + "\n")),
    "same length and time": ({"mine.py": PLAIN, "updates.py": HELPER}, None, keeping_times("updates.py", EDITED)),
    "replaced by another file": ({"mine.py": PLAIN, "updates.py": HELPER}, None, replaced("updates.py", EDITED)),
    "helper removed": ({"mine.py": PLAIN, "updates.py": HELPER}, None, lambda folder: (folder / "updates.py").unlink()),
    "helper of a helper": (
        {"mine.py": PLAIN, "updates.py": "from deeper import lr\n", "deeper.py": HELPER}, None,
        rewrite("deeper.py", EDITED),
    ),
    "base class": (
        {"mine.py": "from parent import Parent\nclass Mine(Parent): pass\nstep = Mine().lr\n",
         "parent.py": "class Parent:\n    def lr(self): return 0.1\n"}, None,
        rewrite("parent.py", "class Parent:\n    def lr(self): return 0.3\n"),
    ),
    "settings in JSON": (
        {"mine.py": READING, "settings.json": '{"lr": 0.1}'}, None, rewrite("settings.json", '{"lr": 0.3}')
    ),
    "settings in TOML": (
        {"mine.py": "import tomllib\nwith open('s.toml', 'rb') as file:\n    LR = tomllib.load(file)\n"
                    "def step(): return LR\n", "s.toml": "lr = 0.1"}, None,
        rewrite("s.toml", "lr = 0.3"),
    ),
    "settings that come later": ({"mine.py": OPTIONAL}, None, rewrite("settings.txt", "0.3")),
    "array": ({"mine.py": "import numpy as np\ndef step(): return np.load('data.npy').tolist()\n"}, as_array(1.0, 2.0),
              as_array(1.0, 3.0)),
    "mapped array": (
        {"mine.py": "import numpy as np\ndef step(): return np.load('data.npy', mmap_mode='r').tolist()\n"},
        as_array(1.0, 2.0), as_array(1.0, 3.0),
    ),
    "table": ({"mine.py": "import numpy as np\ndef step(): return np.loadtxt('t.csv').tolist()\n", "t.csv": "1\n2\n"},
              None, rewrite("t.csv", "1\n3\n")),
    "module imported in a step": (
        {"mine.py": "def step():\n    import late\n    return late.lr()\n", "late.py": HELPER}, None,
        rewrite("late.py", EDITED),
    ),
    "a package's __init__": (
        {"mine.py": "from kit.updates import lr as step\n", "kit/__init__.py": "x = 1\n", "kit/updates.py": HELPER},
        None, rewrite("kit/__init__.py", "x = 2\n"),
    ),
    "relative import": (
        {"mine.py": "from kit import step\n", "kit/__init__.py": "from .updates import lr as step\n",
         "kit/updates.py": HELPER}, None, rewrite("kit/updates.py", EDITED),
    ),
    "namespace package": (
        {"mine.py": "from space.updates import lr as step\n", "space/updates.py": HELPER}, None,
        rewrite("space/updates.py", EDITED),
    ),
    "editable package": (
        {"mine.py": "import site\nsite.addsitedir('site')\nfrom kit import lr as step\n",
         "site/kit.pth": "../elsewhere\n", "elsewhere/kit/__init__.py": HELPER}, None,
        rewrite("elsewhere/kit/__init__.py", EDITED),
    ),
    "zipped module": (
        {"mine.py": "import sys\nsys.path.insert(0, 'code.zip')\nfrom updates import lr as step\n"}, zipped(HELPER),
        zipped(EDITED),
    ),
    "target of a link": ({"mine.py": PLAIN, "there.txt": HELPER}, linked, rewrite("there.txt", EDITED)),
    "link to another file": ({"mine.py": PLAIN, "there.txt": HELPER, "other.txt": EDITED}, linked, retargeted),
    "script that is executed": (
        {"mine.py": "import runpy\nstep = runpy.run_path('script.py')['lr']\n", "script.py": HELPER}, None,
        rewrite("script.py", EDITED),
    ),
    "text that is executed": (
        {"mine.py": "exec(open('script.txt').read())\nstep = lr\n", "script.txt": HELPER}, None,
        rewrite("script.txt", EDITED),
    ),
    "read in a thread": ({"mine.py": THREAD, "data.txt": "1"}, None, rewrite("data.txt", "2")),
    "read in a child": ({"mine.py": CHILD, "data.txt": "1"}, None, rewrite("data.txt", "2")),
    "database": ({"mine.py": DATABASE, "data.db": ""}, None, rewrite("data.db", "2")),
}  # fmt: skip


@pytest.mark.parametrize("young", [True, False], ids=["new files", "old files"])
@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_of_what_was_read_shows(kind, young, tmp_path, monkeypatch):
    if not young:
        monkeypatch.setattr(stamps, "YOUNG", -1e9)  # times are trusted: files are hashed late, and digests kept
    files, besides, edit = EDITS[kind]
    write(tmp_path, files)
    if besides:
        besides(tmp_path)
    manifest, _ = ran(tmp_path)
    mine = {path for path in manifest if path.startswith(str(tmp_path))}
    assert str(tmp_path / "mine.py") in mine
    assert MIXED not in manifest.values()
    assert changed(manifest) == []
    unrelated = tmp_path / "unrelated.py"
    unrelated.write_text("x = 1")
    for path in mine:
        if os.path.exists(path):
            os.utime(path)
    assert changed(manifest) == []
    edit(tmp_path)
    found = changed(manifest)
    assert found
    assert set(found) <= mine


def test_a_helper_that_was_edited_is_compiled_anew(tmp_path):
    """Python trusts compiled bytes of a source of the same length and second; here they are not asked."""
    write(tmp_path, {"mine.py": PLAIN, "updates.py": HELPER})
    writing = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", "import updates"], cwd=tmp_path, env=writing, check=True)
    assert list((tmp_path / "__pycache__").glob("updates*"))
    keeping_times("updates.py", EDITED)(tmp_path)
    manifest, answer = ran(tmp_path)
    assert answer == 0.3
    assert changed(manifest) == []


@pytest.mark.parametrize("young", [True, False])
def test_what_changes_during_a_run_is_seen(tmp_path, young, monkeypatch):
    if not young:
        monkeypatch.setattr(stamps, "YOUNG", -1e9)
    overwrite = "import subprocess\nsubprocess.run(['sh', '-c', 'echo 2 > {0}'])\n"
    write(tmp_path, {"data.txt": "1", "updates.py": HELPER, "mine.py": textwrap.dedent(f"""
        from updates import lr
        def step():
            kept = open("data.txt").read()
            {overwrite.format("data.txt").replace(chr(10), "; ")}
            {overwrite.format("updates.py").replace(chr(10), "; ")}
            try:
                lr(1)
            except TypeError as error:
                import traceback
                traceback.format_exc()  # looks at the source as it is now
            return kept
    """)})  # fmt: skip
    manifest, _ = ran(tmp_path)
    assert manifest[str(tmp_path / "updates.py")] == stamps.digest_of(HELPER.encode())  # as it was loaded
    assert set(changed(manifest)) == {str(tmp_path / "updates.py"), str(tmp_path / "data.txt")}


def test_data_read_twice_with_other_content_are_never_what_they_were(tmp_path):
    write(tmp_path, {"data.txt": "1", "mine.py": textwrap.dedent("""
        import subprocess
        def step():
            first = open("data.txt").read()
            subprocess.run(["sh", "-c", "echo 2 > data.txt"])
            return first + open("data.txt").read()
    """)})  # fmt: skip
    manifest, _ = ran(tmp_path)
    assert manifest[str(tmp_path / "data.txt")] == MIXED
    assert changed(manifest) == [str(tmp_path / "data.txt")]


def test_a_runs_own_products_are_not_held_against_it(tmp_path):
    write(tmp_path, {"mine.py": textwrap.dedent("""
        import os, pathlib, tempfile
        def step():
            pathlib.Path("scratch.txt").write_text("1")
            pathlib.Path("moved.tmp").write_text("1")
            try:
                open("cached.txt").read()
            except FileNotFoundError:
                os.replace("moved.tmp", "cached.txt")
            os.mkdir("made")
            os.system("echo 1 > made/by_another")
            with tempfile.NamedTemporaryFile("w+") as file:
                file.write("1"), file.seek(0), file.read()
            return [open(name).read() for name in ("scratch.txt", "cached.txt", "made/by_another")]
    """)})  # fmt: skip
    manifest, _ = ran(tmp_path)
    assert [path for path in manifest if path.startswith(str(tmp_path))] == [str(tmp_path / "mine.py")]
    shutil.rmtree(tmp_path / "made")
    assert changed(manifest) == []


def test_settings_that_are_not_there_are_noted(tmp_path):
    write(tmp_path, {"mine.py": OPTIONAL})
    manifest, answer = ran(tmp_path)
    assert answer == "0.1"
    assert manifest[str(tmp_path / "settings.txt")] == ABSENT


def test_of_ours_the_rooms_that_run_and_the_runs_own_files():
    SOLVERS.load()
    PROBLEMS.load()
    own = SOLVERS.entries["bome"].file, PROBLEMS.entries["hyper_cleaning"].file
    manifest = in_a_child(lambda: Manifest().files(*own))
    inside = {path for path in manifest if Path(path).is_relative_to(HOME.parent)}
    names = {str(Path(path).relative_to(HOME.parent)) for path in inside}
    assert {"harness/core/draw.py", "harness/measure/manifest.py", "solvers/bome.py"} <= names
    assert {"problems/hyper_cleaning.py", "problems/_cleaning.py"} <= names
    assert not names & {"solvers/aid_cg.py", "problems/coreset.py", "harness/store/schema.py", "uv.lock"}
    assert not any(part in path for path in manifest for part in ("site-packages", "/lib/python3", "/proc/"))


def test_an_installed_package_that_the_solver_belongs_to_counts(tmp_path, monkeypatch):
    from bilevelbench.measure import provenance

    write(tmp_path, {"site/kit/__init__.py": "", "site/kit/mine.py": "from .updates import lr\n"})
    write(tmp_path, {"site/kit/updates.py": HELPER, "site/other.py": "", "mine.py": textwrap.dedent("""
        import sys
        sys.path.insert(0, "site")
        import other, kit.mine
        step = kit.mine.lr
    """)})  # fmt: skip
    known = provenance.roots()
    monkeypatch.setattr(provenance, "roots", lambda: (*known, str(tmp_path / "site") + os.sep))
    own = tmp_path / "site" / "kit" / "mine.py"
    inside = {Path(path).name for path in ran(tmp_path, own)[0] if path.startswith(str(tmp_path / "site"))}
    assert inside == {"__init__.py", "mine.py", "updates.py"}
    assert not any(path.startswith(str(tmp_path / "site")) for path in ran(tmp_path)[0])


def test_a_second_manifest_goes_on_from_the_first(tmp_path):
    """As in a fork server: what it imported is digested as it was then, and what one child reads is no other's."""
    write(tmp_path, {"updates.py": HELPER, "one.txt": "1", "two.txt": "2"})

    def server():
        sys.path.insert(0, str(tmp_path))
        Manifest()
        import updates  # noqa: F401

        (tmp_path / "updates.py").write_text(EDITED)

        def child(name):
            manifest = Manifest()
            (tmp_path / name).read_text()
            return manifest.files()

        return in_a_child(lambda: child("one.txt")), in_a_child(lambda: child("two.txt"))

    one, two = in_a_child(server)
    for manifest, mine, other in ((one, "one.txt", "two.txt"), (two, "two.txt", "one.txt")):
        assert manifest[str(tmp_path / "updates.py")] == stamps.digest_of(HELPER.encode())
        assert str(tmp_path / mine) in manifest
        assert str(tmp_path / other) not in manifest


def test_where_python_lies_is_asked_before_imports_are_heard_of(tmp_path):
    """Python 3.14's ``sysconfig`` imports a module to answer, and with it half-made nobody could ask it again."""
    code = """
import importlib, sys, sysconfig

answer = sysconfig.get_path

def get_path(name):
    if "needed" not in sys.modules:
        importlib.import_module("needed")
        return answer(name)
    if not hasattr(sys.modules["needed"], "done"):
        raise AttributeError("installed_base")
    return answer(name)

sysconfig.get_path = get_path
from bilevelbench.measure import manifest, provenance
assert "needed" not in sys.modules
manifest.Manifest()
print(provenance.roots.cache_info().currsize)
"""
    (tmp_path / "needed.py").write_text("done = True\n")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr


def test_a_full_disk_loses_no_note(tmp_path, monkeypatch):
    """Nor does it end a process before its run can say why."""
    if not hasattr(os, "memfd_create"):
        pytest.skip("files are on disk here")
    write(tmp_path, {"one.txt": "1"})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))

    def child():
        manifest = Manifest()
        (tmp_path / "one.txt").read_text()
        return manifest.files()

    assert str(tmp_path / "one.txt") in in_a_child(child)


def test_a_manifest_of_another_machine_is_held_to_what_is_here(tmp_path):
    (tmp_path / "here.py").write_text("1")
    manifest = {str(tmp_path / "here.py"): "0" * 16, str(tmp_path / "there.py"): "0" * 16}
    assert changed(manifest) == list(manifest)
    assert changed(manifest, elsewhere=True) == [str(tmp_path / "here.py")]


def test_a_helper_of_a_loose_solver_end_to_end(tmp_path):
    """A fresh process, the registry, a step: the edit in the imported helper shows."""
    write(tmp_path, {"updates.py": "def inner(o, x, y, lr):\n    return o.project_y(y - lr * o.dg_y(x, y))\n",
        "mine.py": textwrap.dedent("""
            import sys, pathlib
            sys.path.insert(0, str(pathlib.Path(__file__).parent))
            from updates import inner
            from bilevelbench import Point, solver

            @solver("mine")
            class Mine:
                lr: float = 1e-2
                def step(self, o, s):
                    return Point(s.x - self.lr * o.df_x(*s), inner(o, *s, self.lr))
        """),
        "worker.py": textwrap.dedent("""
            import json, sys
            from bilevelbench.measure.manifest import Manifest
            manifest = Manifest()
            from pathlib import Path
            from bilevelbench import Draw, Oracle, build_problem, make_solver
            problem, solver = build_problem("quadratic", Draw(0)), make_solver("mine.py")
            oracle = Oracle(problem)
            solver.step(oracle, solver.init(oracle, problem.x0, problem.y0))
            quadratic = Path(sys.modules["bilevelbench.problems.quadratic"].__file__)
            print(json.dumps(manifest.files(Path("mine.py"), quadratic)))
        """)})  # fmt: skip
    done = subprocess.run([sys.executable, "worker.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    manifest = json.loads(done.stdout)
    names = {Path(path).name for path in manifest}
    assert {"mine.py", "updates.py", "quadratic.py", "oracle.py"} <= names
    assert "bome.py" not in names
    assert changed(manifest) == []
    updates = tmp_path / "updates.py"
    updates.write_text(updates.read_text().replace("y - lr", "y - 3*lr"))
    assert changed(manifest) == [str(updates)]


def test_the_repository_of_a_file(tmp_path):
    nothing = {"commit": "", "dirty": None}
    file = tmp_path / "mine.py"
    file.write_text("1")
    assert repository(file) == nothing
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]

    def states(*words):
        subprocess.run([*git, *words], check=True, capture_output=True)
        repository.cache_clear()
        return repository(file)

    assert states("init") == nothing
    states("add", "mine.py")
    kept = states("commit", "-m", "1")
    assert len(kept["commit"]) == 40
    assert kept["dirty"] is False
    file.write_text("2")
    assert states("status") == {**kept, "dirty": True}
    states("checkout", "mine.py")
    new = tmp_path / "new.py"
    new.write_text("1")
    assert repository(new)["dirty"] is True  # not yet added
    (tmp_path / ".gitignore").write_text("new.py\n")
    repository.cache_clear()
    assert repository(new) == nothing  # an installed file inside of somebody's repository is not kept there


def test_an_environment_on_top_of_another_is_installed_too(tmp_path):
    """As `uv run --with` or `pip install --target` make it; a folder with anything of one's own is not."""
    for name in ("top", "mixed", "own"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "library.py").write_text("from collections import namedtuple\n")
    for name in ("top", "mixed"):
        info = tmp_path / name / "library-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: library\nVersion: 1.0\n")
        (info / "RECORD").write_text("library.py,,\nlibrary-1.0.dist-info/METADATA,,\nlibrary-1.0.dist-info/RECORD,,\n")
    (tmp_path / "mixed" / "helper.py").touch()  # nobody's: an edit of it must be seen
    code = (
        "import sys\n"
        "from bilevelbench.measure import hook, provenance\n"
        "for path in sys.argv[1:]:\n"
        "    print(provenance.is_foreign(path + '/library.py'), path + '/' in hook.INSTALLED)\n"
    )
    paths = [str(tmp_path / name) for name in ("top", "mixed", "own")]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True", "True", "False", "True", "False"], done.stderr
