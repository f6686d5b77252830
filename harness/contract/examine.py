"""Anybody's hypergradient against known answers: the file runs in an environment of its own, as it asks for one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from bilevelbench.core.errors import RequestError

PROBE = Path(__file__).with_name("probe.py")
HEADER = re.compile(r"^# /// script\n(?P<body>(?:#(?: .*)?\n)+?)# ///$", re.MULTILINE)
SECONDS = 600.0  # after which a library that does not come to an end is given up


class Seen(NamedTuple):
    """One observation: what was looked at, what was found, in words, and whether that is as it should be."""

    what: str
    text: str
    fine: bool


def examine(file: str | Path) -> list[Seen]:
    """What the ``hypergradient(f, g, x, y)`` of a file answers on quadratics with known answers.

    f and g are functions of two flat tensors, x and y leaves that require gradients; the answer has the shape of x. The
    file may ask for packages in a PEP 723 header; it then runs by uv in an environment that has them. Raises
    RequestError where the file cannot be run, or a package not be installed.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise RequestError(f"there is no file {file}")
    text = path.read_text("utf-8")
    if not re.search(
        r"^(def hypergradient\(|hypergradient\s*=|from .* import .*\bhypergradient\b)", text, re.MULTILINE
    ):
        raise RequestError(f"{file} has no function hypergradient(f, g, x, y)")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seen.json"
        command = [*_interpreter(text, file), str(PROBE), str(path), str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS, cwd=folder)
        except subprocess.TimeoutExpired:
            raise RequestError(f"{file} does not come to an end within {SECONDS:g} s") from None
        if not out.is_file():
            lines = done.stderr.strip().splitlines() or ["it says nothing"]
            told = next((line for line in lines if line.lstrip().startswith(("×", "error:"))), lines[-1])
            raise RequestError(f"{file} cannot be run: {told.strip(' ×')}")
        return [Seen(one["what"], one["text"], one["fine"]) for one in json.loads(out.read_text("utf-8"))]


def _interpreter(text: str, file: str | Path) -> list[str]:
    """This interpreter, or uv with what the file's header asks for."""
    header = HEADER.search(text)
    if header is None:
        return [sys.executable]
    try:
        asked = tomllib.loads("".join(line[2:] for line in header["body"].splitlines(keepends=True)))
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"the header of {file} is not valid TOML: {error}") from None
    uv = shutil.which("uv")
    if uv is None:
        raise RequestError(f"{file} asks for packages in its header; that needs uv, which is not installed")
    python = ["--python", asked["requires-python"]] if "requires-python" in asked else []
    packages = [part for name in asked.get("dependencies", []) for part in ("--with", name)]
    return [uv, "run", "--quiet", "--no-project", *python, *packages, "python"]
