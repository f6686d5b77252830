"""Versions of code by what people call them: a git revision, a folder, a wheel, an environment, a file of a solver."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

from bilevelbench.core.errors import RequestError


class Version(NamedTuple):
    """How the code of a version is run: the interpreter, folders that come before its packages, the working folder.

    home: the folder that bilevelbench must come from, where the version is one of bilevelbench itself. solver: the file
    that is the version, where it is one. commit: the full name, '' where it is no revision.
    """

    label: str
    python: str
    paths: tuple[str, ...]
    folder: Path
    home: Path | None = None
    solver: str = ""
    commit: str = ""


def version(text: str, scratch: Path, same: bool = False) -> Version:
    """The version that a text names, laid out below ``scratch`` where it has to be; else a ``RequestError``.

    A revision whose uv.lock is not this checkout's gets an environment of its own, unless ``same``.
    """
    path = Path(text).expanduser()
    if path.suffix == ".whl":
        return _wheel(text, path, scratch)
    if path.suffix == ".py":
        if not path.is_file():
            raise RequestError(f"there is no file {text}")
        return Version(text, sys.executable, (), Path.cwd(), solver=str(path.resolve()))
    if path.is_dir():
        return _environment(text, path) if (path / "pyvenv.cfg").is_file() else folder(text, path.resolve())
    if path.is_file() and os.access(path, os.X_OK):
        return Version(
            text, str(path.absolute()), (), Path.cwd()
        )  # a link to an interpreter says where its packages are
    return _revision(text, scratch, same)


def _environment(text: str, path: Path) -> Version:
    for place in ("bin/python", "Scripts/python.exe"):
        if (path / place).exists():
            return Version(text, str((path / place).absolute()), (), Path.cwd())
    raise RequestError(f"the environment {text} has no interpreter")


def _wheel(text: str, path: Path, scratch: Path) -> Version:
    if not path.is_file():
        raise RequestError(f"there is no wheel {text}")
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(scratch)
    except zipfile.BadZipFile:
        raise RequestError(f"{text} is no wheel: it cannot be unpacked") from None
    home = scratch if (scratch / "bilevelbench").is_dir() else None
    return Version(path.name, sys.executable, (str(scratch),), Path.cwd(), home)


def folder(text: str, path: Path, python: str = sys.executable, commit: str = "", inside: str = "") -> Version:
    """A checkout: what is in it comes before what is installed. bilevelbench's own maps its folders by links."""
    places = [place for place in (path / ".typings", path / "src", path) if place.is_dir()]
    home = path if (path / "bilevelbench").is_dir() else None
    project = path / "pyproject.toml"
    if project.is_file():
        try:
            named = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            raise RequestError(f"{text}: its pyproject.toml cannot be read") from None
        home = path if named == "bilevelbench" else home
    return Version(text, python, tuple(map(str, places)), path / inside, home, commit=commit)


def git(*words: str, folder: Path | None = None) -> bytes:
    """What git answers; a ``RequestError`` where there is no git. ``CalledProcessError`` where it refuses."""
    try:
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise RequestError("there is no git here, and revisions need it; name two folders, wheels or files") from None


def commit_of(text: str) -> str:
    """The full name of a revision of the repository around the working folder, or a ``RequestError``."""
    try:
        git("rev-parse", "--show-toplevel")
    except subprocess.CalledProcessError:
        raise RequestError(
            f"there is no file or folder {text!r}, and no git repository around {Path.cwd()} that could have a "
            "revision of that name"
        ) from None
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}").decode().strip()
    except subprocess.CalledProcessError:
        raise RequestError(
            f"there is no revision, file or folder {text!r}; `git log --oneline` lists revisions"
        ) from None


def between(base: str, head: str) -> list[str]:
    """The commits after ``base`` up to ``head`` along first parents, oldest first; ``RequestError`` where none are."""
    first, last = commit_of(base), commit_of(head)
    found = git("rev-list", "--first-parent", "--reverse", "--end-of-options", f"{first}..{last}").decode().split()
    if not found:
        raise RequestError(f"there are no commits after {base} up to {head}: is {base} the older one?")
    return found


def _revision(text: str, scratch: Path, same: bool) -> Version:
    commit = commit_of(text)
    top = Path(git("rev-parse", "--show-toplevel").decode().strip())
    inside = git("rev-parse", "--show-prefix").decode().strip()
    changed = git("status", "--porcelain", "--untracked-files=no", folder=top).decode().splitlines()
    if changed and commit == commit_of("HEAD"):
        raise RequestError(
            f"{text} is the commit that is checked out, and {len(changed)} of its files have changes that are not "
            "committed; commit them, or name the folder, '.', to have them measured"
        )
    # an archive leaves no trace in the repository, as a worktree does when the command is killed
    with tarfile.open(fileobj=io.BytesIO(git("archive", "--format=tar", commit, folder=top))) as archive:
        archive.extractall(scratch, filter="data")
    (scratch / inside).mkdir(parents=True, exist_ok=True)
    python = sys.executable if same or _same_lock(scratch, top) else _own_environment(text, scratch)
    return folder(text, scratch, python, commit, inside)


def _same_lock(one: Path, other: Path) -> bool:
    files = [place / "uv.lock" for place in (one, other)]
    return not files[0].is_file() or (files[1].is_file() and files[0].read_bytes() == files[1].read_bytes())


def _own_environment(text: str, scratch: Path) -> str:
    """The interpreter of an environment with what the lock file of a version names."""
    known = shutil.which("uv", path=f".tools/bin{os.pathsep}{os.environ.get('PATH', '')}")
    if not known:
        raise RequestError(
            f"{text} has another uv.lock than this checkout, and there is no uv to install what it names; "
            "--same-environment measures both with the packages that are here"
        )
    place = scratch / ".venv"
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        [known, "sync", "--quiet", "--frozen", "--no-dev", "--no-install-project", "--python", sys.executable,
         "--project", str(scratch)],
        env=env | {"UV_PROJECT_ENVIRONMENT": str(place)}, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RequestError(f"{text}: its environment cannot be made: {done.stderr.strip().rpartition(chr(10))[2]}")
    return _environment(text, place).python
