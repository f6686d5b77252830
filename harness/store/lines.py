"""A line of a file as the dictionary that it is, whatever a stranger has written there."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def parse(line: bytes) -> dict[str, Any] | None:
    """A line as a dictionary; None for any other."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            value = _spelled(json.loads(line, parse_constant=_refuse))  # it takes more: half a pair in a file's name
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _spelled(value: Any) -> Any:
    """Halves of surrogate pairs as their numbers: nothing takes them, and nothing can print them."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_spelled(name): _spelled(inner) for name, inner in value.items()}
    return [_spelled(inner) for inner in value] if isinstance(value, list) else value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
