"""A slogan that the member chooses; its number goes into the ticket, and from there into the tally. Pure."""

from collections.abc import Mapping
from typing import ClassVar

from engine.drops.gates import Slogan
from engine.drops.model import Drop
from engine.errors import Invalid, Refused
from engine.gates.model import Case, Given, Passed


class SloganRequired(Refused):
    """The request chooses no slogan; the facts are the choices."""

    code: ClassVar[str] = "slogan-required"


class UnknownSlogan(Invalid):
    code: ClassVar[str] = "unknown-slogan"


class SloganGate:
    """The gate of drops with `slogan: {choices: …}`."""

    name: ClassVar[str] = "slogan"

    def stands(self, drop: Drop) -> bool:
        return drop.spec.gates.slogan is not None

    def asks(self, case: Case) -> Mapping[str, object]:
        return {"gate": self.name, **_slogan(case.drop).model_dump()}

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        if given.slogan is None:
            raise SloganRequired("slogan: choose one, and send its id", **self.asks(case))
        number = _slogan(case.drop).number(given.slogan)
        if number is None:
            known = ", ".join(choice.id for choice in _slogan(case.drop).choices)
            raise UnknownSlogan(f"slogan: there is no {given.slogan[:64]!r}; choose of {known}", field="slogan")
        return passed._replace(slogan=number)


def _slogan(drop: Drop) -> Slogan:
    assert drop.spec.gates.slogan is not None
    return drop.spec.gates.slogan
