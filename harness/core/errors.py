"""The two ways in which a run can be refused, and a warning. All carry one sentence meant for a person."""

from __future__ import annotations

import re

LONGEST = 120  # letters of a word that are shown of what somebody has written


class RequestError(Exception):
    """The request was wrong: an unknown name, an impossible value. The command line prints it and exits with 2.

    It is one line, whatever stood in the request: words without end are cut, and what cannot be printed is spelled out.
    """

    def __init__(self, sentence: str) -> None:
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
        super().__init__(re.sub(rf"\S{{{LONGEST},}}", lambda word: word[0][: LONGEST // 2] + "…", line))


class PluginWarning(UserWarning):
    """A package that registers by entry points could not be loaded; everything else works."""


class Unsupported(Exception):
    """This run cannot be made here (data that cannot be had, a problem that lacks what a solver needs).

    It becomes a row with the status ``unsupported`` and the sentence as its reason; other runs go on. ``fault`` says
    who has to mend it ("problem"), and is empty where nobody has: solver and problem do not fit.
    """

    def __init__(self, reason: str, fault: str = "") -> None:
        super().__init__(reason)
        self.fault = fault

    def __reduce__(self) -> tuple[type[Unsupported], tuple[str, str]]:
        return type(self), (str(self), self.fault)
