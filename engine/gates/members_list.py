"""A list that the member must be on. The list is the ledger's, so it is looked at when the pass is fetched.

Whoever is taken off the list can use their pass for its last minutes (`PASS_S`), and a ticket as long as it lasts.
"""

from collections.abc import Mapping
from typing import ClassVar

from engine.drops.model import Drop
from engine.errors import Refused
from engine.gates.model import Case, Given, Passed, check_pass


class ListPassRequired(Refused):
    """The request brings no pass of the list gate; the facts say where to fetch it."""

    code: ClassVar[str] = "list-pass-required"


class NotOnList(Refused):
    code: ClassVar[str] = "not-on-list"


class ListGate:
    """The gate of drops with `list: NAME`; members are not told the name, which may say why they are on it."""

    name: ClassVar[str] = "list"

    def stands(self, drop: Drop) -> bool:
        return drop.spec.gates.list_ is not None

    def asks(self, case: Case) -> Mapping[str, object]:
        return {"gate": self.name, "route": f"POST /v1/drops/{case.drop.id}/list"}

    def check(self, case: Case, given: Given, passed: Passed) -> Passed:
        asked = self.asks(case)
        if given.list is None:
            raise ListPassRequired(f"list: fetch your pass by {asked['route']}, and send it", **asked)
        check_pass(case, given.list, self.name, str(case.drop.spec.gates.list_))
        return passed
