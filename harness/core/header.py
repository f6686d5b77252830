"""What a file says of the packages that it needs (PEP 723), and the interpreter that has them."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

from .errors import RequestError

HEADER = re.compile(r"^# /// script\n(?P<body>(?:#(?: .*)?\n)+?)# ///$", re.MULTILINE)


def interpreter(text: str, file: str | Path) -> list[str]:
    """The command that runs Python with what the header of ``text``, that of ``file``, asks for: this one, or by uv.

    Raises RequestError where the header cannot be read, or uv is needed and not there.
    """
    header = HEADER.search(text)
    if header is None:
        return [sys.executable]
    try:
        asked = tomllib.loads("".join(line[2:] for line in header["body"].splitlines(keepends=True)))
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"the header of {file} is not valid TOML: {error}") from None
    version, names = asked.get("requires-python", ""), asked.get("dependencies", [])
    if not isinstance(version, str):
        raise RequestError(f'the header of {file}: requires-python is a text such as ">=3.11", not {version!r}')
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(f'the header of {file}: dependencies is a list of texts such as ["torch"], not {names!r}')
    uv = shutil.which("uv")
    if uv is None:
        raise RequestError(f"{file} asks for packages in its header; that needs uv, which is not installed")
    python = ["--python", version] if version else []
    packages = [part for name in names for part in ("--with", name)]
    return [uv, "run", "--quiet", "--no-project", *python, *packages, "python"]


def told(stderr: str) -> str:
    """Of what a process said at its end, the line that says why."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()] or ["it says nothing"]
    return next((line for line in lines if line.lstrip().startswith(("×", "error:"))), lines[-1]).strip(" ×")
