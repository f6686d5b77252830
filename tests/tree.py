"""What the source consists of, in a checkout and in an unpacked sdist, and where tools find the package in it."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAPPED = {"harness": "", "solvers": "solvers", "problems": "problems"}  # folder -> sub-package
TOP = {
    "solvers", "problems", "harness", "reports", "tests", "docs", "findings", "asv.conf.json", "pyproject.toml",
    "uv.lock", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in",
}  # fmt: skip
HIDDEN = {".ci", ".github", ".gitignore", ".pre-commit-config.yaml"}
HAS_GIT = (ROOT / ".git").exists()


def tracked():
    """The files in git that are there; in an unpacked sdist those that it consists of."""
    if HAS_GIT:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]
    places = [place for name in sorted(TOP | HIDDEN) for place in (ROOT / name, *(ROOT / name).rglob("*"))]
    names = [place.relative_to(ROOT).as_posix() for place in places if place.is_file()]
    return [name for name in names if "__pycache__" not in name and not name.startswith("reports/asv")]


def mapped(folder, root=ROOT):
    """Where tools that cannot follow package-dir find the package: .typings, or a copy where there are no symbolic
    links, as on Windows and in an sdist."""
    links = root / ".typings"
    if (links / "bilevelbench" / "core").is_dir():
        return links
    for source, name in MAPPED.items():
        target = folder / "bilevelbench" / name
        shutil.copytree(root / source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return folder
