"""What a line of a run's file must look like. Lines are dictionaries; msgspec holds their types and bounds to these."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict, get_type_hints

import msgspec
from msgspec import Meta

from .schema import FAULTS, FINAL, RUNNING, Count, End, Row, RunKey

DEEPEST = 12  # levels of lists and dictionaries in each other
ROW_NEEDS = ("step", "status", "metrics", "calls", "total_calls")
KEY_NEEDS = ("problem", "solver", "seed", "device", "dtype", "threads")

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]


Axis = tuple[Literal["x", "y"], Count]


class Bar(TypedDict):
    """The lines to be beaten."""

    figure: str
    lines: list[str]


class Picture(TypedDict):
    """Level sets and what is drawn on them."""

    axes: tuple[Axis, Axis]
    labels: tuple[str, str]
    box: tuple[Number, Number, Number, Number]
    label: str
    u: list[Number]
    v: list[Number]
    level: list[list[Number | None]]
    outline: list[tuple[Number, Number]]
    solution: tuple[Number, Number] | None


class Digest(TypedDict, total=False):
    """What a run saw."""

    drawn: str
    computed: str
    numbers: list[Number | None]


class Problem(TypedDict, total=False):
    """A header's ``problem``."""

    name: str
    given: str
    about: str
    n_x: Count | None
    n_y: Count | None
    n_f: Count | None
    n_g: Count | None
    flags: list[str]
    phi_star: Number | None
    phi_star_source: str | None
    selection: str | None
    judged: str
    seeded: bool
    references: dict[str, dict[str, Number | None]] | None
    better: dict[str, Literal["lower", "higher"]] | None
    bar: Bar | None
    picture: Picture | None
    guards: dict[str, str]
    digest: Digest | None


class Solver(TypedDict, total=False):
    """A header's ``solver``."""

    name: str
    given: str
    knobs: dict[str, Any] | None
    choices: dict[str, Any] | None
    order: Literal[0, 1, 2] | None
    by_hand: Number | None
    tuned: bool | Literal["edge"]


class Environment(TypedDict, total=False):
    """A header's ``environment``: what a reader computes with."""

    cpu: str | None
    gpu: str | None
    system: str | None
    cores: Count | None
    load: list[Number]
    place: str
    clock: dict[str, Number | bool | None] | None


_typed_dict: Any = TypedDict  # of fields that are known when the program runs


def _shape(name: str, record: type, needs: tuple[str, ...], kind: str, **closer: Any) -> Any:
    """The dictionary that a line of a record is: its fields, those of ``needs`` required, some of a closer type."""
    known = _fields(record, closer)
    known = {field: (Required if field in needs else NotRequired)[hint] for field, hint in known.items()}
    return _typed_dict(name, {**({"kind": Required[Literal[kind]]} if kind else {}), **known})


def _fields(record: type, closer: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(record, include_extras=True) | closer
    return {f.name: hints[f.name] for f in fields(record)} | closer


KeyShape = _shape("KeyShape", RunKey, KEY_NEEDS, "", seed=Annotated[int, Meta(ge=0, le=2**53)])
_CLOSER = {
    "status": Literal[(RUNNING, *FINAL)], "fault": Literal[("", *FAULTS)], "memory": dict[str, Number] | None,
    "after": dict[str, Any] | None,  # schema 1 has it here
}  # fmt: skip
ROW_FIELDS = {"kind": Literal["row"], **_fields(Row, _CLOSER)}
RowShape = _shape("RowShape", Row, ROW_NEEDS, "row", **_CLOSER)
EndShape = _shape("EndShape", End, (), "end")
HeaderShape = _typed_dict(
    "HeaderShape",
    {
        "kind": Required[Literal["header"]], "schema": Required[int], "digest": Required[str],
        "key": Required[KeyShape], "problem": Required[Problem], "solver": Required[Solver],
        "environment": NotRequired[Environment], "suite": NotRequired[str], "command": NotRequired[str],
        "created": NotRequired[str], "timeout": NotRequired[Number | None],
        "prices": NotRequired[dict[str, tuple[Number, Number]]],
    },
)  # fmt: skip

ROW: msgspec.json.Decoder[Any] = msgspec.json.Decoder(RowShape)


def shaped(value: Any, shape: Any) -> str:
    """'' where a decoded line has the shape, otherwise what is wrong with it."""
    if _deeper(value, DEEPEST):
        return f"it is nested deeper than {DEEPEST} levels"
    try:
        msgspec.convert(value, shape)
    except (msgspec.ValidationError, RecursionError) as error:
        return str(error)
    return ""


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
