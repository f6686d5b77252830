"""The two ways in which a run can be refused. Both carry one sentence meant for a person."""

from __future__ import annotations


class RequestError(Exception):
    """The request was wrong: an unknown name, an impossible value. The command line prints it and exits with 2."""


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
