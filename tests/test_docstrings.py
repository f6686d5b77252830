"""Every public name says what it is, what each of its arguments is, which shapes tensors have, and what it raises."""

import dataclasses
import functools
import inspect
import re

import pytest
import torch

import bilevelbench as bb

NOTHING = {"box"}  # functions that refuse nothing
PUBLIC = [name for name in bb.__all__ if name != "__version__"]


def own(cls):
    """The public methods and properties of a class, those of bases of ours included."""
    for name, member in inspect.getmembers(cls):
        kinds = (property, functools.cached_property)
        if not name.startswith("_") and (isinstance(member, kinds) or inspect.isroutine(member)):
            thing = getattr(member, "fget", None) or getattr(member, "func", member)
            if getattr(inspect.unwrap(thing), "__module__", "").startswith(("bilevelbench.", __name__)):
                yield name, member, thing


def fields(cls):
    """What an object of a class is made of, by the user: the fields of a dataclass or of a NamedTuple."""
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls) if field.init]
    return list(getattr(cls, "_fields", ()))


def missing(name, thing):
    """A sentence for whatever a public name leaves unsaid."""
    said, found = inspect.getdoc(thing) or "", []
    if len(said) < 20:
        return [f"{name} has no docstring"]
    if inspect.isclass(thing):
        found += [f"{name} does not say what {field} is" for field in fields(thing) if not named(field, said)]
        for member, shown, function in own(thing):
            doc = inspect.getdoc(shown) or ""
            found += [f"{name}.{member} has no docstring"] * (not doc)
            found += unsaid(f"{name}.{member}", function, f"{doc}\n{said}")
        return found
    if name not in NOTHING and not re.search(r"Raises|Error|Unsupported", said):
        found.append(f"{name} does not say what it raises")
    return found + unsaid(name, thing, said)


def unsaid(name, function, said):
    """Arguments that a docstring does not name, and tensors without a shape."""
    signature = inspect.signature(function)
    arguments = [argument for argument in signature.parameters if argument not in ("self", "cls")]
    found = [f"{name} does not say what {argument} is" for argument in arguments if not named(argument, said)]
    hints = [str(parameter.annotation) for parameter in signature.parameters.values()]
    tensors = any("Tensor" in hint for hint in [*hints, str(signature.return_annotation)])
    if tensors and not re.search(r"shape|scalar|\(n(_x|_y)?,|\(m,", said):
        found.append(f"{name} does not say which shape its tensors have")
    return found


def named(word, said):
    return re.search(rf"\b{re.escape(word)}\b", said) is not None


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_everything(name):
    assert missing(name, getattr(bb, name)) == []


class Bare:
    """A class of which nothing is said."""

    def moved(self, point: torch.Tensor) -> torch.Tensor:
        return point


@dataclasses.dataclass
class Fielded:
    """A class with a field that it does not name."""

    knob: int = 0


def silent(one, other):
    """Something about one, and that is all."""


PLANTED = [
    (Bare, "Bare.moved has no docstring"), (Bare, "does not say what point is"), (Bare, "which shape"),
    (Fielded, "what knob is"), (silent, "what other is"), (silent, "raises"), (lambda: None, "has no docstring"),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "words"), PLANTED, ids=[words for _, words in PLANTED])
def test_what_is_left_unsaid_is_found(thing, words):
    assert any(words in sentence for sentence in missing(thing.__name__, thing))
